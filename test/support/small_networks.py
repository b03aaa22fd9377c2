"""A small network as exports look, and what its graph in another precision makes of images."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from small_worlds import texture

from vpr_ros.engines.onnxruntime_engine import OnnxRuntimeEngine
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


def cosines(model: PlaceModel, content: bytes, images: NDArray[np.uint8] = IMAGES) -> NDArray[np.float32]:
    found = OnnxRuntimeEngine(model, graph=content).describe(images)
    return np.sum(found * OnnxRuntimeEngine(model).describe(images), axis=1)


def operators(content: bytes) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load_from_string(content).graph.node)
