from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper
from small_networks import CHANNELS, HEIGHT, IMAGES, WIDTH, cosines
from small_worlds import texture

from vpr_ros.engines.graphs.precision import graph_of
from vpr_ros.errors import EngineError
from vpr_ros.model import PlaceModel


def test_int8_is_explicit_and_symmetric_for_tensorrt(network: PlaceModel) -> None:
    content = graph_of(network, "int8", IMAGES)
    graph = onnx.load_from_string(content).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    steps = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert Counter(node.op_type for node in steps)["QuantizeLinear"] == 2  # into all but the first
    for node in steps:
        zero = constants[node.input[2]]
        assert zero.dtype in (np.int8, np.int32)  # int32: the biases
        assert not zero.any()
    # a scale for each channel of the weights
    weights = [node for node in steps if constants.get(node.input[0], np.zeros(0)).ndim == 4]
    assert [constants[node.input[1]].shape for node in weights] == [(CHANNELS,)] * 2


def test_int8_for_a_cpu_uses_all_of_a_byte_behind_a_relu(network: PlaceModel) -> None:
    graph = onnx.load_from_string(graph_of(network, "int8", IMAGES, symmetric=False)).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    zeros = [constants[node.input[2]] for node in graph.node if node.op_type == "QuantizeLinear"]
    assert [(zero.dtype, int(zero)) for zero in zeros] == [(np.dtype(np.uint8), 0)] * 2


def test_int8_leaves_image_pooling_and_whitening_alone(network: PlaceModel) -> None:
    graph = onnx.load_from_string(graph_of(network, "int8", IMAGES)).graph
    made_by = {output: node for node in graph.node for output in node.output}
    for node in graph.node:
        if node.op_type in ("Gemm", "Pow", "ReduceL2") or node.name.startswith("first#"):
            assert all(made_by[name].op_type != "DequantizeLinear" for name in node.input if name in made_by)


@pytest.mark.parametrize("symmetric", [True, False])
def test_int8_is_close_on_images_that_did_not_calibrate(network: PlaceModel, symmetric: bool) -> None:
    others = np.stack([texture(seed, WIDTH, HEIGHT) for seed in range(100, 112)])
    found = cosines(network, graph_of(network, "int8", IMAGES, symmetric=symmetric), others)
    assert 0.97 < found.min() < 0.999999


def test_int8_of_a_graph_without_weights_is_refused(grid_model: PlaceModel) -> None:
    images = np.stack([texture(seed, grid_model.width, grid_model.height) for seed in range(3)])
    with pytest.raises(EngineError, match="int8 changes nothing in this model"):
        graph_of(grid_model, "int8", images)


def test_int8_follows_its_calibration(network: PlaceModel) -> None:
    dark = graph_of(network, "int8", IMAGES // 8 + 112)
    assert cosines(network, dark).min() < cosines(network, graph_of(network, "int8", IMAGES)).min()


@pytest.mark.parametrize("images", [None, IMAGES[:0]])
def test_int8_asks_for_images(network: PlaceModel, images: NDArray[np.uint8] | None) -> None:
    with pytest.raises(EngineError, match=r"set engine\.images, or give --images"):
        graph_of(network, "int8", images)
