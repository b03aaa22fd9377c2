from __future__ import annotations

import builtins
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from small_worlds import texture

from vpr_ros.engines.onnxruntime_engine import OnnxRuntimeEngine
from vpr_ros.engines.precision import graph_of, sensitivity
from vpr_ros.errors import EngineError
from vpr_ros.model import FORMAT, PlaceModel

WIDTH, HEIGHT, CHANNELS, DIM = 32, 24, 8, 16
IMAGES = np.stack([texture(seed, WIDTH, HEIGHT) for seed in range(12)])


def save_network(path: Path, gain: float = 1.0, least: float = 1e-6, spread: float = 1.0) -> PlaceModel:
    """A small network as exports look: normalise, three convolutions with ReLU6, GeM (p = 3), whitening, L2 norm.

    `gain` scales what GeM cubes; `spread` makes the first channels of the first convolution so much weaker than the last.
    """
    rng = np.random.default_rng(0)

    def weights(*shape: int) -> NDArray[np.float32]:
        return (rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    strength = np.geomspace(1 / spread, 1, CHANNELS).astype(np.float32)
    values: dict[str, NDArray[Any]] = {
        "mean": np.full((1, 3, 1, 1), 127, np.float32),
        "std": np.full((1, 3, 1, 1), 60, np.float32),
        "w1": weights(CHANNELS, 3, 3, 3) * strength[:, None, None, None],
        "b1": np.full(CHANNELS, 0.2, np.float32) * strength,
        "w2": weights(CHANNELS, 1, 3, 3) / strength[:, None, None, None],
        "b2": np.full(CHANNELS, 0.25, np.float32),  # as b3: ONNX Runtime makes them one constant
        "w3": weights(CHANNELS, CHANNELS, 1, 1) * gain,
        "b3": np.full(CHANNELS, 0.25 * gain, np.float32),
        "zero": np.array(0, np.float32),
        "six": np.array(6, np.float32),
        "least": np.array(least, np.float32),
        "p": np.array(3, np.float32),
        "inverse": np.array(1 / 3, np.float32),
        "shortest": np.array(1e-12, np.float32),
        "white": weights(CHANNELS, DIM) * 3,
        "offset": np.full(DIM, 0.1, np.float32),
    }
    node = helper.make_node
    nodes = [
        node("Transpose", ["images"], ["planes"], perm=[0, 3, 1, 2]),
        node("Cast", ["planes"], ["float"], to=TensorProto.FLOAT),
        node("Sub", ["float", "mean"], ["centred"]),
        node("Div", ["centred", "std"], ["normal"]),
        node("Conv", ["normal", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1], name="first"),
        node("Clip", ["c1", "zero", "six"], ["r1"]),
        node("Conv", ["r1", "w2", "b2"], ["c2"], pads=[1, 1, 1, 1], group=CHANNELS, name="second"),
        node("Clip", ["c2", "zero", "six"], ["r2"]),
        node("Conv", ["r2", "w3", "b3"], ["c3"], name="third"),
        node("Clip", ["c3", "least"], ["r3"]),
        node("Pow", ["r3", "p"], ["cubes"]),
        node("ReduceMean", ["cubes"], ["pooled"], axes=[2, 3], keepdims=0),
        node("Pow", ["pooled", "inverse"], ["gem"]),
        node("Gemm", ["gem", "white", "offset"], ["whitened"]),
        node("ReduceL2", ["whitened"], ["length"], axes=[1], keepdims=1),
        node("Clip", ["length", "shortest"], ["positive"]),
        node("Div", ["whitened", "positive"], ["descriptors"]),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", HEIGHT, WIDTH, 3])],
        [helper.make_tensor_value_info("descriptors", TensorProto.FLOAT, ["n", DIM])],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(proto, {"format": FORMAT, "name": "network", "trained_on": "nothing"})
    onnx.save(proto, path)
    return PlaceModel.open(path)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> PlaceModel:
    return save_network(tmp_path_factory.mktemp("network") / "network.onnx")


def cosines(model: PlaceModel, content: bytes, images: NDArray[np.uint8] = IMAGES) -> NDArray[np.float32]:
    found = OnnxRuntimeEngine(model, graph=content).describe(images)
    return np.sum(found * OnnxRuntimeEngine(model).describe(images), axis=1)


def operators(content: bytes) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load_from_string(content).graph.node)


def opened(tmp_path: Path, content: bytes) -> PlaceModel:
    path = tmp_path / "converted.onnx"
    path.write_bytes(content)
    return PlaceModel.open(path)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_a_library_can_be_told_is_the_same_file(network: PlaceModel, precision: str) -> None:
    assert graph_of(network, precision) == network.content
    assert sensitivity(network, precision, IMAGES) == []


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_the_contract_and_the_metadata_are_kept(network: PlaceModel, tmp_path: Path, precision: str) -> None:
    converted = opened(tmp_path, graph_of(network, precision, IMAGES))
    assert (converted.dim, converted.width, converted.height) == (DIM, WIDTH, HEIGHT)
    assert converted.metadata == network.metadata
    engine = OnnxRuntimeEngine(converted)
    together = engine.describe(IMAGES)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(engine.describe(IMAGES[:1]), together[:1], atol=1e-3)


# --- fp16 -----------------------------------------------------------------------------------------------------------


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


# --- int8 -----------------------------------------------------------------------------------------------------------


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


def test_int8_brings_channels_of_different_strength_together(tmp_path: Path) -> None:
    model = save_network(tmp_path / "uneven.onnx", spread=1000)
    assert cosines(model, graph_of(model, "int8", IMAGES)).min() > 0.999  # quantised as they are: 0.991


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


# --- both -----------------------------------------------------------------------------------------------------------


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


def test_without_onnx_the_fix_is_named(network: PlaceModel, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def no_onnx(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "onnx":
            raise ImportError("No module named 'onnx'")
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", no_onnx)
    assert graph_of(network, "fp32") == network.content
    for precision in ("fp16", "int8"):
        with pytest.raises(EngineError, match=r"pip install onnx$"):
            graph_of(network, precision, IMAGES)


def test_a_graph_that_is_refused_is_one_line(network: PlaceModel) -> None:
    wrong = np.zeros((2, HEIGHT + 1, WIDTH, 3), np.uint8)
    with pytest.raises(EngineError, match=r"^the model cannot be converted to int8: .+$"):
        graph_of(network, "int8", wrong)
    with pytest.raises(EngineError, match="no graph in 'int4'"):
        graph_of(network, "int4", IMAGES)


def test_nothing_is_left_behind(network: PlaceModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    graph_of(network, "int8", IMAGES)
    graph_of(network, "fp16")
    assert list(tmp_path.iterdir()) == []
    assert network.path.read_bytes() == network.content
