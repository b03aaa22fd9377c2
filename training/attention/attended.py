"""What every attention module makes of a feature map (N, C, h, w)."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Attended(NamedTuple):
    """The map, and how much its positions count.

    - `features` (N, C, h, w): attended over channels, or element by element;
    - `weight` (N, 1, h, w), >= 0: how much each position counts, for the pooling; None counts all the same. It is kept
      apart because NetVLAD makes every local descriptor a unit vector: multiplied into the features it would cancel,
      m x / |m x| = x / |x|;
    - `mask` (N, 1, h, w), within 0 to 1: what guidance supervises and a robot can show; None where a module has none.
    """

    features: Tensor
    weight: Tensor | None = None
    mask: Tensor | None = None
