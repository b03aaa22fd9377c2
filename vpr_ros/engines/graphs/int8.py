"""Eight-bit integers: products take and give quantised values, calibrated on images."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vpr_ros.engines.graphs.onnx_graph import constants_of, kind_of
from vpr_ros.errors import EngineError

if TYPE_CHECKING:
    from onnx import ModelProto

_QUANTISABLE = ("Conv", "Gemm", "MatMul")
_OLDEST_OPSET = 13
"""The first that quantises each channel by itself."""


def simplified(proto: ModelProto) -> ModelProto:
    """With constants folded and shapes known, as the quantiser asks for."""
    import onnx
    from onnx import version_converter
    from onnxruntime.quantization.shape_inference import quant_pre_process

    opset = max(entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx"))
    if opset < _OLDEST_OPSET:
        proto = version_converter.convert_version(proto, _OLDEST_OPSET)
    with tempfile.TemporaryDirectory() as folder:
        given, path = Path(folder) / "given.onnx", Path(folder) / "simplified.onnx"
        onnx.save(proto, given)  # of a model in memory it would lose the constants
        quant_pre_process(given, path, skip_symbolic_shape=True)  # which needs sympy, and only transformers need it
        return onnx.load(path)


def quantisable(proto: ModelProto) -> dict[str, str]:
    """Products with constant weights, but for the first and the last. Raises EngineError for a graph without any.

    The first sees three channels, with which int8 is slower than fp32; the last whitens, is cheap and has nothing behind
    it that would average its errors.
    """
    constants = constants_of(proto.graph)
    found = [node for node in proto.graph.node if node.op_type in _QUANTISABLE and node.input[1] in constants]
    if not found:
        raise EngineError("int8 changes nothing in this model: it has no convolution and no product with weights")
    return {node.name: kind_of(node, constants) for node in found[1:-1] or found}


class _CalibrationImages:
    """One by one, as ONNX Runtime's quantiser reads them."""

    def __init__(self, name: str, images: NDArray[np.uint8]) -> None:
        self._images = ({name: image[None]} for image in images)

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        return next(self._images, None)


def quantised(proto: ModelProto, chosen: dict[str, str], images: NDArray[np.uint8], symmetric: bool) -> ModelProto:
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    reader = _CalibrationImages(proto.graph.input[0].name, images)
    with tempfile.TemporaryDirectory() as folder:
        given, path = Path(folder) / "given.onnx", Path(folder) / "quantised.onnx"
        onnx.save(proto, given)
        quantize_static(
            given,
            path,
            reader,
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(_QUANTISABLE),
            nodes_to_quantize=list(chosen),
            per_channel=True,
            activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={
                "ActivationSymmetric": symmetric,
                "WeightSymmetric": True,
                # only what goes into a product: behind it is a ReLU, whose range is smaller
                "OpTypesToExcludeOutputQuantization": list(_QUANTISABLE),
            },
        )
        return onnx.load(path)
