"""What may change between two visits of a place: light, colour, weather, sensor, a little viewpoint. uint8 in and out."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from vpr_ros.images import resize
from vpr_ros.types import Image

TILTED = 0.5
"""Share of the views that are seen by a tilted camera."""


@dataclass(frozen=True, slots=True)
class Crop:
    """A window of an image in shares of its width and height."""

    left: float
    top: float
    width: float
    height: float

    def overlap(self, other: Crop) -> float:
        """Area of the intersection over the mean area of the two windows, in [0, 1]: the graded similarity of two crops."""
        width = min(self.left + self.width, other.left + other.width) - max(self.left, other.left)
        height = min(self.top + self.height, other.top + other.height) - max(self.top, other.top)
        mean_area = (self.width * self.height + other.width * other.height) / 2
        return max(0.0, width) * max(0.0, height) / mean_area

    def cut(self, image: Image) -> Image:
        rows, columns = image.shape[:2]
        x, y = round(self.left * columns), round(self.top * rows)
        return image[y : y + max(1, round(self.height * rows)), x : x + max(1, round(self.width * columns))]


def random_crop(rng: Generator, smallest: float) -> Crop:
    """A window at least `smallest` of the image wide and high."""
    width, height = rng.uniform(smallest, 1.0, 2)
    return Crop(rng.uniform(0, 1 - width), rng.uniform(0, 1 - height), width, height)


def random_view(rng: Generator, image: Image, crop: Crop, width: int, height: int) -> Image:
    """The crop at network size, seen another time: (height, width, 3)."""
    view = resize(np.ascontiguousarray(crop.cut(image)), width, height)
    if rng.random() < TILTED:
        view = cv2.warpPerspective(view, _tilt(rng, width, height), (width, height), borderMode=cv2.BORDER_REFLECT_101)
    if rng.random() < 0.4:
        view = _shade(rng, view)
    view = _recolour(rng, view)
    if rng.random() < 0.3:
        view = _occlude(rng, view)
    if rng.random() < 0.25:
        view = cv2.GaussianBlur(view, (0, 0), rng.uniform(0.5, 1.5))
    if rng.random() < 0.3:
        noise = rng.normal(0, rng.uniform(2, 12), (*view.shape[:2], 1 if rng.random() < 0.5 else 3))
        view = np.clip(view + noise, 0, 255).astype(np.uint8)
    return view


def random_label_view(
    rng: Generator, labels: NDArray[np.uint8], crop: Crop, width: int, height: int, outside: int
) -> NDArray[np.uint8]:
    """The crop of a label map (H, W) at network size, from as many cameras as images: (height, width)."""
    nearest = cv2.INTER_NEAREST
    view = cv2.resize(np.ascontiguousarray(crop.cut(labels)), (width, height), interpolation=nearest)
    if rng.random() < TILTED:
        tilt = _tilt(rng, width, height)
        view = cv2.warpPerspective(view, tilt, (width, height), flags=nearest, borderValue=outside)
    return view.astype(np.uint8, copy=False)


def _tilt(rng: Generator, width: int, height: int) -> NDArray[np.float64]:
    """(3, 3) a small homography: roll, pitch, yaw and height of a camera on a moving robot."""
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    moved = corners + rng.uniform(-0.07, 0.07, (4, 2)).astype(np.float32) * [width, height]
    return cv2.getPerspectiveTransform(corners, moved.astype(np.float32))


def _shade(rng: Generator, image: Image) -> Image:
    """A soft edge of shadow or low sun across the image."""
    height, width = image.shape[:2]
    angle, offset, softness = rng.uniform(0, 2 * np.pi), rng.uniform(-0.3, 0.3), rng.uniform(5, 30)
    y, x = np.mgrid[0:height, 0:width]
    side = np.cos(angle) * (x / width - 0.5) + np.sin(angle) * (y / height - 0.5) - offset
    light = 1.0 + rng.uniform(-0.6, 0.5) / (1.0 + np.exp(-softness * side))
    return np.clip(image * light[..., None], 0, 255).astype(np.uint8)


def _recolour(rng: Generator, image: Image) -> Image:
    """Exposure, contrast, saturation, hue and the colour of the light; one in five turns grey."""
    x = image.astype(np.float32) / 255.0
    grey = x.mean(axis=2, keepdims=True)
    saturation = 0.0 if rng.random() < 0.2 else rng.uniform(0.3, 1.6)
    x = grey + saturation * (x - grey)
    if rng.random() < 0.4:  # foliage and ground change colour with the season: mix the channels
        mix = np.eye(3) + rng.uniform(-0.25, 0.25, (3, 3))
        x = x @ (mix / mix.sum(axis=1, keepdims=True)).T.astype(np.float32)
    x = (x - x.mean()) * rng.uniform(0.6, 1.4) + x.mean()
    x = np.clip(x * rng.uniform(0.6, 1.4) * rng.uniform(0.9, 1.1, 3), 0, 1) ** rng.uniform(0.6, 1.6)
    return (np.clip(x, 0, 1) * 255).astype(np.uint8)


def _occlude(rng: Generator, image: Image) -> Image:
    """A passing vehicle or person: a flat or noisy rectangle in the lower part."""
    height, width = image.shape[:2]
    w, h = int(width * rng.uniform(0.08, 0.3)), int(height * rng.uniform(0.1, 0.45))
    x, y = rng.integers(0, width - w), rng.integers(height // 4, height - h + 1)
    result = image.copy()
    result[y : y + h, x : x + w] = rng.integers(0, 256, 3)
    return result
