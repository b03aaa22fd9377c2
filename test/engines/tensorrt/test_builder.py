"""Plans: what is refused, progress, interruption and timings."""

from __future__ import annotations

import gc
import sys
import threading
from pathlib import Path

import onnx
import pytest
from fake_tensorrt import Gpu, install
from onnx import helper
from small_plans import BATCH, OLD, quiet, transposed_first

from vpr_ros.engines.backend import BuildOptions
from vpr_ros.engines.tensorrt import builder
from vpr_ros.engines.tensorrt.backend import TensorRtBackend
from vpr_ros.engines.tensorrt.library import logger
from vpr_ros.errors import EngineError
from vpr_ros.model import PlaceModel


def test_lost_outputs_are_an_error(newest: TensorRtBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = transposed_first(tmp_path / "turned.onnx")
    model = PlaceModel.open(tmp_path / "turned.onnx")
    monkeypatch.setattr(builder, "readable", lambda graph: (graph, 1))
    with pytest.raises(EngineError, match="lost 1 outputs of the model: uint8 tensors may only be cast"):
        newest.build(model, content, BATCH, quiet)


def test_an_unknown_operator_is_named(backend: TensorRtBackend, grid_model: PlaceModel) -> None:
    proto = onnx.load_from_string(grid_model.content)
    proto.graph.node.append(helper.make_node("Wave", ["descriptors"], ["foam"], "the_wave", domain="sea"))
    version = sys.modules["tensorrt"].__version__
    name = f"node {len(proto.graph.node) - 1}" if version == OLD else r"operator Wave \(the_wave\)"
    with pytest.raises(EngineError, match=f"{name}: No importer"):
        backend.build(grid_model, proto.SerializeToString(), BATCH, quiet)


def test_a_refused_build_quotes_the_last_error(newest: TensorRtBackend, gpu: Gpu, grid_model: PlaceModel) -> None:
    gpu.fails = "build"
    with pytest.raises(EngineError, match="no implementation for node /conv1"):
        newest.build(grid_model, grid_model.content, BATCH, quiet)
    gpu.fails = "raise"
    with pytest.raises(EngineError, match="factory function returned nullptr"):
        newest.build(grid_model, grid_model.content, BATCH, quiet)


def test_without_onnx_the_fix_is_named(
    newest: TensorRtBackend, grid_model: PlaceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(EngineError, match="pip install onnx"):
        newest.build(grid_model, grid_model.content, BATCH, quiet)


def test_flags_follow_version_and_precision(backend: TensorRtBackend, gpu: Gpu, grid_model: PlaceModel) -> None:
    typed = sys.modules["tensorrt"].__version__ != OLD
    for precision, flags in {"fp32": set(), "fp16": {"FP16"}, "int8": {"INT8"}}.items():
        backend.build(grid_model, grid_model.content, BuildOptions(precision=precision), quiet)
        assert gpu.flags == (set() if typed else flags)
    with pytest.raises(EngineError, match="no precision bf16"):
        backend.build(grid_model, grid_model.content, BuildOptions(precision="bf16"), quiet)


def test_progress_is_told_in_the_callers_thread(backend: TensorRtBackend, gpu: Gpu, grid_model: PlaceModel) -> None:
    gpu.steps, gpu.step_s = 6, 0.02
    told: list[tuple[str, float | None]] = []
    threads = set()

    def progress(text: str, share: float | None) -> None:
        told.append((text, share))
        threads.add(threading.current_thread())

    backend.build(grid_model, grid_model.content, BATCH, progress)
    assert threads == {threading.current_thread()}
    assert told[-1][1] == 1.0
    between = [(text, share) for text, share in told[:-1] if "actics" in text]
    assert between
    shares = [share for _, share in between]
    if sys.modules["tensorrt"].__version__ == OLD:
        assert set(shares) == {None}
    else:
        assert any("Building > Tactics" in text for text, _ in between)
        known = [share for share in shares if share is not None]
        assert known == sorted(known)
        assert 0 < known[-1] <= 0.5  # the first of two steps of the outer phase


@pytest.mark.parametrize("error", [KeyboardInterrupt, EngineError, RuntimeError])
def test_what_progress_raises_ends_the_build(
    newest: TensorRtBackend, gpu: Gpu, grid_model: PlaceModel, error: type[BaseException]
) -> None:
    gpu.steps, gpu.step_s = 400, 0.005

    def progress(text: str, share: float | None) -> None:
        if gpu.started.is_set():
            raise error("enough")

    with pytest.raises(error, match="enough"):
        newest.build(grid_model, grid_model.content, BATCH, progress)
    assert not gpu.finished.is_set()
    assert not any(thread.name == "tensorrt-build" for thread in threading.enumerate())


def test_an_8_6_build_goes_on_unseen(gpu: Gpu, grid_model: PlaceModel, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, OLD, gpu)
    gpu.steps, gpu.step_s = 10, 0.02

    def progress(text: str, share: float | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        TensorRtBackend().build(grid_model, grid_model.content, BATCH, progress)
    assert not gpu.finished.is_set()
    assert gpu.finished.wait(10)


def test_timings_are_kept_and_a_refused_file_is_replaced(
    backend: TensorRtBackend, grid_model: PlaceModel, tmp_path: Path
) -> None:
    backend.cache = tmp_path / "new" / "folder"
    backend.build(grid_model, grid_model.content, BATCH, quiet)
    (file,) = backend.cache.iterdir()
    version = sys.modules["tensorrt"].__version__
    assert version in file.name
    assert "sm_87" in file.name
    good = b"timings " + version.encode()
    for content in (b"garbage", b"timings 1.2.3", b"", good):
        file.write_bytes(content)
        backend.build(grid_model, grid_model.content, BATCH, quiet)
        assert file.read_bytes() == good
    assert list(backend.cache.iterdir()) == [file]


def test_a_folder_that_cannot_be_written_costs_no_build(
    newest: TensorRtBackend, grid_model: PlaceModel, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    newest.cache = tmp_path / "file"
    assert newest.build(grid_model, grid_model.content, BATCH, quiet)


def test_a_driver_that_is_too_old_for_tensorrt_is_an_error_and_no_crash(
    newest: TensorRtBackend, gpu: Gpu, grid_model: PlaceModel
) -> None:
    plan = newest.build(grid_model, grid_model.content, BATCH, quiet)
    gpu.fails = "driver"
    for call in (
        lambda: newest.load(grid_model, plan, BATCH),
        lambda: newest.build(grid_model, grid_model.content, BATCH, quiet),
    ):
        with pytest.raises(EngineError, match=r"update the NVIDIA driver: .*error: 35"):
            call()
    gc.collect()
    assert gpu.live == []  # what crashes when it is freed is not


def test_errors_of_another_thread_do_not_fail_a_start(newest: TensorRtBackend, grid_model: PlaceModel) -> None:
    trt = sys.modules["tensorrt"]
    log = logger(trt)
    log.clear()
    other = threading.Thread(target=log.log, args=(trt.ILogger.Severity.ERROR, "a tactic failed"))
    other.start()
    other.join()
    assert log.reason() == "a tactic failed"
    assert not log.failed()
    log.log(trt.ILogger.Severity.ERROR, "here")
    assert log.failed()
