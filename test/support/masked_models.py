"""The grid model of `small_worlds` with attention: its mask is the brightness of each cell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from small_worlds import save_grid_model

CELLS = (6, 8)
MASK = ("mask", TensorProto.FLOAT, ["n", *CELLS])


def save_masked_grid_model(
    path: Path, output: tuple[str, int, list[int | str]] = MASK, last: tuple[str, dict[str, int]] = ("Identity", {})
) -> Path:
    """For images of 64 x 48 px. The `output` (name, type, shape) and the `last` operator can be those of no mask."""
    proto = onnx.load(save_grid_model(path))
    graph = proto.graph
    graph.initializer.append(numpy_helper.from_array(np.array(255, np.float32), "white"))
    graph.node.extend(
        [
            helper.make_node("ReduceMean", ["cells"], ["grey"], axes=[1], keepdims=0),
            helper.make_node("Div", ["grey", "white"], ["brightness"]),
            helper.make_node(last[0], ["brightness"], [output[0]], **last[1]),
        ]
    )
    graph.output.append(helper.make_tensor_value_info(*output))
    onnx.save(proto, path)
    return path
