"""What never changes in a camera's picture while the robot moves: its own body, dirt on the lens, the text of a display.

Learnt from the drive itself. At each pixel the direction of the grey gradient is averaged over views that clearly differ. Where the
world passes by, directions cancel out; of what is fixed to the camera they add up. The length of the mean, in a small
window, over the mean length is the coherence: 1 for what never changes, about 1 / sqrt(views) for what always does. Directions
and not grey values, so that the light may change.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from vpr_ros.recognition.grey import Grey
from vpr_ros.types import Mask

MEMORY = 16
"""Views over which the mean is taken: what moves away is unlearnt in about five, what is new is learnt in about twenty."""
MIN_VIEWS = 10
MAX_LIKENESS = 0.7
"""Views more alike than this teach nothing: the robot stands, or crawls. A body in a quarter of the picture gives 0.5."""
ENOUGH = 0.2
"""Mean strength of a gradient that counts in full for how alike two views are."""
MIN_COHERENCE = 0.65
WINDOW_PX = 9
WEAK = 4.0
"""Grey levels per px: a gradient of this strength counts half. Weaker ones are noise."""
MIN_TEXTURE = 0.15
"""Mean weight of a window that has gradients to speak of."""

Field = NDArray[np.float32]


class StaticRegion:
    """Of one camera. Feed it grey pictures of one size, as they come; another size starts anew."""

    def __init__(self) -> None:
        self._last: Field | None = None
        self._mask: Mask | None = None
        self._forget()

    def observe(self, grey: Grey) -> bool:
        """Learn from a picture (h, w), if it clearly differs from the last one learnt from; whether it does."""
        directions = _directions(grey)
        strength = cv2.magnitude(directions[0], directions[1])
        if self._last is None or self._last.shape != directions.shape:
            self._forget()
            self._mean, self._strength = np.zeros_like(directions), np.zeros_like(strength)
        elif _likeness(directions, self._last) > MAX_LIKENESS:
            return False
        self._last = directions
        self._views += 1
        share = max(1 / self._views, 1 / MEMORY)
        for mean, new in ((self._mean[0], directions[0]), (self._mean[1], directions[1]), (self._strength, strength)):
            cv2.accumulateWeighted(new, mean, share)
        self._mask = None
        return True

    @property
    def mask(self) -> Mask | None:
        """(h, w): 0 where the picture never changes, else 1. None while fewer than MIN_VIEWS views are known."""
        if self._mask is None and self._views >= MIN_VIEWS:
            window = (WINDOW_PX, WINDOW_PX)
            length, strength = cv2.blur(cv2.magnitude(*self._mean), window), cv2.blur(self._strength, window)
            is_static = (length > MIN_COHERENCE * strength) & (strength > MIN_TEXTURE)
            self._mask = (~is_static).astype(np.float32)
        return self._mask

    @property
    def share(self) -> float:
        """How much of the picture never changes, from 0 to 1."""
        return 0.0 if self.mask is None else float(1 - self.mask.mean())

    def _forget(self) -> None:
        self._views = 0
        self._mask = None
        self._mean = np.zeros((2, 0, 0), np.float32)
        self._strength = np.zeros((0, 0), np.float32)


def _directions(grey: Grey) -> Field:
    """(2, h, w): the grey gradient in x and y, its length l shortened to l / (l + WEAK)."""
    smooth = cv2.GaussianBlur(grey, (0, 0), 1.0)
    x, y = (cv2.Sobel(smooth, cv2.CV_32F, *order, scale=1 / 8) for order in ((1, 0), (0, 1)))
    divisor = cv2.magnitude(x, y) + WEAK
    return np.stack([cv2.divide(x, divisor), cv2.divide(y, divisor)])


def _likeness(a: Field, b: Field) -> float:
    """1 for equal directions everywhere, about 0 for other views.

    Each pixel counts by its strength, but no more than ENOUGH: a sharp bumper would outweigh all of a foggy world.
    """
    strength = cv2.sqrt(cv2.magnitude(a[0], a[1]) * cv2.magnitude(b[0], b[1])) + 1e-6
    weight = np.minimum(strength, ENOUGH)
    cosine = (a[0] * b[0] + a[1] * b[1]) / (strength * strength)
    return float((weight * cosine).sum() / weight.sum())
