"""Images with label images of people: CamVid, Cityscapes and whatever is laid out like them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torch.utils.data import Dataset

from training.data.augment import Crop
from training.data.classes import VOID, ClassTable, read_label_map
from training.options import Options
from vpr_ros.errors import ConfigError, SourceError
from vpr_ros.files import natural_order
from vpr_ros.images import read_image, resize
from vpr_ros.sources.folders import is_image_name
from vpr_ros.types import Image

IGNORED = 255
"""Target of a void pixel: it costs nothing and counts nowhere."""
_CITYSCAPES_IMAGE, _CITYSCAPES_LABELS = "_leftImg8bit", "_gtFine_labelIds"


def images_under(root: Path) -> list[Path]:
    """Every image file in `root` and the folders in it, in natural order. Raises SourceError where there is none."""
    paths = [path for path in root.rglob("*") if is_image_name(path)]
    if not paths:
        raise SourceError(f"{root} holds no images" if root.is_dir() else f"{root}: no such folder of images")
    return sorted(paths, key=natural_order)


def label_file(image: Path, images: Path, labels: Path) -> Path:
    """Of an image under `images`: the PNG of its name in the same place under `labels`, or Cityscapes' name for it.

    Raises SourceError if there is none.
    """
    folder = labels / image.relative_to(images).parent
    usual = folder / f"{image.stem}.png"
    of_cityscapes = folder / f"{image.stem.removesuffix(_CITYSCAPES_IMAGE)}{_CITYSCAPES_LABELS}.png"
    for path in (usual, of_cityscapes):
        if path.exists():
            return path
    raise SourceError(f"{image} has no label image: {usual} is not there")


class LabelledFolder(Options):
    """A folder of images and one of label images, relative to the recipe's `data_root`."""

    images: Path
    labels: Path

    def pairs(self, root: Path) -> list[tuple[Path, Path]]:
        """Image and label files. Raises SourceError for no images, or one without labels."""
        images, labels = root / self.images, root / self.labels
        return [(image, label_file(image, images, labels)) for image in images_under(images)]


def class_count(table: ClassTable) -> int:
    """Channels of a network that answers with the classes of a table: channel c is class id c.

    Raises ConfigError where the classes that are not void are not numbered from 0.
    """
    ids = sorted(number for number, semantic in table.classes.items() if semantic.cluster != VOID)
    if ids != list(range(len(ids))):
        raise ConfigError("a network can only learn a table whose classes, without void, are numbered 0, 1, 2, ...")
    return len(ids)


def read_targets(path: Path, table: ClassTable) -> NDArray[np.uint8]:
    """(H, W) class ids, `IGNORED` where void. Raises ImageError, and SourceError for an id that the table lacks."""
    labels = read_label_map(path)
    table.check_ids(labels, path)
    return np.where(labels < class_count(table), labels, IGNORED).astype(np.uint8)


class Crops(Options):
    """Windows of random size and place, mirrored half of the time, under other light."""

    smallest: float = Field(default=0.5, gt=0, le=1)
    """Least share of the image's width and height."""
    stretch: float = Field(default=0.15, ge=0, lt=1)
    """A window's shape differs from the image's by up to this share."""
    light: float = Field(default=0.4, ge=0, lt=1)
    """Brightness, contrast and saturation change by up to this share."""
    grey: float = Field(default=0.2, ge=0, le=1)
    """Share of the images without colour, for cameras that see none."""

    def draw(self, rng: Generator) -> Crop:
        size = rng.uniform(self.smallest, 1.0)
        width, height = np.minimum(1.0, size * rng.uniform(1 - self.stretch, 1 + self.stretch, 2))
        return Crop(rng.uniform(0, 1 - width), rng.uniform(0, 1 - height), width, height)

    def recolour(self, rng: Generator, image: Image) -> Image:
        brightness, contrast, saturation = rng.uniform(1 - self.light, 1 + self.light, 3)
        pixels = image.astype(np.float32)
        grey = pixels.mean(axis=2, keepdims=True)
        pixels = grey + (0.0 if rng.random() < self.grey else saturation) * (pixels - grey)
        mean = pixels.mean()
        return np.clip(brightness * (mean + contrast * (pixels - mean)), 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class CropBatches(Dataset[tuple[Tensor, Tensor]]):
    """Batch k, a function of (seed, k): (B, H, W, 3) uint8 images and (B, H, W) int64 targets."""

    pairs: list[tuple[Path, Path]]
    table: ClassTable
    crops: Crops
    size: int
    """Images in a batch."""
    width: int
    height: int
    seed: int

    def __getitem__(self, k: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng((self.seed, k))
        chosen = rng.choice(len(self.pairs), self.size, replace=len(self.pairs) < self.size)
        images, targets = zip(*(self._crop(rng, *self.pairs[index]) for index in chosen), strict=True)
        return torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(targets)).long()

    def _crop(self, rng: Generator, image_path: Path, label_path: Path) -> tuple[Image, NDArray[np.uint8]]:
        image, targets = read_image(image_path), read_targets(label_path, self.table)
        if image.shape[:2] != targets.shape:
            raise SourceError(f"{label_path} is not of the size of {image_path}")
        crop = self.crops.draw(rng)
        image = resize(np.ascontiguousarray(crop.cut(image)), self.width, self.height)
        targets = cv2.resize(crop.cut(targets), (self.width, self.height), interpolation=cv2.INTER_NEAREST)
        if rng.random() < 0.5:
            image, targets = image[:, ::-1], targets[:, ::-1]
        return self.crops.recolour(rng, image), targets
