from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from small_networks import HEIGHT, IMAGES, WIDTH, cosines, operators, save_network

from vpr_ros.engines.graphs.conversion import Conversion
from vpr_ros.engines.graphs.precision import graph_of
from vpr_ros.engines.graphs.sensitivity import DELICATE, delicate, sensitivity
from vpr_ros.engines.parity import BARS
from vpr_ros.model import PlaceModel


@pytest.mark.parametrize(
    ("precision", "kinds"),
    [
        ("int8", {"Conv 3x3 depthwise", "Conv 1x1"}),
        ("fp16", {"Conv 3x3", "Conv 3x3 depthwise", "Conv 1x1", "Clip", "Gemm"}),
    ],
)
def test_sensitivity_names_each_operator_worst_first(network: PlaceModel, precision: str, kinds: set[str]) -> None:
    costs = sensitivity(network, precision, IMAGES)
    assert {cost.operator for cost in costs} == kinds
    assert [cost.cosine for cost in costs] == sorted(cost.cosine for cost in costs)
    together = cosines(network, graph_of(network, precision, IMAGES)).min()
    assert together - 0.01 < costs[0].cosine <= 1.000001


def test_sensitivity_finds_the_operator_that_breaks(tmp_path: Path) -> None:
    """In the last convolution, weights of a channel that is always zero are so large that int8 loses all others."""
    model = save_network(tmp_path / "network.onnx")
    proto = onnx.load(model.path)
    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
    for name, part, factor in (("w2", np.s_[0], 0), ("b2", np.s_[0], 0), ("w3", np.s_[:, 0], 3000)):
        value = numpy_helper.to_array(tensors[name]).copy()
        value[part] *= factor
        tensors[name].CopyFrom(numpy_helper.from_array(value, name))
    onnx.save(proto, model.path)
    broken = PlaceModel.open(model.path)
    worst, *others = sensitivity(broken, "int8", IMAGES)
    assert worst.operator == "Conv 1x1"
    assert all(1 - worst.cosine > 10 * (1 - other.cosine) for other in others)


def save_delicate_network(path: Path) -> PlaceModel:
    """Weights of the second convolution nearly cancel: half precision of them and of its input is all that is left."""
    model = save_network(path)
    proto = onnx.load(model.path)
    [tensor] = [tensor for tensor in proto.graph.initializer if tensor.name == "w2"]
    value = numpy_helper.to_array(tensor).copy()
    value[..., 1, 1] += 2000
    value[..., 1, 0] -= 1000
    value[..., 1, 2] -= 1000
    tensor.CopyFrom(numpy_helper.from_array(value, "w2"))
    onnx.save(proto, path)
    return PlaceModel.open(path)


FLAT = np.stack(
    [np.full((HEIGHT, WIDTH, 3), colour, np.uint8) for colour in np.random.default_rng(0).integers(0, 256, (12, 3))]
)
"""Images of one colour, in which what should cancel does."""


def test_fp16_keeps_the_operator_that_breaks_in_fp32(tmp_path: Path) -> None:
    model = save_delicate_network(tmp_path / "network.onnx")
    graph = Conversion(model, "fp16", None, symmetric=True)
    assert {name.partition("#")[0] for name in delicate(graph, FLAT)} == {"second"}
    assert cosines(model, graph_of(model, "fp16"), FLAT).min() < BARS["fp16"]
    kept = graph_of(model, "fp16", FLAT)
    assert cosines(model, kept, FLAT).min() > 1 - DELICATE
    tensors = {tensor.name for tensor in onnx.load_from_string(kept).graph.initializer}
    assert (
        operators(kept)["Cast"] == operators(graph_of(model, "fp16"))["Cast"] + 2
    )  # out of fp16 and back, behind the Clip
    clip = next(node for node in onnx.load_from_string(kept).graph.node if node.output[0] == "r2")
    assert list(clip.input) == ["c2", "zero", "six"]
    assert {"w1/fp16", "w2", "w3/fp16"} <= tensors
    assert not {"w1", "w2/fp16", "w3"} & tensors


@pytest.mark.parametrize("count", [1, 3, len(IMAGES)])
def test_nothing_is_delicate_where_nothing_breaks(network: PlaceModel, count: int) -> None:
    assert delicate(Conversion(network, "fp16", None, symmetric=True), IMAGES[:count]) == frozenset()
    assert graph_of(network, "fp16", IMAGES[:count]) == graph_of(network, "fp16")


def test_halving_finds_what_measuring_each_finds(tmp_path: Path) -> None:
    """The slow way: every operator alone."""
    model = save_delicate_network(tmp_path / "network.onnx")
    graph = Conversion(model, "fp16", None, symmetric=True)
    some = FLAT[::3][:4]  # as delicate takes them
    costly = {
        name
        for name, kind in graph.candidates.items()
        if cosines(model, graph.converted({name: kind}), some).min() < 1 - DELICATE
    }
    assert delicate(graph, FLAT) == costly
