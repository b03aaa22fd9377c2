"""Parts of the picture that the user excludes from verification: rectangles and mask images, per camera."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from vpr_ros.config import per_camera
from vpr_ros.errors import ConfigError
from vpr_ros.files import expanded, read_regular_file
from vpr_ros.images import decode_grey
from vpr_ros.types import Mask

NAME = "verification.ignore"
MAX_ASPECT_DIFFERENCE = 0.02
"""Of a mask image and the camera's: a few pixels may be cut off."""
RESOLUTION_PX = 400
"""Width of a mask in memory, that of the shrunk picture."""
EXAMPLE = "x y width height are shares of the picture, like 0 0.75 1 0.25 for its lowest quarter"

Region = tuple[float, float, float, float] | NDArray[np.uint8]
"""A rectangle, or a mask image (h, w), dark where it ignores."""


class IgnoredRegions:
    """What `verification.ignore` names: "0 0.75 1 0.25, 0.4 0 0.2 0.1" or, of a rig, "front: 0 0.75 1 0.25; rear: mask.png".

    Regions are separated by commas, cameras by semicolons; what names no camera holds for all. Paths are relative to the
    working folder. Raises ConfigError for what is none of this, a mask image that cannot be read, and a camera that is not
    among `cameras` (those of `node.cameras`; none are known where that is empty).
    """

    def __init__(self, text: str, cameras: Iterable[str] = ()) -> None:
        self._regions: dict[str, list[Region]] = {}
        for camera, part in per_camera(NAME, text, set(cameras)):
            self._regions.setdefault(camera, []).extend(_region(item.strip()) for item in part.split(","))
        self._mask = lru_cache(64)(self._draw)

    def __bool__(self) -> bool:
        return bool(self._regions)

    def mask(self, camera: str, width: int, height: int) -> Mask | None:
        """0 where the picture of `width` x `height` px is ignored, else 1; None where that is nowhere.

        Raises ConfigError for a mask image of another aspect, or where nothing of the picture is left.
        """
        return self._mask(camera, width, height)

    def _draw(self, camera: str, width: int, height: int) -> Mask | None:
        regions = [region for name in {"", camera} for region in self._regions.get(name, [])]
        if not regions:
            return None
        columns = min(width, RESOLUTION_PX)
        mask = np.ones((max(1, round(height * columns / width)), columns), np.float32)
        for region in regions:
            if isinstance(region, tuple):
                x, y, w, h = np.array(region) * [*mask.shape[::-1], *mask.shape[::-1]]
                mask[round(y) : round(y + h), round(x) : round(x + w)] = 0.0
                continue
            rows_of, columns_of = region.shape
            if abs(columns_of * height / (width * rows_of) - 1) > MAX_ASPECT_DIFFERENCE:
                raise ConfigError(
                    f"{NAME}: the mask image has {columns_of} x {rows_of} px, the camera's pictures {width} x {height}: "
                    "make it of their size"
                )
            resized = cv2.resize(region, mask.shape[::-1], interpolation=cv2.INTER_AREA)
            mask[resized < 128] = 0.0
        if not mask.any():
            raise ConfigError(
                f"{NAME} leaves nothing of the picture; to switch verification off set verification.enabled"
            )
        return mask


def _region(text: str) -> Region:
    words = text.split()
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        return _read(text)
    if len(numbers) != 4:
        raise ConfigError(f"{NAME}: {text!r} is neither a rectangle nor a mask image; {EXAMPLE}")
    x, y, width, height = numbers
    slack = 1 + 1e-6
    if not (0 <= x < 1 and 0 <= y < 1 and 0 < width <= slack - x and 0 < height <= slack - y):
        raise ConfigError(f"{NAME}: the rectangle {text} is not within the picture; {EXAMPLE}")
    return x, y, width, height


def _read(name: str) -> NDArray[np.uint8]:
    path = expanded(name).absolute()
    try:
        content = read_regular_file(path)
    except OSError as error:
        raise ConfigError(f"{NAME}: cannot read the mask image {path}: {error.strerror}") from error
    image = decode_grey(content)
    if image is None:
        raise ConfigError(f"{NAME}: {path} is no image; a mask is a PNG, black where the picture is ignored")
    return image
