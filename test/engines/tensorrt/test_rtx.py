"""What TensorRT for RTX does differently, on an imitation of it; test_tensorrt_rtx_builder.py asks the real library."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from fake_tensorrt import NAMES, Gpu, install, is_for_rtx
from hypothesis import given, settings
from hypothesis import strategies as st
from masked_models import save_masked_grid_model
from small_worlds import texture

from vpr_ros.engines.backend import BuildOptions
from vpr_ros.engines.onnxruntime_engine import OnnxRuntimeEngine
from vpr_ros.engines.tensorrt import builder
from vpr_ros.engines.tensorrt.capabilities import parse_capabilities
from vpr_ros.engines.tensorrt.engine import TensorRtEngine
from vpr_ros.engines.tensorrt.rtx import TensorRtRtxBackend
from vpr_ros.errors import ConfigError, EngineError
from vpr_ros.model import PlaceModel

VERSIONS = tuple(version for version in NAMES if is_for_rtx(version))
BATCH = BuildOptions(batch=4)
OLDEST, NEWEST = VERSIONS[0], VERSIONS[-1]


@pytest.fixture
def gpu() -> Gpu:
    found = Gpu()
    found.capability = (8, 9)
    return found


@pytest.fixture(params=VERSIONS)
def backend(request: pytest.FixtureRequest, gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> TensorRtRtxBackend:
    install(monkeypatch, request.param, gpu)
    return TensorRtRtxBackend()


@pytest.fixture(autouse=True)
def quick_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "PERIOD_S", 0.01)


def quiet(text: str, share: float | None) -> None:
    pass


def images(model: PlaceModel, count: int) -> np.ndarray:
    return np.stack([texture(seed, model.width, model.height) for seed in range(count)])


def engine_of(backend: TensorRtRtxBackend, model: PlaceModel) -> TensorRtEngine:
    return backend.load(model, backend.build(model, model.content, BATCH, quiet), BATCH)


def capability(version: str, name: str) -> int:
    return NAMES[version]["ComputeCapability"][name]


@pytest.mark.parametrize("count", [1, 3, 4, 9])
def test_descriptors_are_the_references(backend: TensorRtRtxBackend, grid_model: PlaceModel, count: int) -> None:
    engine, shown = engine_of(backend, grid_model), images(grid_model, count)
    np.testing.assert_allclose(engine.describe(shown), OnnxRuntimeEngine(grid_model).describe(shown), atol=1e-6)
    assert engine.name == "tensorrt_rtx fp32"
    engine.close()


def test_a_mask_comes_with_the_descriptors(backend: TensorRtRtxBackend, tmp_path: Path) -> None:
    model = PlaceModel.open(save_masked_grid_model(tmp_path / "masked.onnx"))
    engine, shown = engine_of(backend, model), images(model, 3)
    for found, expected in zip(
        engine.describe_with_mask(shown), OnnxRuntimeEngine(model).describe_with_mask(shown), strict=True
    ):
        np.testing.assert_allclose(found, expected, atol=1e-6)
    engine.close()


def test_a_plan_is_for_the_gpu_that_is_here(backend: TensorRtRtxBackend, gpu: Gpu, grid_model: PlaceModel) -> None:
    backend.build(grid_model, grid_model.content, BATCH, quiet)
    version = backend.identity()["library"].split()[-1]
    assert gpu.capabilities == [capability(version, "CURRENT")]
    assert "capabilities" not in backend.identity()


def test_a_plan_is_for_the_capabilities_that_are_named(
    backend: TensorRtRtxBackend, gpu: Gpu, grid_model: PlaceModel
) -> None:
    named = dataclasses.replace(backend, capabilities=("sm86", "sm120"))
    named.build(grid_model, grid_model.content, BATCH, quiet)
    version = named.identity()["library"].split()[-1]
    assert gpu.capabilities == [capability(version, "SM86"), capability(version, "SM120")]
    assert named.identity() == {**backend.identity(), "capabilities": "sm86,sm120"}


def test_without_a_gpu_plans_are_built_for_named_capabilities(
    backend: TensorRtRtxBackend, gpu: Gpu, grid_model: PlaceModel
) -> None:
    gpu.devices = 0
    assert "engine.capabilities" in backend.cannot_build()
    with pytest.raises(EngineError, match=r"set engine\.capabilities"):
        backend.build(grid_model, grid_model.content, BATCH, quiet)
    named = dataclasses.replace(backend, capabilities=("sm89",))
    assert named.cannot_build() == ""
    plan = named.build(grid_model, grid_model.content, BATCH, quiet)
    with pytest.raises(EngineError, match="GPU"):
        named.load(grid_model, plan, BATCH)
    gpu.devices = 1
    engine = named.load(grid_model, plan, BATCH)
    assert engine.describe(images(grid_model, 1)).shape == (1, grid_model.dim)
    engine.close()


def test_what_the_library_does_not_know_is_said(backend: TensorRtRtxBackend, gpu: Gpu, grid_model: PlaceModel) -> None:
    """An H200 was refused so, whatever the plan was built for."""
    gpu.capability = (9, 0)
    assert "does not know this GPU's compute capability sm90, only sm75" in backend.missing()
    with pytest.raises(EngineError, match="sm90"):
        dataclasses.replace(backend, capabilities=("sm89", "sm90")).build(grid_model, b"", BATCH, quiet)
    assert "sm90" in dataclasses.replace(backend, capabilities=("sm90",)).cannot_build()


def test_sizes_of_their_own_are_compiled_before_and_others_beside(
    backend: TensorRtRtxBackend, gpu: Gpu, grid_model: PlaceModel
) -> None:
    engine, shown = engine_of(backend, grid_model), images(grid_model, 4)
    for count in (1, 4, 3, 1, 4):
        engine.describe(shown[:count])
    size = shown.shape[1:]
    assert gpu.compiled == [("EAGER", (1, *size)), ("EAGER", (4, *size)), ("LAZY", (3, *size))]
    engine.close()


def test_kernels_are_kept_and_a_refused_file_is_replaced(
    backend: TensorRtRtxBackend, gpu: Gpu, grid_model: PlaceModel, tmp_path: Path
) -> None:
    kept, shown = dataclasses.replace(backend, cache=tmp_path), images(grid_model, 4)

    def run() -> int:
        gpu.compiled.clear()
        engine = engine_of(kept, grid_model)
        for count in (1, 4):
            engine.describe(shown[:count])
        engine.close()
        return len(gpu.compiled)

    assert run() == 2
    (file,) = tmp_path.iterdir()
    content = file.read_bytes()
    assert run() == 0
    for damaged in (b"garbage", b"", content.replace(b"imitation", b"elsewhere")):
        file.write_bytes(damaged)
        assert run() == 2
        assert file.read_bytes() == content
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_that_cannot_be_written_costs_no_engine(
    backend: TensorRtRtxBackend, grid_model: PlaceModel, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("not a folder")
    engine = engine_of(dataclasses.replace(backend, cache=tmp_path / "file"), grid_model)
    assert engine.describe(images(grid_model, 1)).shape == (1, grid_model.dim)
    engine.close()


def test_closing_frees_everything(backend: TensorRtRtxBackend, gpu: Gpu, grid_model: PlaceModel) -> None:
    engine = engine_of(backend, grid_model)
    engine.describe(images(grid_model, 5))
    assert gpu.live
    engine.close()
    assert gpu.live == []


def test_missing_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for reason in (
        TensorRtRtxBackend().missing(),
        TensorRtRtxBackend().cannot_build(),
        TensorRtRtxBackend(capabilities=("sm89",)).cannot_build(),
    ):
        assert reason.startswith("TensorRT for RTX is not installed: `pip install tensorrt-rtx-cu13`")


def test_an_old_one_is_refused(backend: TensorRtRtxBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorrt_rtx

    monkeypatch.setattr(tensorrt_rtx, "__version__", "1.3.0")
    assert "1.3.0 is too old: `pip install -U tensorrt-rtx-cu13`" in backend.missing()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", ()), (" ", ()), ("sm89", ("sm89",)), (" SM120, sm86 ,sm86", ("sm86", "sm120"))],
)
def test_capabilities(text: str, expected: tuple[str, ...]) -> None:
    assert parse_capabilities(text) == expected


@settings(deadline=None)
@given(st.sets(st.sampled_from(["sm75", "sm80", "sm86", "sm89", "sm120", "sm121"])))
def test_every_set_of_capabilities_can_be_written(names: set[str]) -> None:
    parsed = parse_capabilities(",".join(names))
    assert set(parsed) == names
    assert parse_capabilities(",".join(parsed)) == parsed


@pytest.mark.parametrize("text", ["89", "sm", "sm89;sm86", "sm89,", "rtx4090", "sm8.9"])
def test_what_is_no_capability_names_the_parameter(text: str) -> None:
    with pytest.raises(ConfigError, match=r"engine\.capabilities"):
        parse_capabilities(text)
