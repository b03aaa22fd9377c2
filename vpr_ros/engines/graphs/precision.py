"""The model's graph in a precision."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vpr_ros.engines.graphs.conversion import Conversion
from vpr_ros.engines.graphs.sensitivity import delicate
from vpr_ros.model import PlaceModel


def graph_of(
    model: PlaceModel, precision: str, images: NDArray[np.uint8] | None = None, *, symmetric: bool = True
) -> bytes:
    """The model's ONNX file in `fp32`, `bf16` (the same file: the library is told to), `fp16` or `int8`.

    fp16 keeps in fp32 what `images` show to be delicate; without them, nothing.
    int8 has explicit QuantizeLinear and DequantizeLinear, calibrated on `images` (N, H, W, 3) of the model's size, 64 or
    so. TensorRT takes only `symmetric` activations; the others are closer to fp32 and faster on a CPU.

    Raises EngineError without the images it needs, without the package onnx, and for a graph that it cannot convert.
    """
    if precision in ("fp32", "bf16"):
        return model.content
    graph = Conversion(model, precision, images, symmetric)
    if precision == "fp16" and images is not None:
        return graph.converted(graph.keeping(delicate(graph, images)))
    return graph.converted(graph.candidates)
