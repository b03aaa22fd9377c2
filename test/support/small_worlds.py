"""Worlds small enough to know everything about them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from scipy.spatial.transform import Rotation

from vpr_ros.model import FORMAT

EIGHT_PLACES = [0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 99]
"""A drive along eight places, back to the first four, and to one that is new; a second each."""
EVERY_FRAME: dict[str, object] = {
    "keyframe.min_interval_s": 0.0,
    "keyframe.max_similarity": 1.0,
    "exclusion.time_s": 4.0,
    "exclusion.count": 0,
    "match.min_similarity": 0.6,
    "match.island_gap": 0,
    "consistency.min_hits": 1,
}
"""Every frame of such a drive is a keyframe, and each revisit a closure by itself."""


def save_grid_model(
    path: Path, width: int = 64, height: int = 48, cell: int = 8, metadata: dict[str, str] | None = None
) -> Path:
    """A real place model without weights: the image averaged over cells, minus its mean, as a unit vector."""
    dim = (width // cell) * (height // cell) * 3
    constants = {
        "shape": np.array([0, dim], np.int64),
        "tiny": np.array(1e-6, np.float32),
        "axes": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["planes"], ["cells"], kernel_shape=[cell, cell], strides=[cell, cell]),
        helper.make_node("Reshape", ["cells", "shape"], ["flat"]),
        helper.make_node("ReduceMean", ["flat"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Sub", ["flat", "mean"], ["centred"]),
        helper.make_node("ReduceL2", ["centred"], ["length"], axes=[1], keepdims=1),
        helper.make_node("Add", ["length", "tiny"], ["positive"]),
        helper.make_node("Div", ["centred", "positive"], ["descriptors"]),
    ]
    graph = helper.make_graph(
        nodes,
        "grid",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", height, width, 3])],
        [helper.make_tensor_value_info("descriptors", TensorProto.FLOAT, ["n", dim])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"format": FORMAT, "name": "grid"} if metadata is None else metadata)
    onnx.save(model, path)
    return path


def texture(seed: int, width: int, height: int) -> NDArray[np.uint8]:
    """(height, width, 3) of random blobs at many scales: rich in corners, unlike every other seed's."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3), np.float32)
    for cells in (4, 8, 16, 32, 64):
        noise = rng.normal(0, 1, (cells, cells, 3)).astype(np.float32)
        total += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC) / cells**0.3
    low, high = np.percentile(total, (1, 99))
    return (np.clip((total - low) / (high - low), 0, 1) * 255).astype(np.uint8)


LEVEL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
"""World x forward, y left, z up <- a level optical frame (x right, y down, z forward) that looks along x."""


def level_camera(x: float, y: float, heading_rad: float, height: float = 1.5) -> NDArray[np.float64]:
    """(4, 4) pose in a world whose z points up, the optical axis turned left from x by `heading_rad`."""
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("z", heading_rad).as_matrix() @ LEVEL
    pose[:3, 3] = x, y, height
    return pose


def touch(folder: Path, *names: str) -> None:
    """Empty files, for readers that list images and do not decode them."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
