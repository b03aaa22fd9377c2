"""Engines of plans, run on an imitation of TensorRT."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from fake_tensorrt import Gpu
from masked_models import save_masked_grid_model
from small_plans import BATCH, engine_of, images, quiet
from small_worlds import save_grid_model

from vpr_ros.engines.backend import BuildOptions
from vpr_ros.engines.onnxruntime_engine import OnnxRuntimeEngine
from vpr_ros.engines.tensorrt.backend import TensorRtBackend
from vpr_ros.errors import EngineError, ModelError
from vpr_ros.model import PlaceModel


@pytest.mark.parametrize("count", [1, 2, 3, 4, 9])
def test_descriptors_are_the_references(backend: TensorRtBackend, grid_model: PlaceModel, count: int) -> None:
    shown = images(grid_model, count)
    engine = engine_of(backend, grid_model)
    expected = OnnxRuntimeEngine(grid_model).describe(shown)
    for _ in range(3):  # plain, recorded, replayed
        np.testing.assert_allclose(engine.describe(shown), expected, atol=1e-6)
        np.testing.assert_allclose(engine.describe(shown[::-1]), expected[::-1], atol=1e-6)
    engine.close()


def test_a_mask_comes_with_the_descriptors(backend: TensorRtBackend, tmp_path: Path) -> None:
    model = PlaceModel.open(save_masked_grid_model(tmp_path / "masked.onnx"))
    shown = images(model, 5)
    engine = engine_of(backend, model)
    for found, expected in zip(
        engine.describe_with_mask(shown), OnnxRuntimeEngine(model).describe_with_mask(shown), strict=True
    ):
        np.testing.assert_allclose(found, expected, atol=1e-6)
    engine.close()


def test_a_model_without_a_mask_says_so(newest: TensorRtBackend, grid_model: PlaceModel) -> None:
    engine = engine_of(newest, grid_model)
    with pytest.raises(ModelError, match="no mask"):
        engine.describe_with_mask(images(grid_model, 1))
    engine.close()


def test_a_model_of_one_batch_size_is_padded_and_cut(newest: TensorRtBackend, tmp_path: Path) -> None:
    proto = onnx.load(save_grid_model(tmp_path / "grid.onnx"))
    model = PlaceModel.open(tmp_path / "grid.onnx")
    for tensor in (*proto.graph.input, *proto.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_value = 2
    shown = images(model, 5)
    engine = engine_of(newest, model, content=proto.SerializeToString())
    np.testing.assert_allclose(engine.describe(shown), OnnxRuntimeEngine(model).describe(shown), atol=1e-6)
    engine.close()


def test_any_thread_may_describe(backend: TensorRtBackend, grid_model: PlaceModel) -> None:
    engine = engine_of(backend, grid_model)
    shown = images(grid_model, 8)
    expected = OnnxRuntimeEngine(grid_model).describe(shown)
    with ThreadPoolExecutor(4) as threads:
        counts = [1 + index % 8 for index in range(40)]
        for count, found in zip(counts, threads.map(lambda n: engine.describe(shown[:n]), counts), strict=True):
            np.testing.assert_allclose(found, expected[:count], atol=1e-6)
    engine.close()


def test_two_engines_run_side_by_side(newest: TensorRtBackend, gpu: Gpu, grid_model: PlaceModel) -> None:
    engines = [engine_of(newest, grid_model) for _ in range(2)]
    shown = images(grid_model, 4)
    expected = OnnxRuntimeEngine(grid_model).describe(shown)
    with ThreadPoolExecutor(4) as threads:
        for found in threads.map(lambda index: engines[index % 2].describe(shown), range(20)):
            np.testing.assert_allclose(found, expected, atol=1e-6)
    for engine in engines:
        engine.close()
    assert gpu.live == []


def test_views_and_no_images(newest: TensorRtBackend, grid_model: PlaceModel) -> None:
    engine = engine_of(newest, grid_model)
    shown = images(grid_model, 6)
    whole = engine.describe(shown)
    np.testing.assert_allclose(engine.describe(shown[::2, :, :, :]), whole[::2], atol=1e-6)
    assert engine.describe(shown[:0]).shape == (0, grid_model.dim)
    for wrong in (shown[:, :-1], shown.astype(np.float32), shown[0]):
        with pytest.raises(EngineError, match="images must be uint8"):
            engine.describe(wrong)
    engine.close()


def test_graphs_are_replayed_for_one_and_all(newest: TensorRtBackend, gpu: Gpu, grid_model: PlaceModel) -> None:
    engine = engine_of(newest, grid_model)
    shown = images(grid_model, 4)
    launches = []
    for count in (1, 1, 4, 4, 2, 2, 1):
        engine.describe(shown[:count])
        launches.append(gpu.launches)
    assert launches == [1, 2, 3, 4, 4, 4, 5]  # recording launches once, to compare
    engine.close()
    gpu.launches = 0
    newest.cuda_graphs = False
    engine = engine_of(newest, grid_model)
    for _ in range(3):
        engine.describe(shown[:1])
    assert gpu.launches == 0
    engine.close()


@pytest.mark.parametrize("fault", ["capture", "kernels"])
def test_a_graph_that_cannot_be_recorded_is_not_used(
    newest: TensorRtBackend, gpu: Gpu, grid_model: PlaceModel, fault: str
) -> None:
    gpu.fails = fault
    gpu.forgets_kernels = fault == "kernels"
    engine = engine_of(newest, grid_model)
    shown = images(grid_model, 3)
    expected = OnnxRuntimeEngine(grid_model).describe(shown)
    for index in (0, 1, 2, 0):
        np.testing.assert_allclose(engine.describe(shown[index : index + 1])[0], expected[index], atol=1e-6)
    engine.close()
    assert gpu.live == []


def test_failures_are_engine_errors(newest: TensorRtBackend, gpu: Gpu, grid_model: PlaceModel) -> None:
    engine = engine_of(newest, grid_model)
    gpu.fails = "memory"
    with pytest.raises(EngineError, match="no memory"):
        engine.describe(images(grid_model, 1))
    gpu.fails = "run"
    with pytest.raises(EngineError, match="illegal memory access"):
        engine.describe(images(grid_model, 1))
    gpu.fails = ""
    assert engine.describe(images(grid_model, 1)).shape == (1, grid_model.dim)
    engine.close()


def test_close_frees_everything_and_may_be_repeated(backend: TensorRtBackend, gpu: Gpu, grid_model: PlaceModel) -> None:
    engine = engine_of(backend, grid_model)
    for count in (1, 4, 2):
        engine.describe(images(grid_model, count))
    assert {"context", "stream", "pinned", "device", "graph"} == set(gpu.live)
    engine.close()
    engine.close()
    assert gpu.live == []
    assert not any(thread.name.startswith("tensorrt") for thread in threading.enumerate())
    with pytest.raises(EngineError, match="is closed"):
        engine.describe(images(grid_model, 1))


def test_close_never_fails(newest: TensorRtBackend, grid_model: PlaceModel, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_of(newest, grid_model)

    def fail() -> None:
        raise RuntimeError("an illegal memory access was encountered")

    monkeypatch.setattr(engine._execution, "free", fail)  # as after a failed kernel, when CUDA answers nothing any more
    engine.close()
    with pytest.raises(EngineError, match="is closed"):
        engine.describe(images(grid_model, 1))


def test_a_corrupt_plan_is_refused(backend: TensorRtBackend, gpu: Gpu, grid_model: PlaceModel) -> None:
    plan = backend.build(grid_model, grid_model.content, BATCH, quiet)
    for content in (plan[: len(plan) // 2], plan[20:], b"GIF89a" * 100):
        with pytest.raises(EngineError, match=r"refuses the engine file: .*Serialization.*; build it again"):
            backend.load(grid_model, content, BATCH)
    for content in (b"", b"\0" * 1000):
        with pytest.raises(EngineError, match="empty"):
            backend.load(grid_model, content, BATCH)
    assert gpu.live == []
    assert not any(thread.name.startswith("tensorrt") for thread in threading.enumerate())


def test_a_plan_of_another_model_is_refused(newest: TensorRtBackend, grid_model: PlaceModel, tmp_path: Path) -> None:
    other = PlaceModel.open(save_grid_model(tmp_path / "other.onnx", width=80))
    plan = newest.build(other, other.content, BATCH, quiet)
    with pytest.raises(EngineError, match="of another model"):
        newest.load(grid_model, plan, BATCH)


def test_a_plan_for_fewer_images_cuts_more(newest: TensorRtBackend, grid_model: PlaceModel) -> None:
    plan = newest.build(grid_model, grid_model.content, BuildOptions(batch=2), quiet)
    engine = newest.load(grid_model, plan, BuildOptions(batch=8))
    shown = images(grid_model, 7)
    np.testing.assert_allclose(engine.describe(shown), OnnxRuntimeEngine(grid_model).describe(shown), atol=1e-6)
    engine.close()
