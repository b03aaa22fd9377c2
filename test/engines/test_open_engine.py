from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fake_backends import FakeBackend

from vpr_ros.config import BACKENDS, EngineConfig
from vpr_ros.engines.backend import Engine
from vpr_ros.engines.backends import backends
from vpr_ros.engines.build import Builder
from vpr_ros.engines.cache import EngineCache, Key
from vpr_ros.engines.misfits import misfits
from vpr_ros.engines.open import builder_of, fitted, open_engine, open_reference
from vpr_ros.engines.tensorrt.backend import TensorRtBackend
from vpr_ros.errors import ConfigError, ModelError
from vpr_ros.model import PlaceModel

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 48, 64, 3), dtype=np.uint8)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, FakeBackend]:
    """What `backends` finds: nothing but what a test puts in."""
    found: dict[str, FakeBackend] = {}
    monkeypatch.setattr("vpr_ros.engines.backends.backends", lambda cache, *how: found)
    return found


@pytest.fixture
def config(tmp_path: Path) -> EngineConfig:
    return EngineConfig(cache=str(tmp_path / "engines"), threads=1)


def with_backend(config: EngineConfig, backend: str, precision: str = "fp32") -> EngineConfig:
    return EngineConfig(cache=config.cache, threads=1, backend=backend, precision=precision)


def test_every_backend_that_can_be_named_is_there(tmp_path: Path) -> None:
    known = backends(EngineCache(tmp_path))
    assert tuple(known) == BACKENDS
    assert all(known[name].name == name for name in BACKENDS)


def test_the_reference_is_opened_at_once(
    grid_model: PlaceModel, config: EngineConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*arguments: object) -> None:
        raise AssertionError("nothing has to be built")

    monkeypatch.setattr("vpr_ros.engines.open.builder_of", never)
    assert open_engine(grid_model, with_backend(config, "onnxruntime")).name == "onnxruntime"


