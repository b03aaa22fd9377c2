"""Every check finds its fault, and passes what is right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from fake_tensorrt import NAMES, Gpu, install, is_for_rtx
from masked_models import save_masked_grid_model
from numpy.typing import NDArray
from small_worlds import texture

from vpr_ros.engines.backend import Backend, BuildOptions, BuildProgress, Engine
from vpr_ros.engines.benchmark.case import Case, Settings
from vpr_ros.engines.benchmark.checks import FAIL, PASS, SKIP, Check, check_engine
from vpr_ros.engines.onnxruntime_engine import OnnxRuntimeEngine
from vpr_ros.engines.tensorrt.backend import TensorRtBackend
from vpr_ros.engines.tensorrt.rtx import TensorRtRtxBackend
from vpr_ros.errors import EngineError
from vpr_ros.model import PlaceModel

BATCH = 4
CHECKS = (
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

    def build(self, model: PlaceModel, graph: bytes, options: BuildOptions, progress: BuildProgress) -> bytes:
        try:
            progress("imitating", 0.5)
        except Exception:
            if self.fault != "interrupted build":
                raise
        return graph

    def load(self, model: PlaceModel, content: bytes, options: BuildOptions) -> Engine:
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


def checked(
    model: PlaceModel,
    backend: Backend,
    settings: Settings,
    precision: str = "fp32",
    progress: BuildProgress = lambda text, share: None,
    images: int = 3,
) -> tuple[Check, ...]:
    shown = np.stack([texture(seed, model.width, model.height) for seed in range(images)])
    case = Case(model, shown, backend, precision, BATCH)
    file = settings.cache.with_name("engine.bin")
    file.write_bytes(backend.build(model, model.content, settings.options(case), lambda text, share: None))
    return check_engine(progress, case, settings, file)


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> PlaceModel:
    return PlaceModel.open(save_masked_grid_model(tmp_path_factory.mktemp("masked") / "masked.onnx"))


@pytest.mark.parametrize("images", [1, 3, 9])
def test_a_right_engine_passes_every_check(masked: PlaceModel, settings: Settings, images: int) -> None:
    found = checked(masked, Imitation(), settings, images=images)
    assert [(check.name, check.result) for check in found] == [(name, PASS) for name in CHECKS]


@pytest.mark.parametrize("fault", [name for name in CHECKS if name not in ("load again", "interrupted build")])
def test_each_fault_is_found_by_its_check(masked: PlaceModel, settings: Settings, fault: str) -> None:
    found = checked(masked, Imitation(fault), settings)
    failed = [check.name for check in found if check.result == FAIL]
    assert fault in failed
    if fault not in ("agrees with the reference", "repeats itself"):  # these break others too
        assert failed == [fault]


def test_the_bar_is_the_node_s(masked: PlaceModel, settings: Settings) -> None:
    lower = replace(settings, engine=replace(settings.engine, min_cosine=1.0 + 1e-3))
    assert "(bar 1.001)" in checked(masked, Imitation(), lower)[0].clause


def test_what_builds_at_once_cannot_be_interrupted(masked: PlaceModel, settings: Settings) -> None:
    found = checked(masked, Imitation("interrupted build"), settings)
    skipped = [(check.name, check.clause) for check in found if check.result == SKIP]
    assert skipped == [("interrupted build", "it builds at once")]


def test_the_mask_is_skipped_for_a_model_without_one(grid_model: PlaceModel, settings: Settings) -> None:
    assert [c.name for c in checked(grid_model, Imitation(), settings) if c.result == SKIP] == ["mask"]


def test_progress_names_the_check_and_may_end_it(grid_model: PlaceModel, settings: Settings) -> None:
    told: list[str] = []

    def progress(text: str, share: float | None) -> None:
        told.append(text)
        if "another thread" in text:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        checked(grid_model, Imitation(), settings, progress=progress)
    assert told[-1] == "checking `another thread`"


@pytest.mark.parametrize("version", NAMES)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_tensorrt_passes_on_the_imitation(
    masked: PlaceModel, settings: Settings, monkeypatch: pytest.MonkeyPatch, version: str, precision: str
) -> None:
    gpu = Gpu()
    install(monkeypatch, version, gpu)
    monkeypatch.setattr("vpr_ros.engines.tensorrt.builder.PERIOD_S", 0.01)
    gpu.capability = (8, 9)
    backend = TensorRtRtxBackend() if is_for_rtx(version) else TensorRtBackend()
    found = checked(masked, backend, settings, precision)
    assert [(check.name, check.clause) for check in found if check.result != PASS] == []
    assert len(found) == len(CHECKS)
    assert gpu.live == []
