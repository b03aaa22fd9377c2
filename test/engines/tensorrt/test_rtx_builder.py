"""NVIDIA's own parser and builder on our graphs, which need no GPU: `pip install tensorrt-rtx-cu13`."""

from __future__ import annotations

import importlib
import threading
from pathlib import Path

import onnx
import pytest
from masked_models import save_masked_grid_model
from onnx import helper

from vpr_ros.engines.backend import BuildOptions
from vpr_ros.engines.graphs.precision import graph_of
from vpr_ros.engines.open import fitted
from vpr_ros.engines.tensorrt import builder
from vpr_ros.engines.tensorrt.layers import Layer, summary
from vpr_ros.engines.tensorrt.rtx import TensorRtRtxBackend
from vpr_ros.errors import EngineError
from vpr_ros.model import PlaceModel, shipped_model

if reason := TensorRtRtxBackend(capabilities=("sm89",)).cannot_build():
    pytest.skip(reason, allow_module_level=True)


def quiet(text: str, share: float | None) -> None:
    pass


@pytest.fixture(scope="module")
def shipped() -> PlaceModel:
    return PlaceModel.open(shipped_model())


@pytest.fixture(scope="module")
def graphs(shipped: PlaceModel) -> dict[str, bytes]:
    images = fitted(shipped, ())[:2]
    return {precision: graph_of(shipped, precision, images) for precision in ("fp32", "fp16", "int8")}


def backend(*capabilities: str) -> TensorRtRtxBackend:
    return TensorRtRtxBackend(capabilities=capabilities or ("sm89",))


def types_of(layers: tuple[Layer, ...]) -> set[str]:
    """What convolutions and products compute in."""
    return {layer.takes for layer in layers if layer.kind in ("correlation", "gemm") and "Conv" in layer.operators}


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_model_that_ships_is_read_and_built(graphs: dict[str, bytes], precision: str) -> None:
    plan, layers = backend().inspect(graphs[precision], BuildOptions(precision, 4), quiet)
    assert len(plan) > 1_000_000
    # all but int8's first convolution, which stays in float by our choice
    assert types_of(layers) == {"fp32", "int8"} if precision == "int8" else {precision}
    convolutions = [layer for layer in layers if layer.kind == "correlation"]
    assert len(convolutions) == (
        38 if precision == "fp16" else 40
    )  # the delicate one and the one before it are fused with casts
    kept = [layer for layer in layers if layer.takes == "fp32" and "Conv" in layer.operators]
    assert len(kept) == 1 or precision != "fp16"
    assert len(layers) < 100, "hardly anything was fused"
    assert any("Clip" in layer.operators for layer in convolutions) or precision == "int8"
    text = "\n".join(summary(layers))
    assert "uint8 ->" in text


def test_one_plan_is_for_several_capabilities(shipped: PlaceModel, graphs: dict[str, bytes]) -> None:
    options = BuildOptions("fp16", 2)
    one = backend("sm89").build(shipped, graphs["fp16"], options, quiet)
    several = backend("sm86", "sm89", "sm120").build(shipped, graphs["fp16"], options, quiet)
    assert abs(len(several) - len(one)) < 0.05 * len(one)


def test_turing_is_told_its_precision(shipped: PlaceModel, graphs: dict[str, bytes]) -> None:
    with pytest.raises(EngineError, match=r"FP32 GEMM is not supported.*for sm75 use engine\.precision fp16"):
        backend("sm75").build(shipped, graphs["fp32"], BuildOptions(), quiet)
    assert backend("sm75").build(shipped, graphs["fp16"], BuildOptions("fp16"), quiet)


def test_masks_are_an_output_too(tmp_path: Path) -> None:
    model = PlaceModel.open(save_masked_grid_model(tmp_path / "masked.onnx"))
    assert backend().build(model, model.content, BuildOptions(batch=3), quiet)


def test_the_file_as_it_is_would_be_refused(shipped: PlaceModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `_readable` is for: with a library that no longer needs it, it may go."""
    monkeypatch.setattr(builder, "readable", lambda graph: (graph, 1))
    with pytest.raises(EngineError, match=r"cannot read the model.*UInt8"):
        backend().build(shipped, shipped.content, BuildOptions(), quiet)


def test_an_operator_that_it_does_not_know_is_named(grid_model: PlaceModel) -> None:
    proto = onnx.load_from_string(grid_model.content)
    last = proto.graph.node[-1]
    last.output[0] = "before"
    proto.graph.node.append(helper.make_node("Bead", ["before"], [proto.graph.output[0].name], "b", domain="ours"))
    proto.opset_import.append(helper.make_opsetid("ours", 1))
    with pytest.raises(EngineError, match="Bead"):
        backend().build(grid_model, proto.SerializeToString(), BuildOptions(), quiet)


def test_a_cut_file_is_an_error(shipped: PlaceModel) -> None:
    with pytest.raises(EngineError, match="no ONNX file"):
        backend().build(shipped, shipped.content[: len(shipped.content) // 2], BuildOptions(), quiet)


def test_an_interrupted_build_ends(shipped: PlaceModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(text: str, share: float | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backend().build(shipped, shipped.content, BuildOptions(), interrupt)
    assert not any(thread.name == "tensorrt-build" for thread in threading.enumerate())


def test_plans_across_versions_are_refused(shipped: PlaceModel) -> None:
    across = TensorRtRtxBackend(version_compatible=True, capabilities=("sm89",))
    assert across.build(shipped, shipped.content, BuildOptions(), quiet), "it makes an ordinary one"
    assert across.identity_ahead() == backend().identity_ahead()


def test_the_names_of_this_version_are_there() -> None:
    """The imitation's table is of two versions; this one is asked itself."""
    trt = importlib.import_module("tensorrt_rtx")
    for name in [
        "IBuilderConfig.set_compute_capability",
        "IBuilderConfig.num_compute_capabilities",
        "ComputeCapability.CURRENT",
        "ICudaEngine.create_runtime_config",
        "IRuntimeConfig.create_runtime_cache",
        "IRuntimeConfig.set_runtime_cache",
        "IRuntimeConfig.cuda_graph_strategy",
        "IRuntimeConfig.dynamic_shapes_kernel_specialization_strategy",
        "IRuntimeCache.serialize",
        "IRuntimeCache.deserialize",
        "CudaGraphStrategy.DISABLED",
        "DynamicShapesKernelSpecializationStrategy.EAGER",
        "DynamicShapesKernelSpecializationStrategy.LAZY",
    ]:
        owner, _, member = name.partition(".")
        assert hasattr(getattr(trt, owner), member), name
