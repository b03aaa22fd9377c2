"""Tests for machines with an NVIDIA GPU: `pytest test/gpu`. Elsewhere each is skipped and says what is missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from masked_models import save_masked_grid_model
from numpy.typing import NDArray
from small_worlds import texture

from vpr_ros.engines.onnxruntime_engine import OnnxRuntimeBackend
from vpr_ros.engines.tensorrt.backend import TensorRtBackend
from vpr_ros.engines.tensorrt.rtx import TensorRtRtxBackend
from vpr_ros.model import PlaceModel, shipped_model


def usable(backend: TensorRtBackend | OnnxRuntimeBackend) -> None:
    if missing := backend.missing():
        pytest.skip(f"{backend.name}: {missing}")


@pytest.fixture(params=[TensorRtBackend, TensorRtRtxBackend])
def tensorrt(request: pytest.FixtureRequest) -> TensorRtBackend:
    """TensorRT, and TensorRT for RTX."""
    backend = request.param()
    usable(backend)
    return backend


@pytest.fixture(params=["cuda", "tensorrt"])
def onnxruntime_gpu(request: pytest.FixtureRequest, tmp_path: Path) -> OnnxRuntimeBackend:
    backend = OnnxRuntimeBackend(request.param, cache=tmp_path)
    usable(backend)
    return backend


@pytest.fixture(scope="session", params=["shipped", "masked"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> PlaceModel:
    """The model that ships, whose first operator TensorRT cannot read, and a small one with a mask."""
    if request.param == "shipped":
        return PlaceModel.open(shipped_model())
    return PlaceModel.open(save_masked_grid_model(tmp_path_factory.mktemp("masked") / "masked.onnx"))


@pytest.fixture(scope="session")
def images(model: PlaceModel) -> NDArray[np.uint8]:
    return np.stack([texture(seed, model.width, model.height) for seed in range(16)])