def test_what_was_asked_for_is_opened(
    grid_model: PlaceModel, config: EngineConfig, installed: dict[str, FakeBackend]
) -> None:
    installed["tensorrt"] = FakeBackend("tensorrt")
    engine = open_engine(grid_model, with_backend(config, "tensorrt"))
    assert engine.name == "tensorrt engine"
    expected = open_reference(grid_model, 1).describe(IMAGES)
    np.testing.assert_allclose(engine.describe(IMAGES), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("backend", "precision", "reason"),
    [
        (FakeBackend("tensorrt", why_missing="there is no GPU"), "fp32", "tensorrt cannot run here: there is no GPU"),
        (FakeBackend("tensorrt", builds=False), "fp32", "operator Bead is not known"),
        (FakeBackend("tensorrt", loads=False), "fp32", "not a file of mine"),
        (FakeBackend("tensorrt", turned=0.5), "fp32", "tensorrt fp32 describes images too differently"),
        (FakeBackend("tensorrt", has_lost_its_device=True), "fp32", "the device is lost"),
        (FakeBackend("tensorrt"), "int8", "tensorrt has no int8, only fp32, bf16"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_had_gives_way_with_one_line(
    grid_model: PlaceModel,
    config: EngineConfig,
    installed: dict[str, FakeBackend],
    backend: FakeBackend,
    precision: str,
    reason: str,
) -> None:
    installed["tensorrt"] = backend
    warnings: list[str] = []
    engine = open_engine(grid_model, with_backend(config, "tensorrt", precision), warn=warnings.append)
    assert engine.name == "onnxruntime"
    [warning] = warnings
    assert warning.startswith(reason)
    assert warning.endswith("; going on with onnxruntime")
    assert "\n" not in warning
    np.testing.assert_array_equal(engine.describe(IMAGES), open_reference(grid_model, 1).describe(IMAGES))


def test_an_engine_that_fails_later_gives_way_too(
    grid_model: PlaceModel, config: EngineConfig, installed: dict[str, FakeBackend]
) -> None:
    installed["tensorrt"] = FakeBackend("tensorrt")
    warnings: list[str] = []
    engine = open_engine(grid_model, with_backend(config, "tensorrt"), warn=warnings.append)
    installed["tensorrt"].has_lost_its_device = True
    np.testing.assert_array_equal(engine.describe(IMAGES), open_reference(grid_model, 1).describe(IMAGES))
    assert warnings == ["tensorrt engine failed (the device is lost): going on with onnxruntime"]


def remember_speeds(monkeypatch: pytest.MonkeyPatch, speeds: dict[str, float]) -> list[str]:
    """Let engines be as fast as a test says, compared with the reference; what was measured, in order."""
    measured: list[str] = []

    def speed(builder: Builder, engine: Engine) -> tuple[float, float]:
        name = engine.name.removesuffix(" engine")
        measured.append(name)
        return 1.0, speeds[name]

    monkeypatch.setattr(Builder, "_speed", speed)
    return measured


def test_auto_takes_the_fastest_and_measures_once(
    grid_model: PlaceModel,
    config: EngineConfig,
    installed: dict[str, FakeBackend],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("openvino", "tensorrt", "onnxruntime_cuda"):
        installed[name] = FakeBackend(name)
    installed["openvino_gpu"] = FakeBackend("openvino_gpu", why_missing="there is no GPU")
    measured = remember_speeds(monkeypatch, {"openvino": 2.0, "tensorrt": 5.0, "onnxruntime_cuda": 3.0})
    for _ in range(2):
        assert open_engine(grid_model, config).name == "tensorrt engine"
    assert measured == ["openvino", "tensorrt", "onnxruntime_cuda"]
    assert all(engine.is_closed for name in ("openvino", "onnxruntime_cuda") for engine in installed[name].engines)
    assert not any(engine.is_closed for engine in installed["tensorrt"].engines)
    assert [len(installed[name].engines) for name in ("openvino", "tensorrt", "onnxruntime_cuda")] == [1, 2, 1]


def test_auto_stays_with_the_reference_where_nothing_is_much_faster(
    grid_model: PlaceModel,
    config: EngineConfig,
    installed: dict[str, FakeBackend],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installed["openvino"] = FakeBackend("openvino")
    installed["tensorrt"] = FakeBackend("tensorrt", turned=0.5)
    remember_speeds(monkeypatch, {"openvino": 1.04})
    warnings: list[str] = []
    assert open_engine(grid_model, config, warn=warnings.append).name == "onnxruntime"
    assert warnings == []


def test_auto_without_an_engine_of_that_precision_says_so(
    grid_model: PlaceModel, config: EngineConfig, installed: dict[str, FakeBackend]
) -> None:
    warnings: list[str] = []
    open_engine(grid_model, with_backend(config, "auto", "bf16"), warn=warnings.append)
    assert warnings == ["nothing installed here runs a model in bf16; going on with onnxruntime"]


def test_engines_are_checked_on_the_user_s_images_or_on_ours(grid_model: PlaceModel, config: EngineConfig) -> None:
    theirs = [np.full((96, 128, 3), value, np.uint8) for value in (10, 200)]
    np.testing.assert_array_equal(builder_of(grid_model, config, theirs).images[:, 0, 0, 0], [10, 200])
    ours = fitted(grid_model, ())
    assert ours.shape == (32, 48, 64, 3)
    assert ours.std() > 20


def test_an_installation_without_images_says_so(grid_model: PlaceModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vpr_ros.engines.open.shared_files", lambda pattern: [])
    with pytest.raises(ModelError, match=r"no images to check engines with; set engine.images"):
        fitted(grid_model, ())


def test_cores_that_are_none_are_refused(grid_model: PlaceModel) -> None:
    with pytest.raises(ConfigError, match=r"engine.cores"):
        open_engine(grid_model, EngineConfig(cores="two"))


def test_engines_that_outlive_an_update_are_known_as_such(
    grid_model: PlaceModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def identity(backend: TensorRtBackend) -> dict[str, str]:
        return {"library": "TensorRT 10 (version-compatible)" if backend.version_compatible else "TensorRT 10.3.0"}

    monkeypatch.setattr(TensorRtBackend, "missing", lambda backend: "")
    monkeypatch.setattr(TensorRtBackend, "identity", identity)
    cache = EngineCache(tmp_path)
    for library in ("TensorRT 10.3.0", "TensorRT 10.2.0", "TensorRT 10 (version-compatible)"):
        cache.keep(Key.of(grid_model, "tensorrt", {"library": library}, "fp32", 1), b"an engine", {})
    found = sorted(misfit for _, misfit in misfits(cache))
    assert found == ["", "", "it was built for TensorRT 10.2.0; here is TensorRT 10.3.0"]
