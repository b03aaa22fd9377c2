from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto
from small_networks import cosines, operators, save_network
from small_worlds import texture

from vpr_ros.engines.graphs.precision import graph_of
from vpr_ros.model import PlaceModel


def test_fp16_is_half_the_file_and_close(network: PlaceModel) -> None:
    content = graph_of(network, "fp16")
    tensors = onnx.load_from_string(content).graph.initializer
    halves = {tensor.name for tensor in tensors if tensor.data_type == TensorProto.FLOAT16}
    assert {f"{name}/fp16" for name in ("w1", "b1", "w2", "b2", "w3", "b3", "white", "offset")} <= halves
    assert not {"w1", "w2", "w3", "white"} & {tensor.name for tensor in tensors}
    assert cosines(network, content).min() > 0.9999


def test_fp16_casts_only_where_precision_changes(network: PlaceModel) -> None:
    before, after = operators(network.content), operators(graph_of(network, "fp16"))
    assert before + Counter(Cast=4) == after  # into the convolutions, out of them, into the whitening, out of it


def test_fp16_keeps_powers_sums_and_lengths_in_fp32(network: PlaceModel) -> None:
    """Structure, since ONNX Runtime computes them in fp32 on the CPU whatever the graph says."""
    delicate = [
        node
        for node in onnx.load_from_string(graph_of(network, "fp16")).graph.node
        if node.op_type in ("Sub", "Div", "Pow", "ReduceMean", "ReduceL2") or "length" in node.input
    ]
    assert len(delicate) == 8
    assert not any(name.endswith("/fp16") for node in delicate for name in (*node.input, *node.output))


def test_fp16_keeps_a_least_value_that_half_would_make_zero(tmp_path: Path) -> None:
    for least, names in ((1e-6, {"least/fp16"}), (1e-9, {"least"})):
        model = save_network(tmp_path / "network.onnx", least=least)
        tensors = onnx.load_from_string(graph_of(model, "fp16")).graph.initializer
        assert {tensor.name for tensor in tensors if tensor.name.startswith("least")} == names


def test_fp16_of_strong_activations_is_close(tmp_path: Path) -> None:
    model = save_network(tmp_path / "strong.onnx", gain=500)  # some reach 500, whose cube is 1.25e8
    assert cosines(model, graph_of(model, "fp16")).min() > 0.999


def test_fp16_keeps_weights_that_half_cannot_hold(tmp_path: Path) -> None:
    model = save_network(tmp_path / "huge.onnx", gain=1e6)
    content = graph_of(model, "fp16")
    assert "w3" in {tensor.name for tensor in onnx.load_from_string(content).graph.initializer}
    assert cosines(model, content).min() > 0.999


def test_fp16_of_a_graph_without_weights(grid_model: PlaceModel) -> None:
    images = np.stack([texture(seed, grid_model.width, grid_model.height) for seed in range(3)])
    assert cosines(grid_model, graph_of(grid_model, "fp16"), images).min() > 0.99999
