"""The grey image that local features see: shrunk, and with contrast enough to be seen.

Descriptors still recognise dark, foggy and low-contrast pictures, but SIFT finds nothing in them: its contrast threshold is
absolute. A picture that uses few of the 256 levels is therefore stretched. One that uses enough is left as it is, bit by bit.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vpr_ros.types import Image, Mask

Grey = NDArray[np.uint8]
"""(H, W) uint8."""
MIN_RANGE = 200
"""Levels between the 1st and the 99th percentile that a picture is stretched to; most pictures have more."""
MAX_GAIN = 16.0
"""A range below 10 levels is mostly noise, quantisation and the blocks of JPEG: it is not stretched to the full."""
_LEVELS = np.arange(256)


def shrunk_grey(image: Image, max_width: int) -> tuple[Grey, float]:
    """(H, W, 3) RGB -> (h, w) grey, at most `max_width` px wide; and its scale, at most 1."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    scale = min(1.0, max_width / grey.shape[1])
    if scale < 1.0:
        grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return grey, scale


def stretched(grey: Grey, mask: Mask | None = None) -> Grey:
    """Stretch the levels so that those between the 1st and 99th percentile span MIN_RANGE, or by MAX_GAIN if that is less.

    Linear and about the middle of that range, so that nothing else is clipped needlessly. What spans MIN_RANGE already is
    returned as it is: stretching twice is stretching once. Of a mask over the picture only what is at least 0.5 decides: a
    bumper close by is sharp in any fog.
    """
    counted = None if mask is None else (_fitted(mask, grey) >= 0.5).astype(np.uint8)
    counts = np.cumsum(cv2.calcHist([grey], [0], counted, [256], [0, 256]))
    low, high = np.searchsorted(counts, [0.01 * counts[-1], 0.99 * counts[-1]])
    if high - low >= MIN_RANGE:
        return grey
    gain = min(MAX_GAIN, MIN_RANGE / max(1, high - low))
    middle = (low + high) / 2
    centre = np.clip(middle, gain * (middle - low), 255 - gain * (high - middle))
    return cv2.LUT(grey, np.clip(np.rint((_LEVELS - middle) * gain + centre), 0, 255).astype(np.uint8))


def both(a: Mask | None, b: Mask | None) -> Mask | None:
    """Where both masks count, in the size of the second."""
    if a is None or b is None:
        return b if a is None else a
    return np.minimum(_fitted(a, b), b)


def _fitted(mask: Mask, like: NDArray[Any]) -> Mask:
    if mask.shape == like.shape:
        return mask
    return cv2.resize(mask, like.shape[::-1], interpolation=cv2.INTER_NEAREST)
