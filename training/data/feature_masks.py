"""What an image should be seen without, at the resolution of a network's features: one byte per position."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

KEEP, IGNORE = 255, 0
"""Pixels of a mask."""
UNKNOWN = 255
"""A stored share where there is no label map."""
LARGEST_SHARE = 254
"""The stored form of 1."""


def at_features(mask: NDArray[np.uint8], height: int, width: int) -> NDArray[np.float32]:
    """(height, width): of each position of a feature map the share of its area that a mask (H, W) keeps, in [0, 1].

    An average over the area: docs/methods.md 2.2's bicubic samples 4 x 4 of the 16 x 16 pixels under a position, so that it misses
    what is thin, leaves [0, 1], and with its corners aligned is half a position off at the borders.
    """
    shares = cv2.resize(mask.astype(np.float32) / KEEP, (width, height), interpolation=cv2.INTER_AREA)
    return shares.clip(0, 1)


def to_target(stored: Tensor) -> Tensor:
    """Float32 shares in [0, 1] of the same shape, NaN where `UNKNOWN`, from what `Guidance.precompute` stores."""
    return (stored / LARGEST_SHARE).masked_fill(stored == UNKNOWN, torch.nan)
