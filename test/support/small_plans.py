"""Plans and engines of the imitation of TensorRT."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from fake_tensorrt import NAMES, is_for_rtx
from onnx import TensorProto, helper
from small_worlds import save_grid_model, texture

from vpr_ros.engines.backend import BuildOptions
from vpr_ros.engines.tensorrt.backend import TensorRtBackend
from vpr_ros.engines.tensorrt.engine import TensorRtEngine
from vpr_ros.model import PlaceModel

VERSIONS = tuple(version for version in NAMES if not is_for_rtx(version))
OLD, *TYPED = VERSIONS  # 8.6 and those with strongly typed networks and progress monitors
BATCH = BuildOptions(batch=4)


def images(model: PlaceModel, count: int) -> np.ndarray:
    return np.stack([texture(seed, model.width, model.height) for seed in range(count)])


def quiet(text: str, share: float | None) -> None:
    pass


def engine_of(
    backend: TensorRtBackend, model: PlaceModel, options: BuildOptions = BATCH, content: bytes | None = None
) -> TensorRtEngine:
    return backend.load(model, backend.build(model, content or model.content, options, quiet), options)


def transposed_first(path: Path, readers: int = 1) -> bytes:
    """The grid model with the image transposed as uint8 and cast then, as torch exports it; `readers` casts read it."""
    proto = onnx.load(save_grid_model(path))
    nodes = proto.graph.node
    del nodes[:2]
    nodes.insert(0, helper.make_node("Transpose", ["images"], ["turned"], perm=[0, 3, 1, 2]))
    for index in range(readers):
        nodes.insert(1, helper.make_node("Cast", ["turned"], [f"planes{index or ''}"], to=TensorProto.FLOAT))
    onnx.save(proto, path)
    return path.read_bytes()
