"""Engines that are built on a machine without the device, and compared where it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fake_tensorrt import NAMES, Gpu, install
from numpy.typing import NDArray
from small_worlds import texture

from vpr_ros.cli import main
from vpr_ros.engines.backend import BuildOptions, BuildsAhead
from vpr_ros.engines.build import Builder
from vpr_ros.engines.cache import EngineCache
from vpr_ros.engines.misfits import misfits
from vpr_ros.engines.onnxruntime_engine import OnnxRuntimeBackend, OnnxRuntimeEngine
from vpr_ros.engines.tensorrt.backend import TensorRtBackend
from vpr_ros.engines.tensorrt.rtx import TensorRtRtxBackend
from vpr_ros.errors import EngineError
from vpr_ros.model import PlaceModel

OPTIONS = BuildOptions(batch=2)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    found = Gpu()
    found.capability = (8, 9)
    install(monkeypatch, "1.7.1.116", found)
    assert "1.7.1.116" in NAMES
    monkeypatch.setattr("vpr_ros.engines.tensorrt.builder.PERIOD_S", 0.01)
    return found


@pytest.fixture
def images(grid_model: PlaceModel) -> NDArray[np.uint8]:
    return np.stack([texture(seed, grid_model.width, grid_model.height) for seed in range(3)])


@pytest.fixture
def builder(grid_model: PlaceModel, images: NDArray[np.uint8], tmp_path: Path) -> Builder:
    return Builder(grid_model, OnnxRuntimeEngine(grid_model), images, EngineCache(tmp_path))


def test_only_tensorrt_for_rtx_builds_ahead() -> None:
    assert isinstance(TensorRtRtxBackend(), BuildsAhead)
    assert not isinstance(TensorRtBackend(), BuildsAhead)
    assert not isinstance(OnnxRuntimeBackend(), BuildsAhead)


def test_what_was_built_ahead_is_only_compared(builder: Builder, gpu: Gpu, images: NDArray[np.uint8]) -> None:
    backend = TensorRtRtxBackend(capabilities=("sm86", "sm89"))
    gpu.devices = 0
    builder.ahead(backend, OPTIONS, lambda text, share: None)
    with pytest.raises(EngineError, match="GPU"):
        builder.engine(backend, OPTIONS, lambda text, share: None)
    gpu.devices, gpu.fails = 1, "build"  # a build would fail now
    lines: list[str] = []
    engine, facts = builder.engine(backend, OPTIONS, lambda text, share: lines.append(text))
    assert "tensorrt_rtx fp32 was built ahead" in lines
    assert facts.parity.cosine_min > 0.9999
    np.testing.assert_allclose(engine.describe(images), builder.reference.describe(images), atol=1e-6)
    engine.close()
    lines.clear()
    engine, again = builder.engine(backend, OPTIONS, lambda text, share: lines.append(text))
    assert (lines, again) == ([], facts), "it is known from then on"
    engine.close()


def test_one_for_other_capabilities_or_damaged_is_not_taken(builder: Builder, gpu: Gpu) -> None:
    entry = builder.ahead(TensorRtRtxBackend(capabilities=("sm120",)), OPTIONS, lambda text, share: None)
    lines: list[str] = []
    backend = TensorRtRtxBackend(capabilities=("sm89",))
    builder.engine(backend, OPTIONS, lambda text, share: lines.append(text))[0].close()
    assert any(line.startswith("building tensorrt_rtx fp32") for line in lines)
    other = builder.ahead(TensorRtRtxBackend(capabilities=("sm86",)), OPTIONS, lambda text, share: None)
    (builder.cache.folder / other.key.file).with_name(other.key.file.name + ".bin").write_bytes(b"cut")
    lines.clear()
    builder.engine(TensorRtRtxBackend(capabilities=("sm86",)), OPTIONS, lambda text, share: lines.append(text))[
        0
    ].close()
    assert any(line.startswith("building tensorrt_rtx fp32") for line in lines)
    assert entry.facts == {}


def test_check_knows_what_was_built_ahead(builder: Builder, gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    builder.ahead(TensorRtRtxBackend(capabilities=("sm89",)), OPTIONS, lambda text, share: None)
    gpu.devices = 0
    assert [misfit for _, misfit in misfits(builder.cache)] == [""]
    monkeypatch.setattr("tensorrt_rtx.__version__", "1.8.0.1")
    ((_, misfit),) = misfits(builder.cache)
    assert misfit == ("it was built for TensorRT for RTX 1.7.1.116, sm89; here is TensorRT for RTX 1.8.0.1, sm89")


def test_the_command_builds_and_shows_without_a_gpu(
    gpu: Gpu, grid_model_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu.devices = 0
    settings = ["--set", f"model.path={grid_model_path}", "--set", f"engine.cache={tmp_path}"]
    rtx = ["engine", "build", *settings, "--backend", "tensorrt_rtx"]
    with pytest.raises(SystemExit) as end:
        main([*rtx, "--capabilities", "sm89,sm86", "--inspect"])
    assert end.value.code == 0
    out = capsys.readouterr().out
    assert "tensorrt_rtx fp32: " in out
    assert "operators in them" in out
    assert "compared with the reference at the first start on such a GPU" in out
    with pytest.raises(SystemExit):
        main(["engine", "list", *settings])
    assert "sm86,sm89: " in (out := capsys.readouterr().out)
    assert "built ahead, not compared yet" in out
    for wrong, message in (
        ([*rtx], "cannot run here"),
        ([*rtx, "--capabilities", "rtx"], "engine.capabilities"),
        (["engine", "build", *settings, "--backend", "onnxruntime", "--inspect"], "--inspect: onnxruntime"),
        (["engine", "build", *settings, "--backend", "auto", "--inspect"], "name it with --backend"),
    ):
        with pytest.raises(SystemExit) as end:
            main(wrong)
        assert end.value.code == 2
        assert message in capsys.readouterr().err
