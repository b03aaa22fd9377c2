"""Which frames truly see a place again, decided from poses alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vpr_ros.errors import ConfigError, Keyword, SourceError
from vpr_ros.trajectory import MAX_TURN_DEG, NEAREST_S, believable_gap_s, is_known
from vpr_ros.types import FrameRef

NO_FRAME = -1
"""Stands for "no such frame" in arrays of indices."""

_NOT_LOOKED_FOR = -2
_BLOCK = 64
"""Queries compared with all frames at once: 64 x 20,000 float64 is 10 MB."""
_COSINE_SLACK = 1e-9
"""Rounding of a rotation's trace; without it equal rotations fail a limit of 0 deg and opposite ones a limit of 180."""
_ERROR_SHARE = 0.25
"""Of `revisit_m`: how far off an interpolated pose may be."""


@dataclass(frozen=True, slots=True)
class RevisitProtocol:
    """What counts as a revisit and as a correct match. Raises ConfigError for limits that contradict each other.

    A query truly revisits if a frame more than `exclusion_s` older lies within `revisit_m` and `max_angle_deg`, and the
    camera left in between: a frame between the two is outside of these limits. A match is correct if it is more than
    `exclusion_s` older and within `match_m` and `max_angle_deg`, and the camera left in between. Frames of an earlier
    session are older. Angles are those of the full relative rotation.

    Poses are interpolated between true ones at most `max_gap_s` apart; None: as far as an error of a quarter of
    `revisit_m` allows, see `trajectory.believable_gap_s`.
    """

    revisit_m: float = 5.0
    match_m: float = 10.0
    max_angle_deg: float = 45.0
    exclusion_s: float = 10.0
    max_gap_s: float | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.revisit_m <= self.match_m < math.inf:
            values = f" must hold, not {self.revisit_m} and {self.match_m}"
            raise ConfigError("0 <= ", Keyword("revisit_m"), " <= ", Keyword("match_m"), values)
        if not 0.0 <= self.max_angle_deg <= 180.0:
            raise ConfigError(Keyword("max_angle_deg"), f" must be in [0, 180], not {self.max_angle_deg}")
        if not (0.0 <= self.exclusion_s < math.inf and 0.0 <= self.gap_s < math.inf):
            values = f" must be >= 0, not {self.exclusion_s}, {self.max_gap_s}"
            raise ConfigError(Keyword("exclusion_s"), " and ", Keyword("max_gap_s"), values)

    @property
    def gap_s(self) -> float:
        """How far apart in time poses may be to be interpolated."""
        return believable_gap_s(_ERROR_SHARE * self.revisit_m) if self.max_gap_s is None else self.max_gap_s

    def describe(self) -> str:
        """One line to print beside the numbers."""
        return (
            f"Revisit: a frame more than {self.exclusion_s:g} s older within {self.revisit_m:g} m and "
            f"{self.max_angle_deg:g} deg, which the camera left in between. Correct: a match that old within "
            f"{self.match_m:g} m and {self.max_angle_deg:g} deg, likewise. Correct matches of frames without a revisit "
            f"count neither way. Poses are interpolated between true ones at most {self.gap_s:.3g} s and "
            f"{MAX_TURN_DEG:g} deg apart, or {NEAREST_S:g} s away; frames without one are left out."
        )


@dataclass(frozen=True, slots=True, eq=False)
class Revisits:
    """For each of Q queries, `has_pose` (Q,) bool, and `frames` (Q,), the index of the nearest true revisit or NO_FRAME.

    `undecided` (Q,) bool: where the camera was in between is not known, so that a frame near may or may not be a revisit.
    A query without a pose has NO_FRAME too, but says nothing about loops: look at `has_pose` first.
    """

    has_pose: NDArray[np.bool_]
    frames: NDArray[np.intp]
    undecided: NDArray[np.bool_]

    @property
    def exist(self) -> NDArray[np.bool_]:
        """(Q,) bool: the query has a pose and a true revisit."""
        return self.frames != NO_FRAME

    @property
    def judged(self) -> NDArray[np.bool_]:
        """(Q,) bool: it is known whether the query has a true revisit."""
        return self.has_pose & ~self.undecided


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """For each of Q pairs: `distance_m` and `angle_deg` (Q,) float64, NaN where a pose is missing; `correct` (Q,) bool.

    `known` (Q,) bool: it can be judged. Both frames have a pose, and if they are of one place, it is known where the camera
    was in between.
    """

    distance_m: NDArray[np.float64]
    angle_deg: NDArray[np.float64]
    correct: NDArray[np.bool_]
    known: NDArray[np.bool_]


