"""ONNX Runtime's CUDA and TensorRT providers on a GPU."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vpr_ros.engines.onnxruntime_engine import OnnxRuntimeBackend, OnnxRuntimeEngine
from vpr_ros.engines.precision import graph_of
from vpr_ros.engines.selftest import selftest, text
from vpr_ros.model import PlaceModel


def test_the_self_test_passes(
    onnxruntime_gpu: OnnxRuntimeBackend, model: PlaceModel, images: NDArray[np.uint8]
) -> None:
    if model.mask_size is not None:  # the small model, which has nothing to quantise
        onnxruntime_gpu.precisions = tuple(precision for precision in onnxruntime_gpu.precisions if precision != "int8")
    reference = OnnxRuntimeEngine(model)
    result = selftest(
        model, images, [onnxruntime_gpu], lambda said, share: None, reference=reference, graph_of=graph_of
    )
    assert result.passed, text(result)


def test_the_gpu_is_in_the_identity(onnxruntime_gpu: OnnxRuntimeBackend) -> None:
    identity = onnxruntime_gpu.identity()
    assert "ONNX Runtime" in identity["library"]
    assert identity["device"]
