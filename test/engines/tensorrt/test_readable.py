"""Graphs rewritten for TensorRT compute the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from small_plans import engine_of, images, transposed_first

from vpr_ros.engines.onnxruntime_engine import OnnxRuntimeEngine
from vpr_ros.engines.tensorrt.backend import TensorRtBackend
from vpr_ros.engines.tensorrt.readable import readable
from vpr_ros.model import PlaceModel


@pytest.mark.parametrize("readers", [1, 2])
def test_a_cast_behind_a_transposition_goes_first(newest: TensorRtBackend, tmp_path: Path, readers: int) -> None:
    content = transposed_first(tmp_path / "turned.onnx", readers)
    model = PlaceModel.open(tmp_path / "turned.onnx")
    changed, outputs = readable(content)
    assert outputs == 1
    onnx.checker.check_model(onnx.load_from_string(changed), full_check=True)
    assert onnx.load_from_string(changed).graph.node[0].op_type == "Cast"
    shown = images(model, 3)
    engine = engine_of(newest, model)
    np.testing.assert_allclose(engine.describe(shown), OnnxRuntimeEngine(model).describe(shown), atol=1e-6)
    engine.close()


def test_a_graph_that_casts_first_stays_as_it_is(grid_model: PlaceModel) -> None:
    changed, _ = readable(grid_model.content)
    assert onnx.load_from_string(changed) == onnx.load_from_string(grid_model.content)


def quantised(model: PlaceModel, axis: int | None) -> bytes:
    """The model with a constant bias and factor as ONNX Runtime's tools store them: int32 and int8 with scales."""
    proto = onnx.load_from_string(model.content)
    graph, rng = proto.graph, np.random.default_rng(0)
    size = 1 if axis is None else model.dim
    kinds = {"weight": np.int8, "bias": np.int32}
    for name, kind in kinds.items():
        shape = (model.dim,)
        tensors = {
            name: rng.integers(-100, 100, shape).astype(kind),
            f"{name}_scale": rng.uniform(0.01, 0.02, size if size > 1 else ()).astype(np.float32),
            f"{name}_zero": np.zeros(size if size > 1 else (), kind),
        }
        graph.initializer.extend(numpy_helper.from_array(value, key) for key, value in tensors.items())
        attributes = {} if axis is None else {"axis": axis}
        graph.node.insert(0, helper.make_node("DequantizeLinear", list(tensors), [f"{name}_float"], name, **attributes))
    product = next(node for node in graph.node if node.op_type == "Sub")
    product.output[0] = "plain"
    at = list(graph.node).index(product)
    graph.node.insert(at + 1, helper.make_node("Mul", ["plain", "weight_float"], ["scaled"]))
    graph.node.insert(at + 2, helper.make_node("Add", ["scaled", "bias_float"], ["centred"]))
    return proto.SerializeToString()


@pytest.mark.parametrize("axis", [None, 0, -1])
def test_constants_that_are_stored_quantised_become_float(grid_model: PlaceModel, axis: int | None) -> None:
    content = quantised(grid_model, axis)
    changed, _ = readable(content)
    proto = onnx.load_from_string(changed)
    onnx.checker.check_model(proto, full_check=True)
    constants = {tensor.name for tensor in proto.graph.initializer}
    kinds = [node.op_type for node in proto.graph.node]
    assert (kinds.count("QuantizeLinear"), kinds.count("DequantizeLinear")) == (
        1,
        1,
    )  # of the weight; the bias is plain
    assert not any(node.op_type == "DequantizeLinear" and node.input[0] in constants for node in proto.graph.node)
    shown = images(grid_model, 3)
    expected, found = (OnnxRuntimeEngine(grid_model, graph=graph).describe(shown) for graph in (content, changed))
    np.testing.assert_allclose(found, expected, atol=1e-6)
