"""Descriptors of images of any size: an engine takes its model's only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vpr_ros.engines.backend import Engine
from vpr_ros.images import resize
from vpr_ros.model import PlaceModel
from vpr_ros.types import Descriptor, Image, Mask


def describe_image(engine: Engine, image: Image) -> Descriptor:
    """(D,) descriptor of one image of any size."""
    return describe_images(engine, [image])[0]


def describe_image_with_mask(engine: Engine, image: Image) -> tuple[Descriptor, Mask]:
    """(D,) descriptor and (h, w) mask of one image of any size. Raises ModelError for a model without a mask."""
    descriptors, masks = describe_images_with_masks(engine, [image])
    return descriptors[0], masks[0]


def describe_images(engine: Engine, images: Sequence[Image]) -> NDArray[np.float32]:
    """(N, D) descriptors of images of any sizes, in one call of the engine."""
    return engine.describe(_resized(engine.model, images))


def describe_images_with_masks(
    engine: Engine, images: Sequence[Image]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(N, D) descriptors and (N, h, w) masks of images of any sizes. Raises ModelError for a model without a mask."""
    return engine.describe_with_mask(_resized(engine.model, images))


def _resized(model: PlaceModel, images: Sequence[Image]) -> NDArray[np.uint8]:
    return np.stack([resize(image, model.width, model.height) for image in images])
