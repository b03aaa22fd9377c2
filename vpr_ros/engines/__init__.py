"""Engines run a model. `open_engine` chooses one."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vpr_ros.config import EngineConfig
from vpr_ros.engines.onnxruntime_engine import OnnxRuntimeEngine
from vpr_ros.images import resize
from vpr_ros.model import PlaceModel
from vpr_ros.types import Descriptor, Image, Mask


class Engine(Protocol):
    """Anything that turns images of the model's size into descriptors."""

    model: PlaceModel
    name: str

    def describe(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, H, W, 3) RGB uint8 -> (N, D) float32, unit length."""

    def describe_with_mask(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """As `describe`, and masks (N, h, w) float32 in [0, 1]. Raises ModelError for a model that has none."""


def open_engine(model: PlaceModel, config: EngineConfig) -> Engine:
    """The engine that `config.backend` names; `auto` is ONNX Runtime, the only one there is yet."""
    return OnnxRuntimeEngine(model, threads=config.threads)


def describe_image(engine: Engine, image: Image) -> Descriptor:
    """(D,) descriptor of one image of any size."""
    model = engine.model
    return engine.describe(resize(image, model.width, model.height)[None])[0]


def describe_image_with_mask(engine: Engine, image: Image) -> tuple[Descriptor, Mask]:
    """(D,) descriptor and (h, w) mask of one image of any size. Raises ModelError for a model without a mask."""
    model = engine.model
    descriptors, masks = engine.describe_with_mask(resize(image, model.width, model.height)[None])
    return descriptors[0], masks[0]
