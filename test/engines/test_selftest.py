from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from fake_tensorrt import NAMES, Gpu, install, is_for_rtx
from masked_models import save_masked_grid_model
from numpy.typing import NDArray
from small_worlds import texture

from vpr_ros.engines import tensorrt_engine
from vpr_ros.engines.backend import Backend, BuildOptions, Engine, Progress
from vpr_ros.engines.onnxruntime_engine import OnnxRuntimeEngine
from vpr_ros.engines.selftest import BATCH, FAIL, PASS, SKIP, SelfTest, selftest, text
from vpr_ros.engines.tensorrt_engine import TensorRtBackend
from vpr_ros.engines.tensorrt_rtx_engine import TensorRtRtxBackend
from vpr_ros.errors import EngineError
from vpr_ros.model import PlaceModel

CHECKS = (
    "build",
    "load",
    "agrees with the reference",
    "repeats itself",
    "batches agree",
    "mask",
    "another thread",
    "close twice",
    "load again",
    "interrupted build",
    "cut file is refused",
)


class Imitation:
    """A backend on ONNX Runtime with one fault, named by the check that has to find it."""

    name = "imitation"
    precisions: tuple[str, ...] = ("fp32",)
    needs_symmetric_int8 = False

    def __init__(self, fault: str = "") -> None:
        self.fault = fault

    def missing(self) -> str:
        return ""

    def identity(self) -> Mapping[str, str]:
        return {"library": "Imitation 1.0", "device": "none"}

    def build(self, model: PlaceModel, graph: bytes, options: BuildOptions, progress: Progress) -> bytes:
        if self.fault == "build":
            raise EngineError("it cannot\nbe built")
        try:
            progress("imitating", 0.5)
        except Exception:
            if self.fault != "interrupted build":
                raise
        return graph

    def load(self, model: PlaceModel, content: bytes, options: BuildOptions) -> Engine:
        if self.fault == "load":
            raise RuntimeError("a library's own error")
        whole = len(content) == len(model.content)
        if not whole and self.fault != "cut file is refused":
            raise EngineError("the file was cut")
        return ImitatedEngine(model, self.fault)


