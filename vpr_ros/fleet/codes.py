"""Descriptors in half precision: two bytes a number instead of the eight of a float64.

A half has 11 significant bits, so each number of a unit vector is off by at most 2^-11 of itself (numbers below 2^-14 by at most 2^-25),
the vector's length by at most as much, and a cosine of two such vectors by at most about 2^-10; docs/fleet.md has what that is in practice.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vpr_ros.types import Descriptor

LENGTH_ERROR = 1e-3
"""How far from 1 the length of a unit vector may be after that: 2^-11, and as much again for who made it."""


def to_half(descriptor: Descriptor) -> NDArray[np.uint16]:
    """(D,) the bits of the nearest halves (IEEE 754 binary16)."""
    return descriptor.astype(np.float16).view(np.uint16)


def from_half(bits: ArrayLike) -> Descriptor:
    """(D,) of unit length again. Raises ValueError for bits that are no descriptor: not finite, or not of unit length."""
    descriptor: Descriptor = np.asarray(bits, np.uint16).view(np.float16).astype(np.float32)
    length = float(np.linalg.norm(descriptor))
    if not abs(length - 1.0) <= LENGTH_ERROR:  # NaN neither
        raise ValueError(f"a descriptor of length {length:g}, not of unit length")
    return descriptor / np.float32(length)
