"""Is what lies at the same pixels of two images the place, or the robot's own body?

A bumper, a cage, leaves on the lens or a display's text look alike in all of a camera's images, so their features match at any two
places, all at the pixel where they were. So do those of a true revisit from the very same pose, but there *everything*
matches: the features that stay are spread as all features are. Of a body they are crowded where the body is, and
elsewhere there are none. That decides it, on the two images alone: features that stay are evidence if

- the cells of the picture that hold any feature hold one that stays, for at least MIN_SHARE of these cells; and
- these cells are at least MIN_EVENNESS as many as if each feature stayed or not by chance, whatever its neighbours do; and
- they are at least MIN_PICTURE_SHARE of all cells, or some of the features among them, more than 1 - MANY, do not stay.

The first refuses a few specks of dust, evenly spread as they may be; the second a body beside a scene; the third a body that is
all there is to see, at night or in fog: there all of it stays, in a part of the picture. A cage at night fills as much of
the picture as many a scene does, and two pictures alone cannot tell it from one: that is left to `static_region.py`.
Measured over 30 pairs each, the first two: the same view with noise or in somewhat other light has a share of .63 to .99 and an
evenness of .73 to 1.03; bodies of 10 to 40 % of the picture have .11 to .57 and .33 to .74. Half of the views that SIFT still finds
again in quite other light (webcams, hours or seasons apart) are refused for it: the price of the above.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vpr_ros.types import LocalFeatures

CELL_PX = 16
"""Side of a cell in px of the shrunk image: some three features each, where there are any."""
MIN_SHARE = 0.45
MIN_EVENNESS = 0.75
MIN_PICTURE_SHARE = 0.3
MANY = 0.6
MAX_ASPECT_DIFFERENCE = 0.02

Flags = NDArray[np.bool_]
Indices = NDArray[np.int64]


def on_body(
    query: LocalFeatures,
    match: LocalFeatures,
    nearest: Indices,
    back: Indices,
    pairs: Indices,
    max_width_px: int,
    min_motion_px: float,
) -> Flags:
    """(M,) which of the feature matches `pairs` (M, 2) stay at their pixel although the images are not of one view.

    `nearest` (N,) and `back` (K,) are the nearest descriptor in the other image, of each feature of the query and of the match.
    Where an image's size is not known, or the two have another aspect, nothing is.
    """
    nothing = np.zeros(len(pairs), bool)
    if not len(pairs) or min_motion_px <= 0:
        return nothing
    if query.size_px is None or match.size_px is None:
        return nothing
    (width, height), (match_width, match_height) = query.size_px, match.size_px
    if abs(width * match_height / (match_width * height) - 1) > MAX_ASPECT_DIFFERENCE:
        return nothing
    shrunk = min(width, max_width_px) / width
    cells = np.maximum(1, np.rint(np.array([width, height]) * shrunk / CELL_PX))
    here, there = _in_cells(query, cells), _in_cells(match, cells)
    limit = min_motion_px / CELL_PX
    stays = np.abs(here - there[nearest]).max(axis=1) <= limit
    if not stays[pairs[:, 0]].any():
        return nothing
    stays_back = np.abs(there - here[back]).max(axis=1) <= limit
    if is_everywhere(here, stays, cells) and is_everywhere(there, stays_back, cells):
        return nothing
    return stays[pairs[:, 0]]


def is_everywhere(positions: NDArray[np.float64], stays: Flags, cells: NDArray[np.float64]) -> bool:
    """Whether the features at `positions` (N, 2), in cells of a picture of `cells` (2,) columns and rows, stay all over it."""
    numbers = np.floor(positions).astype(np.int64)
    _, cell, count = np.unique(numbers[:, 0] * 100_000 + numbers[:, 1], return_inverse=True, return_counts=True)
    has_still = np.bincount(cell, weights=stays) > 0
    by_chance = np.mean(1 - (1 - stays.mean()) ** count)
    return bool(
        has_still.mean() >= max(MIN_SHARE, MIN_EVENNESS * by_chance)
        and (has_still.sum() >= MIN_PICTURE_SHARE * cells.prod() or stays.mean() < MANY)
    )


def _in_cells(features: LocalFeatures, cells: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 2) points in units of cells, of which the picture has `cells` (2,)."""
    return (features.points + 0.5) * (cells / np.array(features.size_px))
