"""Which frames truly see a place again, decided from poses alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vpr_ros.errors import ConfigError, SourceError
from vpr_ros.types import Pose

NO_STAMP = -1
"""Stands for "no such frame" in arrays of stamps."""

_BLOCK = 64
"""Queries compared with all frames at once: 64 x 20,000 float64 is 10 MB."""
_COSINE_SLACK = 1e-9
"""Rounding of a rotation's trace; without it equal rotations fail a limit of 0 deg and opposite ones a limit of 180."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """What counts as a revisit and as a correct match. Raises ConfigError for limits that contradict each other.

    A query truly revisits if a frame more than `exclusion_s` older lies within `revisit_m` and `max_angle_deg`. A match
    is correct if it is more than `exclusion_s` older and within `match_m` and `max_angle_deg`. Angles are those of the
    full relative rotation. A frame's pose is the one nearest in time, at most `tolerance_s` away.
    """

    revisit_m: float = 5.0
    match_m: float = 10.0
    max_angle_deg: float = 45.0
    exclusion_s: float = 10.0
    tolerance_s: float = 0.05

    def __post_init__(self) -> None:
        if not 0.0 <= self.revisit_m <= self.match_m < math.inf:
            raise ConfigError(f"0 <= revisit_m <= match_m must hold, not {self.revisit_m} and {self.match_m}")
        if not 0.0 <= self.max_angle_deg <= 180.0:
            raise ConfigError(f"max_angle_deg must be in [0, 180], not {self.max_angle_deg}")
        if not (0.0 <= self.exclusion_s < math.inf and 0.0 <= self.tolerance_s < math.inf):
            raise ConfigError(f"exclusion_s and tolerance_s must be >= 0, not {self.exclusion_s}, {self.tolerance_s}")

    def describe(self) -> str:
        """One line to print beside the numbers."""
        return (
            f"Revisit: a frame more than {self.exclusion_s:g} s older within {self.revisit_m:g} m and "
            f"{self.max_angle_deg:g} deg. Correct: a match that old within {self.match_m:g} m and "
            f"{self.max_angle_deg:g} deg. Correct matches of frames without a revisit count neither way. "
            f"Frames without a pose within {self.tolerance_s:g} s are left out."
        )


@dataclass(frozen=True, slots=True, eq=False)
class Revisits:
    """For each of Q queries: `has_pose` (Q,) bool and `stamps_ns` (Q,) int64, the nearest true revisit or NO_STAMP.

    A query without a pose has NO_STAMP too, but says nothing about loops: look at `has_pose` first.
    """

    has_pose: NDArray[np.bool_]
    stamps_ns: NDArray[np.int64]

    @property
    def exist(self) -> NDArray[np.bool_]:
        """(Q,) bool: the query has a pose and a true revisit."""
        return self.stamps_ns != NO_STAMP

    @property
    def without_pose(self) -> int:
        """How many queries cannot be judged."""
        return int(np.count_nonzero(~self.has_pose))


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """For each of Q pairs: `distance_m` and `angle_deg` (Q,) float64, NaN where a pose is missing; `correct` (Q,) bool."""

    distance_m: NDArray[np.float64]
    angle_deg: NDArray[np.float64]
    correct: NDArray[np.bool_]

    @property
    def known(self) -> NDArray[np.bool_]:
        """(Q,) bool: both frames have a pose."""
        return ~np.isnan(self.distance_m)


class GroundTruth:
    """Poses by stamp, and the questions that a protocol asks of them.

    `stamps_ns` is (N,) int64 in any order; `poses` is (N, 4, 4) float64 `world_from_camera` in metres, camera in the
    optical frame (z forward). Poses that are not finite are dropped, so that their frames count as without a pose.
    All stamps, those of earlier sessions too, must be of one clock. Raises SourceError for other shapes.
    """

    def __init__(self, stamps_ns: ArrayLike, poses: ArrayLike, protocol: Protocol | None = None) -> None:
        stamps = np.asarray(stamps_ns, dtype=np.int64)
        matrices = np.asarray(poses, dtype=np.float64)
        if stamps.ndim != 1 or matrices.shape != (len(stamps), 4, 4):
            raise SourceError(f"expected (N,) stamps and (N, 4, 4) poses, not {stamps.shape} and {matrices.shape}")
        keep = np.flatnonzero(np.isfinite(matrices).all(axis=(1, 2)))
        keep = keep[np.argsort(stamps[keep], kind="stable")]
        self.protocol = Protocol() if protocol is None else protocol
        self.stamps_ns: NDArray[np.int64] = stamps[keep]
        self.poses: NDArray[np.float64] = matrices[keep]

    def __len__(self) -> int:
        return len(self.stamps_ns)

    def pose_at(self, stamp_ns: int, tolerance_s: float | None = None) -> Pose | None:
        """The pose nearest in time to `stamp_ns`, or None if it is further than the tolerance (the protocol's)."""
        index = int(self._indices([stamp_ns], tolerance_s)[0])
        return None if index < 0 else self.poses[index]

    def revisits(self, queries_ns: ArrayLike, frames_ns: ArrayLike | None = None) -> Revisits:
        """The nearest true revisit of each query (Q,) among the frames (F,) that the robot was shown.

        Without `frames_ns` the frames are all poses. Takes O(Q F) time in blocks of little memory.
        """
        queries = np.asarray(queries_ns, dtype=np.int64)
        frames = self.stamps_ns if frames_ns is None else np.unique(np.asarray(frames_ns, dtype=np.int64))
        of_query, of_frame = self._indices(queries), self._indices(frames)
        has_pose = of_query >= 0
        stamps = np.full(len(queries), NO_STAMP, dtype=np.int64)
        stamps[has_pose] = self._nearest_revisits(
            queries[has_pose], of_query[has_pose], frames[of_frame >= 0], of_frame[of_frame >= 0]
        )
        return Revisits(has_pose, stamps)

    def compare(self, queries_ns: ArrayLike, matches_ns: ArrayLike) -> Comparison:
        """Judges pairs of stamps (Q,), (Q,); NO_STAMP in `matches_ns` is a match without a pose."""
        queries, matches = np.asarray(queries_ns, dtype=np.int64), np.asarray(matches_ns, dtype=np.int64)
        i, j = self._indices(queries), self._indices(matches)
        known = (i >= 0) & (j >= 0) & (matches != NO_STAMP)
        a, b = self.poses[i[known]], self.poses[j[known]]
        squared = np.full(len(queries), np.nan)
        cosine = np.full(len(queries), np.nan)
        squared[known] = np.sum((a[:, :3, 3] - b[:, :3, 3]) ** 2, axis=1)
        cosine[known] = (np.sum(a[:, :3, :3] * b[:, :3, :3], axis=(1, 2)) - 1.0) / 2.0
        correct = self._alike(squared, cosine, self.protocol.match_m) & (matches < queries - self._exclusion_ns)
        return Comparison(np.sqrt(squared), np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))), correct)

    @property
    def _exclusion_ns(self) -> int:
        return round(self.protocol.exclusion_s * 1e9)

    def _indices(self, stamps_ns: ArrayLike, tolerance_s: float | None = None) -> NDArray[np.intp]:
        tolerance = self.protocol.tolerance_s if tolerance_s is None else tolerance_s
        return nearest_indices(self.stamps_ns, np.asarray(stamps_ns, dtype=np.int64), round(tolerance * 1e9))

    def _alike(self, squared_m: NDArray[np.float64], cosine: NDArray[np.float64], radius_m: float) -> NDArray[np.bool_]:
        """Whether pairs are near each other and look the same way, from squared distance and cosine of the rotation."""
        limit = math.cos(math.radians(self.protocol.max_angle_deg)) - _COSINE_SLACK
        return (squared_m <= radius_m**2) & (cosine >= limit)

    def _nearest_revisits(
        self,
        queries_ns: NDArray[np.int64],
        of_query: NDArray[np.intp],
        frames_ns: NDArray[np.int64],
        of_frame: NDArray[np.intp],
    ) -> NDArray[np.int64]:
        """Stamps of the nearest true revisits (Q,); `frames_ns` ascend."""
        places = self.poses[of_frame, :3, 3].T.copy()
        rotations = self.poses[of_frame, :3, :3].reshape(-1, 9).T.copy()
        nearest = np.full(len(queries_ns), NO_STAMP, dtype=np.int64)
        for start in range(0, len(queries_ns), _BLOCK):
            rows = slice(start, start + _BLOCK)
            before = queries_ns[rows] - self._exclusion_ns
            count = int(np.searchsorted(frames_ns, before.max()))
            query = self.poses[of_query[rows]]
            dx, dy, dz = (query[:, k, 3, None] - places[k, :count] for k in range(3))
            squared = dx**2 + dy**2 + dz**2
            # neighbouring queries are near the same few frames: only these are looked at closer
            near = np.flatnonzero((squared <= self.protocol.revisit_m**2).any(axis=0))
            if len(near) == 0:
                continue
            squared = squared[:, near]
            # trace(A^T B) is the sum of the elementwise product of A and B, and 1 + 2 cos(angle)
            cosine = (query[:, :3, :3].reshape(-1, 9) @ rotations[:, near] - 1.0) / 2.0
            revisit = self._alike(squared, cosine, self.protocol.revisit_m) & (frames_ns[near] < before[:, None])
            best = near[np.where(revisit, squared, np.inf).argmin(axis=1)]
            nearest[rows] = np.where(revisit.any(axis=1), frames_ns[best], NO_STAMP)
        return nearest


def nearest_indices(
    ascending_ns: NDArray[np.int64], stamps_ns: NDArray[np.int64], tolerance_ns: int
) -> NDArray[np.intp]:
    """For each of `stamps_ns` (Q,) the index of the nearest of `ascending_ns` (N,), or -1 if beyond the tolerance.

    Of two equally near stamps the earlier one is taken.
    """
    if len(ascending_ns) == 0:
        return np.full(len(stamps_ns), -1, dtype=np.intp)
    after = np.searchsorted(ascending_ns, stamps_ns).clip(max=len(ascending_ns) - 1)
    before = (after - 1).clip(min=0)
    index = np.where(np.abs(stamps_ns - ascending_ns[before]) <= np.abs(ascending_ns[after] - stamps_ns), before, after)
    return np.where(np.abs(ascending_ns[index] - stamps_ns) <= tolerance_ns, index, -1)
