from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from small_worlds import texture

from training.data.image_set import ImageSet
from training.evaluation.descriptor_cache import DescriptorCache
from vpr_ros.types import Image


@dataclass
class MeanColour:
    """Describes an image by its mean colour, and remembers how many it was asked for."""

    name: str = "mean colour"
    id: str = "mean colour 1"
    described: list[int] = field(default_factory=list)

    def describe(self, images: Sequence[Image]) -> NDArray[np.float32]:
        self.described.append(len(images))
        means = np.stack([image.mean((0, 1)) for image in images]) - 128
        return (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def mean_colour() -> MeanColour:
    return MeanColour()


@pytest.fixture
def cache(tmp_path: Path) -> DescriptorCache:
    return DescriptorCache(tmp_path / "cache", batch=3)


WriteImages = Callable[..., ImageSet]


@pytest.fixture
def write_images(tmp_path: Path) -> WriteImages:
    """`write_images("map", [3, 1])` is a set of two images in the folder map: the textures 3 and 1; None is no image."""

    def write(name: str, places: Sequence[int | None], **known: Sequence[str]) -> ImageSet:
        folder = tmp_path / name
        folder.mkdir()
        paths = [folder / f"{number:03d}.png" for number in range(len(places))]
        for path, place in zip(paths, places, strict=True):
            if place is None:
                path.write_bytes(b"no image")
            else:
                cv2.imwrite(str(path), texture(place, 80, 60))
        return ImageSet.of(name, paths, **known)

    return write
