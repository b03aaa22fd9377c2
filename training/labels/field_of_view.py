"""Graded similarity from 2-D poses: the overlap of two fields of view (GCL, docs/methods.md 1.3)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.sparse import csr_array

from training.data.image_set import ImageSet
from training.data.planar import within_gate
from training.labels.pairs import Pairs, pairs_within, require, symmetric_matrix
from training.options import Options

Floats = NDArray[np.float64]

_CHUNK = 1 << 13
"""Pairs computed at a time: their intermediate arrays stay in the processor's cache."""
_ANGLE_ROUNDING_RAD = 1e-12
_ROUNDING = 1e-7
"""Overlaps below are rounding: an arc cosine near 1 has half the digits of its argument."""


class FieldOfView(Options):
    """psi is the overlap of two circular sectors: apex at the camera, opening `angle_deg`, `radius_m`.

    `measure` "ratio" is the intersection over one sector's area (psi = 0.5 at 45 degrees of yaw and 90 of opening), "iou"
    over the union. `max_heading_deg` makes psi 0 for cameras that look further apart: two that face each other overlap
    on the ground but see opposite facades. None is no such gate. Walls that hide one view from the other are not known.
    """

    kind: Literal["field_of_view"] = "field_of_view"
    angle_deg: float = Field(default=90.0, gt=0, le=180)
    radius_m: float = Field(default=50.0, gt=0)
    measure: Literal["ratio", "iou"] = "ratio"
    max_heading_deg: float | None = Field(default=None, ge=0, le=180)

    def similarity(self, images: ImageSet) -> csr_array:
        """psi of all pairs (see `Source.similarity`). Raises SourceError for an unknown position or heading."""
        require(np.isfinite(images.positions_m).all(axis=1), "position", images.name)
        require(np.isfinite(images.headings_rad), "heading", images.name)
        poses = np.column_stack([images.positions_m, images.headings_rad])

        def overlapping() -> Iterator[Pairs]:
            for i, j in pairs_within(images.positions_m, 2 * self.radius_m):
                psi = self.overlap(poses[i], poses[j])
                yield i[psi > 0], j[psi > 0], psi[psi > 0]

        return symmetric_matrix(len(images), overlapping())

    def overlap(self, first: Floats, second: Floats) -> NDArray[np.float32]:
        """psi (M,) of M pairs of poses (M, 3) as (x, y in m, heading in rad counter-clockwise from +x). Exact to 1e-7."""
        psi = np.zeros(len(first), np.float32)
        for start in range(0, len(first), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            psi[chunk] = self._overlap(first[chunk], second[chunk])
        return psi

    def _overlap(self, first: Floats, second: Floats) -> Floats:
        east, north, turn = (second - first).T  # first of all: UTM coordinates leave too few digits for an area
        distance = np.hypot(east, north) / self.radius_m
        near = (distance < 2) & within_gate(first[:, 2], second[:, 2], self.max_heading_deg)
        bearing = np.arctan2(north, east)[near] - first[near, 2]
        half = np.radians(self.angle_deg) / 2
        ratio = intersection(distance[near], bearing, turn[near], half) / half
        psi = np.zeros(len(first))
        psi[near] = np.where(ratio < _ROUNDING, 0.0, ratio.clip(max=1.0))
        return psi if self.measure == "ratio" else psi / (2.0 - psi)


def intersection(distance: Floats, bearing: Floats, turn: Floats, half: float) -> Floats:
    """Area (M,) that two sectors of radius 1 and opening 2 `half` <= pi share; that of one sector is `half`.

    The first has its apex at the origin and looks along +x; the second's apex is `distance` away at `bearing`, and it
    looks along `turn`; each (M,), angles in rad.

    By Green's theorem, half the integral of x dy - y dx along the edge of the intersection, which is made of the parts of
    each sector's edge that lie in the other. Straight edges of the first lead through the origin and add nothing; so
    neither does one of the second that lies on them, counted or not. Arcs coincide where the apexes do: then the first's
    counts towards `bearing` and the second's away from it, which is the limit and right for any bearing.
    """
    start, stop, inside = _arc_inside(distance, bearing, turn, half)
    area = np.sum(stop - start, axis=1, where=inside)
    seen_from_second = bearing + np.pi - turn
    start, stop, inside = _arc_inside(distance, seen_from_second, -turn, half)
    shift = np.sin(start - seen_from_second[:, None]) - np.sin(stop - seen_from_second[:, None])
    area += np.sum(stop - start + distance[:, None] * shift, axis=1, where=inside)
    area += _edge_inside(distance, bearing, turn - half, half) - _edge_inside(distance, bearing, turn + half, half)
    return area / 2


def _arc_inside(
    distance: Floats, bearing: Floats, turn: Floats, half: float
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """The first sector's arc cut where it enters or leaves the second: start and stop angle of each piece, and whether it
    is inside; each (M, 7)."""
    # the arc is inside the second's disk, and on the inner side of each of its edges, within `width` around `centre`
    centre = np.column_stack([bearing, turn + np.pi / 2 - half, turn - np.pi / 2 + half])
    depth = distance[:, None] * np.cos(bearing[:, None] - centre)
    depth[:, 0] /= 2
    width = np.arccos(depth.clip(-1, 1))
    crossings = _wrapped(np.hstack([centre - width, centre + width])).clip(-half, half)
    ends = np.full((len(distance), 2), [-half, half])
    cuts = np.sort(np.hstack([crossings, ends]), axis=1)
    start, stop = cuts[:, :-1], cuts[:, 1:]
    middle = (start + stop) / 2
    inside = np.ones(middle.shape, bool)
    for k in range(3):
        inside &= np.abs(_wrapped(middle - centre[:, k, None])) <= width[:, k, None] + _ANGLE_ROUNDING_RAD
    return start, stop, inside


def _edge_inside(distance: Floats, bearing: Floats, direction: Floats, half: float) -> Floats:
    """Integral (M,) of x dy - y dx along the second sector's edge towards `direction`, where it is in the first."""
    along, across = distance * np.cos(direction - bearing), distance * np.sin(direction - bearing)
    chord = np.sqrt((1 - across**2).clip(min=0))
    enter, leave = np.maximum(0, -along - chord), np.minimum(1, chord - along)
    for normal in (np.pi / 2 - half, half - np.pi / 2):
        rate = np.cos(direction - normal)  # never 0: no double is exactly pi / 2
        crossing = -distance * np.cos(bearing - normal) / rate
        enter = np.where(rate > 0, np.maximum(enter, crossing), enter)
        leave = np.where(rate < 0, np.minimum(leave, crossing), leave)
    return across * (leave - enter).clip(min=0)


def _wrapped(angle: Floats) -> Floats:
    """To [-pi, pi]. Much faster than a remainder."""
    return angle - 2 * np.pi * np.rint(angle / (2 * np.pi))
