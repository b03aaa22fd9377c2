"""Poses over time, and the one search among their stamps: the nearest, or interpolated where that can be believed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vpr_ros.rotations import relative_angles_deg, slerp
from vpr_ros.types import Pose

ACCELERATION_M_S2 = 4.0
"""Of a car that turns or brakes, or a walking person: within a gap of T seconds a straight line is off by at most a T^2 / 8.
On KITTI 00 that is 1.11 m for 1.55 s, which makes 3.7 m/s^2."""
MAX_TURN_DEG = 60.0
"""Nor over a larger turn: headings in between could be off by a quarter of it. KITTI 00 turns by 57 deg in 1.6 s."""
MAX_SPEED_M_S = 50.0
"""Nor over a faster motion, which is a jump of the recording (a fix regained, a correction), not of the camera."""
NEAREST_S = 0.02
"""A pose this near in time stands for a frame that no two poses enclose: the TUM benchmark's own tolerance."""


def believable_gap_s(error_m: float) -> float:
    """How far apart in time two poses may be, so that a straight line between them is off by at most `error_m`."""
    return math.sqrt(8.0 * error_m / ACCELERATION_M_S2)


MAX_GAP_S = believable_gap_s(1.25)
"""1.58 s: what can be interpolated where places are 5 m wide, with a quarter of that to spare."""


@dataclass(frozen=True, slots=True, eq=False)
class Trajectory:
    """Poses over time: `stamps` (N,) int64 ns, ascending; `poses` (N, 4, 4) float64, world_from_camera."""

    stamps: NDArray[np.int64]
    poses: NDArray[np.float64]

    @classmethod
    def sorted(cls, stamps: NDArray[np.int64], poses: NDArray[np.float64]) -> Trajectory:
        """From stamps in any order; of equal ones the last is kept."""
        order = np.argsort(stamps, kind="stable")
        last = np.append(stamps[order][1:] != stamps[order][:-1], True)[: len(order)]
        return cls(stamps[order[last]], poses[order[last]])

    def __len__(self) -> int:
        return len(self.stamps)

    def at(self, stamp_ns: int, tolerance_ns: int) -> Pose | None:
        """The (4, 4) pose nearest in time to `stamp_ns`, or None where none is within `tolerance_ns`."""
        index = int(nearest(self.stamps, np.array([stamp_ns], np.int64), tolerance_ns)[0])
        return None if index < 0 else self.poses[index]

    def interpolated(self, stamps: NDArray[np.int64], max_gap_s: float = MAX_GAP_S) -> NDArray[np.float64]:
        """The poses (Q, 4, 4) at `stamps` (Q,) int64 ns; NaN where there is none to believe.

        Between two poses at most `max_gap_s`, `MAX_TURN_DEG` and `MAX_SPEED_M_S` apart the position is linear in time
        and the rotation turns about one axis. Elsewhere the nearest pose counts, within `NEAREST_S`.
        """
        poses = np.full((len(stamps), 4, 4), np.nan)
        index = nearest(self.stamps, stamps, round(NEAREST_S * 1e9))
        poses[index >= 0] = self.poses[index[index >= 0]]
        after = np.searchsorted(self.stamps, stamps)
        # a stamp of its own pose needs no other
        between = np.flatnonzero((after > 0) & (after < len(self)))
        between = between[self.stamps[after[between]] != stamps[between]]
        a, b = after[between] - 1, after[between]
        gap_s = (self.stamps[b] - self.stamps[a]) / 1e9
        step_m = np.linalg.norm(self.poses[b, :3, 3] - self.poses[a, :3, 3], axis=1)
        turn_deg = relative_angles_deg(self.poses[a, :3, :3], self.poses[b, :3, :3])
        believed = (gap_s <= max_gap_s) & (step_m <= MAX_SPEED_M_S * gap_s) & (turn_deg <= MAX_TURN_DEG)
        a, b, chosen = a[believed], b[believed], between[believed]
        fraction = (stamps[chosen] - self.stamps[a]) / (self.stamps[b] - self.stamps[a])
        poses[chosen] = self.poses[a]
        poses[chosen, :3, 3] += fraction[:, None] * (self.poses[b, :3, 3] - self.poses[a, :3, 3])
        poses[chosen, :3, :3] = slerp(self.poses[a, :3, :3], self.poses[b, :3, :3], fraction)
        return poses


def is_known(poses: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(N,) which of `poses` (N, 4, 4) are poses: those that are unknown are NaN."""
    return np.asarray(np.isfinite(poses).all(axis=(1, 2)), dtype=np.bool_)


def nearest(ascending_ns: NDArray[np.int64], stamps_ns: NDArray[np.int64], tolerance_ns: int) -> NDArray[np.intp]:
    """For each of `stamps_ns` (Q,) the index of the nearest of `ascending_ns` (N,), or -1 if beyond the tolerance.

    Of two equally near stamps the earlier one is taken.
    """
    if len(ascending_ns) == 0:
        return np.full(len(stamps_ns), -1, dtype=np.intp)
    after = np.searchsorted(ascending_ns, stamps_ns).clip(max=len(ascending_ns) - 1)
    before = (after - 1).clip(min=0)
    index = np.where(np.abs(stamps_ns - ascending_ns[before]) <= np.abs(ascending_ns[after] - stamps_ns), before, after)
    return np.where(np.abs(ascending_ns[index] - stamps_ns) <= tolerance_ns, index, -1)