class ImitatedEngine:
    name = "imitation fp32"

    def __init__(self, model: PlaceModel, fault: str) -> None:
        import threading

        self.model, self.fault = model, fault
        self._engine = OnnxRuntimeEngine(model)
        self._thread = threading.current_thread()
        self._last: dict[int, NDArray[np.float32]] = {}
        self._closed = False

    def describe(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        import threading

        found = self._engine.describe(images)
        if self.fault == "agrees with the reference":
            found = np.full_like(found, np.nan)
        if self.fault == "batches agree" and len(images) > BATCH:
            found = np.roll(found, 1, axis=0)
        if self.fault == "another thread" and threading.current_thread() is not self._thread:
            raise RuntimeError("invalid device context")
        if self.fault == "repeats itself" and len(images) == 1:
            found = self._last.setdefault(1, found)  # as a recorded graph would that copies nothing in
        return found

    def describe_with_mask(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        descriptors, masks = self._engine.describe_with_mask(images)
        return descriptors, 1 - masks if self.fault == "mask" else masks

    def close(self) -> None:
        if self._closed and self.fault == "close twice":
            raise AttributeError("closed")
        self._closed = True


def shown(model: PlaceModel) -> NDArray[np.uint8]:
    return np.stack([texture(seed, model.width, model.height) for seed in range(3)])


def graph_of(model: PlaceModel, precision: str, images: NDArray[np.uint8], symmetric: bool) -> bytes:
    if precision == "int8":
        raise EngineError("int8 needs images")
    return model.content


def run(model: PlaceModel, *backends: Backend, progress: Progress = lambda text, share: None) -> SelfTest:
    reference = OnnxRuntimeEngine(model)
    return selftest(model, shown(model), list(backends), progress, reference=reference, graph_of=graph_of)


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> PlaceModel:
    return PlaceModel.open(save_masked_grid_model(tmp_path_factory.mktemp("masked") / "masked.onnx"))


def test_a_right_engine_passes_every_check(masked: PlaceModel) -> None:
    result = run(masked, Imitation())
    assert [(row.check, row.result) for row in result.rows] == [(check, PASS) for check in CHECKS]
    assert result.passed


@pytest.mark.parametrize("fault", [check for check in CHECKS if check not in ("load again", "interrupted build")])
def test_each_fault_is_found_by_its_check(masked: PlaceModel, fault: str) -> None:
    result = run(masked, Imitation(fault))
    assert not result.passed
    failed = [row.check for row in result.rows if row.result == FAIL]
    assert fault in failed
    if fault not in ("agrees with the reference", "repeats itself"):  # these break others too
        assert failed == [fault]
    if fault in ("build", "load"):
        assert result.rows[-1].check == fault  # nothing is tried without an engine


def test_what_builds_at_once_cannot_be_interrupted(masked: PlaceModel) -> None:
    result = run(masked, Imitation("interrupted build"))
    assert [(row.check, row.clause) for row in result.rows if row.result == SKIP] == [
        ("interrupted build", "it builds at once")
    ]
    assert result.passed


def test_the_mask_is_skipped_for_a_model_without_one(grid_model: PlaceModel) -> None:
    result = run(grid_model, Imitation())
    assert [row.check for row in result.rows if row.result == SKIP] == ["mask"]


def test_progress_says_where_it_is_and_may_end_it(grid_model: PlaceModel) -> None:
    told: list[str] = []

    def progress(said: str, share: float | None) -> None:
        told.append(said)
        if "another thread" in said:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(grid_model, Imitation(), progress=progress)
    assert told[-1] == "imitation fp32: another thread"


def test_tensorrt_without_a_gpu_is_one_row_that_names_the_fix(
    grid_model: PlaceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TensorRtBackend, "missing", lambda self: "pycuda is not installed: `pip install pycuda`")
    result = run(grid_model, TensorRtBackend())
    assert [(row.check, row.result) for row in result.rows] == [("available", SKIP)]
    assert result.passed
    assert "pip install pycuda" in text(result)


@pytest.mark.parametrize("version", NAMES)
def test_the_tensorrt_backend_passes_on_the_imitation(
    masked: PlaceModel, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    gpu = Gpu()
    install(monkeypatch, version, gpu)
    monkeypatch.setattr(tensorrt_engine, "PERIOD_S", 0.01)
    gpu.capability = (8, 9)
    backend = TensorRtRtxBackend() if is_for_rtx(version) else TensorRtBackend()
    result = run(masked, backend)
    failed = [(row.precision, row.check, row.clause) for row in result.rows if row.result == FAIL]
    assert failed == [("int8", "build", "int8 needs images")]
    assert sum(row.result == PASS for row in result.rows) == 2 * len(CHECKS)
    assert gpu.live == []
    said = text(result)
    assert f"{backend.title} {version}, Imitation sm_89, CUDA 12.6" in said
    assert "22 PASS, 1 FAIL, 0 SKIP" in said


def test_text_is_a_table(masked: PlaceModel) -> None:
    said = text(run(masked, Imitation("build"))).splitlines()
    assert any(line.startswith("Python ") for line in said)
    assert any(line.startswith("onnxruntime ") for line in said)
    assert "imitation fp32  build  FAIL    it cannot be built" in said
    assert said[-1] == "0 PASS, 1 FAIL, 0 SKIP"


def test_one_image_is_too_few(grid_model: PlaceModel, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="two images"):
        selftest(
            grid_model,
            shown(grid_model)[:1],
            [],
            lambda said, share: None,
            reference=OnnxRuntimeEngine(grid_model),
            graph_of=graph_of,
        )