class GroundTruth:
    """Poses of frames, and the questions that a protocol asks of them.

    `frames` (F,) are in the order of their sessions, in any order within one; `poses` is (F, 4, 4) float64
    `world_from_camera` in metres, camera in the optical frame (z forward), in one world for all sessions. Poses that are
    not finite are unknown. The questions are about indices of frames, NO_FRAME for one without a pose; `indices` gives
    them. Raises SourceError for other shapes.
    """

    def __init__(self, frames: Sequence[FrameRef], poses: ArrayLike, protocol: RevisitProtocol | None = None) -> None:
        matrices = np.asarray(poses, dtype=np.float64)
        if matrices.shape != (len(frames), 4, 4):
            raise SourceError(f"expected a pose (4, 4) for each of {len(frames)} frames, not {matrices.shape}")
        self.protocol = RevisitProtocol() if protocol is None else protocol
        numbers = {session: k for k, session in enumerate(dict.fromkeys(frame.session for frame in frames))}
        session = np.array([numbers[frame.session] for frame in frames], dtype=np.intp)
        stamps = np.array([frame.stamp_ns for frame in frames], dtype=np.int64)
        order = np.lexsort((stamps, session))
        self.frames = [frames[i] for i in order]
        self.poses: NDArray[np.float64] = matrices[order]
        self._index = {frame: i for i, frame in enumerate(self.frames)}
        self._has_pose = is_known(self.poses)
        self._rank = np.cumsum(self._has_pose) - 1
        self._places = self.poses[:, :3, 3].T.copy()
        longest_ns = max(self._exclusion_ns, round(self.protocol.gap_s * 1e9))
        self._outside = np.full(len(frames), _NOT_LOOKED_FOR, dtype=np.intp)
        self._running_ns = _running(session[order], stamps[order], longest_ns)
        self._hole = _last_hole(self._has_pose, self._running_ns, longest_ns)

    def __len__(self) -> int:
        return int(self._has_pose.sum())

    def indices(self, frames: Iterable[FrameRef | None]) -> NDArray[np.intp]:
        """(Q,) indices of frames, NO_FRAME for None and for those without a pose."""
        found = np.array([NO_FRAME if f is None else self._index.get(f, NO_FRAME) for f in frames], dtype=np.intp)
        found[found >= 0] = np.where(self._has_pose[found[found >= 0]], found[found >= 0], NO_FRAME)
        return found

    def revisits(self, queries: NDArray[np.intp], shown: NDArray[np.intp] | None = None) -> Revisits:
        """The nearest true revisit of each query (Q,) among the frames that the robot was shown, without which all.

        Takes O(Q F) time in blocks of little memory.
        """
        among = np.flatnonzero(self._has_pose) if shown is None else np.unique(shown[shown != NO_FRAME])
        has_pose = queries != NO_FRAME
        nearest = np.full(len(queries), NO_FRAME, dtype=np.intp)
        undecided = np.zeros(len(queries), dtype=bool)
        known = np.flatnonzero(has_pose)
        for start in range(0, len(known), _BLOCK):
            rows = known[start : start + _BLOCK]
            nearest[rows], undecided[rows] = self._nearest_revisits(queries[rows], among)
        return Revisits(has_pose, nearest, undecided)

    def compare(self, queries: NDArray[np.intp], matches: NDArray[np.intp]) -> Comparison:
        """Judges pairs of frames (Q,), (Q,)."""
        both = (queries != NO_FRAME) & (matches != NO_FRAME)
        i, j = queries[both], matches[both]
        a, b = self.poses[i], self.poses[j]
        squared = np.full(len(queries), np.nan)
        cosine = np.full(len(queries), np.nan)
        squared[both] = np.sum((a[:, :3, 3] - b[:, :3, 3]) ** 2, axis=1)
        cosine[both] = (np.sum(a[:, :3, :3] * b[:, :3, :3], axis=(1, 2)) - 1.0) / 2.0
        correct = self._alike(squared, cosine, self.protocol.match_m)
        correct[both] &= self._running_ns[j] < self._running_ns[i] - self._exclusion_ns
        suspects = np.flatnonzero(correct)
        stayed = suspects[self._last_outside(queries[suspects]) <= matches[suspects]]
        correct[stayed] = False
        known = both
        known[stayed] &= ~self._hole_between(queries[stayed], matches[stayed])
        return Comparison(np.sqrt(squared), np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))), correct, known)

    @property
    def _exclusion_ns(self) -> int:
        return round(self.protocol.exclusion_s * 1e9)

    def _alike(self, squared_m: NDArray[np.float64], cosine: NDArray[np.float64], radius_m: float) -> NDArray[np.bool_]:
        """Whether pairs are near each other and look the same way, from squared distance and cosine of the rotation."""
        limit = math.cos(math.radians(self.protocol.max_angle_deg)) - _COSINE_SLACK
        return (squared_m <= radius_m**2) & (cosine >= limit)

    def _nearest_revisits(
        self, queries: NDArray[np.intp], among: NDArray[np.intp]
    ) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """Of a block of queries (B,) the nearest of the frames `among`, ascending; and which are undecided."""
        before = self._running_ns[queries] - self._exclusion_ns
        stop = int(queries.max())
        near, alike, squared = self._near(queries, stop)
        is_shown = np.zeros(len(self.frames), dtype=bool)
        is_shown[among] = True
        old = alike & is_shown[near] & (self._running_ns[near] < before[:, None])
        if not old.any():
            return np.full(len(queries), NO_FRAME), np.zeros(len(queries), dtype=bool)
        self._look_outside(queries, near, alike)
        revisit = old & (near < self._outside[queries][:, None])
        best = near[np.where(revisit, squared, np.inf).argmin(axis=1)]
        found = revisit.any(axis=1)
        holes = self._hole_between(queries[:, None], near[None, :])
        return np.where(found, best, NO_FRAME), ~found & np.any(old & holes, axis=1)

    def _near(
        self, queries: NDArray[np.intp], stop: int
    ) -> tuple[NDArray[np.intp], NDArray[np.bool_], NDArray[np.float64]]:
        """The frames (N,) before `stop` that are near some of the queries (B,), and for each pair (B, N) whether it is
        within `revisit_m` and `max_angle_deg`, and its squared distance."""
        query = self.poses[queries]
        dx, dy, dz = (query[:, k, 3, None] - self._places[k, :stop] for k in range(3))
        squared = dx**2 + dy**2 + dz**2
        # neighbouring queries are near the same few frames: only these are looked at closer; NaN is never near
        near = np.flatnonzero((squared <= self.protocol.revisit_m**2).any(axis=0))
        squared = squared[:, near]
        # trace(A^T B) is the sum of the elementwise product of A and B, and 1 + 2 cos(angle)
        rotations = self.poses[near, :3, :3].reshape(-1, 9)
        cosine = (query[:, :3, :3].reshape(-1, 9) @ rotations.T - 1.0) / 2.0
        return near, self._alike(squared, cosine, self.protocol.revisit_m), squared

    def _last_outside(self, queries: NDArray[np.intp]) -> NDArray[np.intp]:
        """For each query (Q,) the last frame before it with a pose that is not alike, NO_FRAME if there is none."""
        missing = np.unique(queries[self._outside[queries] == _NOT_LOOKED_FOR])
        for start in range(0, len(missing), _BLOCK):
            block = missing[start : start + _BLOCK]
            near, alike, _ = self._near(block, int(block.max()))
            self._look_outside(block, near, alike)
        return self._outside[queries]

    def _look_outside(self, queries: NDArray[np.intp], near: NDArray[np.intp], alike: NDArray[np.bool_]) -> None:
        """Find what `_last_outside` gives for a block of queries (B,), from what `_near` found."""
        # those alike that lead up to the query without a gap: the k-th of them, counted back, is k frames before it
        before = alike & (near < queries[:, None])
        count = before[:, ::-1].cumsum(axis=1)[:, ::-1]
        stayed = (before & (self._rank[near] == self._rank[queries][:, None] - count)).sum(axis=1)
        last = self._rank[queries] - 1 - stayed
        self._outside[queries] = np.where(last >= 0, np.flatnonzero(self._has_pose)[last], NO_FRAME)

    def _hole_between(self, queries: NDArray[np.intp], matches: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Whether the camera may have been anywhere between two frames: a pose is missing there, or a session ended."""
        return self._hole[queries] > matches


def _running(session: NDArray[np.intp], stamps_ns: NDArray[np.int64], gap_ns: int) -> NDArray[np.int64]:
    """Stamps of a clock that runs on: each session begins more than `gap_ns` after the one before. Both are (F,), sorted."""
    if len(stamps_ns) == 0:
        return stamps_ns
    first = np.searchsorted(session, np.arange(session[-1] + 1))
    last = np.append(first[1:], len(session)) - 1
    lengths = stamps_ns[last] - stamps_ns[first]
    begin = np.concatenate([[0], np.cumsum(lengths + gap_ns + 1)[:-1]])
    return stamps_ns - stamps_ns[first][session] + begin[session]


def _last_hole(has_pose: NDArray[np.bool_], running_ns: NDArray[np.int64], longest_ns: int) -> NDArray[np.intp]:
    """(F,) for each frame the greatest index h up to it such that nobody knows what happened since frame h - 1.

    Frame h has no pose, or comes more than `longest_ns` later, as the first of a session does; 0 where there is none.
    """
    index = np.arange(len(has_pose))
    late = np.diff(running_ns, prepend=running_ns[:1]) > longest_ns
    return np.maximum.accumulate(np.where(~has_pose | late, index, 0))
