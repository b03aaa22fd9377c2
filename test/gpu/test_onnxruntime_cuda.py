"""ONNX Runtime's CUDA and TensorRT providers on a GPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from engine_checks import failures
from numpy.typing import NDArray

from vpr_ros.engines.onnxruntime_engine import OnnxRuntimeBackend
from vpr_ros.model import PlaceModel


def test_every_check_passes(
    onnxruntime_gpu: OnnxRuntimeBackend, model: PlaceModel, images: NDArray[np.uint8], tmp_path: Path
) -> None:
    assert failures(onnxruntime_gpu, model, images, tmp_path) == []


def test_the_gpu_is_in_the_identity(onnxruntime_gpu: OnnxRuntimeBackend) -> None:
    identity = onnxruntime_gpu.identity()
    assert "ONNX Runtime" in identity["library"]
    assert identity["device"]
