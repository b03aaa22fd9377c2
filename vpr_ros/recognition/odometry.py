"""Odometry that may be wrong: which poses can be used, and which of them compare.

Odometry drifts slowly, but it also breaks: a pose is NaN, an estimator diverges, a base driver restarts at zero, another
node takes over in another frame, an encoder hangs. Poses compare only within a *segment*, in which each follows the one
before at a speed that the robot can have. One odd pose is left out; several in a row that follow each other begin a segment.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vpr_ros.rotations import is_pose, rotation_angle_deg
from vpr_ros.types import Descriptor, Frame, OdometryFix, Pose

Report = Callable[[str, str], None]
"""Takes the kind of an event, for counting, and a sentence about it."""

AGREEING_POSES = 3
UNUSABLE_POSES = 10
"""So many in a row that follow neither the segment nor each other are worth a line."""
SLACK_M, SLACK_DEG = 1.0, 60.0
"""A step this large is never a jump: corrections of a running filter, and turns on the spot between two images."""
FIRST_SPEED, SPEED_FLOOR, SPEED_FACTOR = 100.0, 5.0, 3.0
"""m/s: any speed before one has been measured; then so many times the recent speed, and this much more."""
TURN_RATE_DEG = 180.0
LONGEST_STEP_S = 2.0
"""After a longer gap nobody knows whether the odometry went on: a step is judged as if it had taken so long."""
SPEED_MEMORY = 0.9
"""Per pose: for how long a past speed still counts as recent."""
MOVED_M, MOVED_DEG = 0.1, 2.0
"""Less is noise of a robot at rest, which must not add up to a path."""
STRANGE_VIEWS = 5
"""So many keyframes in a row that look unlike the place where odometry last moved: the robot moves, the odometry hangs."""


@dataclass(frozen=True, slots=True, eq=False)
class _Sample:
    elapsed_ns: int
    odom_from_body: Pose
    frame_name: str


class OdometryFollower:
    """Follows the odometry of a drive, frame by frame; a rig shares one."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._segment = -1
        self._last: _Sample | None = None
        self._speed: float | None = None
        """m/s, the highest of late; None before the first step of a segment."""
        self._anchor = np.eye(4)
        """The last pose that was a movement, not noise."""
        self._travelled_m = 0.0
        self._withheld: list[_Sample] = []
        self._withheld_in_a_row = 0
        self._views: dict[str, Descriptor] = {}
        """What each camera saw first since odometry last moved."""
        self._strange_views = 0
        self._hangs_at: Pose | None = None

    def interrupt(self) -> None:
        """Nothing that comes from now on compares with what came before."""
        self._last = None
        self._withheld.clear()

    def follow(self, frame: Frame, elapsed_ns: int) -> OdometryFix | None:
        """What is known by odometry at this frame; None where there is none, or none that can be used."""
        pose = frame.odom_from_body
        if pose is None:
            return self._without_pose(elapsed_ns)
        if not is_pose(pose):
            self._report("odometry pose", "an odometry pose is not finite, not a rotation or absurdly large: left out")
            return self._without_pose(elapsed_ns)
        if self._hangs_at is not None and not _is_motion(self._hangs_at, pose):
            return None
        self._hangs_at = None
        sample = _Sample(elapsed_ns, pose, frame.odometry_frame)
        if self._last is None:
            return self._begin(sample)
        if _is_plausible(self._last, sample, self._speed):
            return self._continue(sample)
        return self._withhold_or_begin(sample)

    def _without_pose(self, elapsed_ns: int) -> OdometryFix | None:
        """Between two poses the path stands; after a longer silence it is unknown, or the robot would seem to wait."""
        if self._last is None or abs(elapsed_ns - self._last.elapsed_ns) > LONGEST_STEP_S * 1e9:
            return None
        return OdometryFix(self._segment, self._travelled_m, None, self._last.odom_from_body)

    def notice_view(self, camera_name: str, descriptor: Descriptor, least_similarity: float) -> None:
        """A keyframe was added. Many that look unlike the place where odometry stands still: it hangs, and is not used."""
        if self._last is None or camera_name not in self._views:
            self._views[camera_name] = descriptor
            return
        if self._withheld:
            return
        is_strange = float(self._views[camera_name] @ descriptor) < least_similarity
        self._strange_views = self._strange_views + 1 if is_strange else 0
        if self._strange_views >= STRANGE_VIEWS:
            self._report(
                "odometry hangs", "odometry stands still while the view changes: it is not used until it moves"
            )
            self._hangs_at = self._last.odom_from_body
            self.interrupt()

    def _begin(self, sample: _Sample) -> OdometryFix:
        self._segment += 1
        self._last, self._speed, self._travelled_m = sample, None, 0.0
        self._rest_at(sample.odom_from_body)
        return self._fix(sample)

    def _continue(self, sample: _Sample) -> OdometryFix:
        if self._withheld:
            self._report("odometry outlier", f"an odometry pose {_apart(self._withheld[0], sample)} away was left out")
            self._withheld.clear()
        self._withheld_in_a_row = 0
        assert self._last is not None
        if 0 <= self._last.elapsed_ns - sample.elapsed_ns < LONGEST_STEP_S * 1e9:
            return self._fix(sample)  # another camera's frame, a little late: its step is counted already
        speed = _distance_m(self._last, sample) / _duration_s(self._last, sample)
        self._speed = max(speed, SPEED_MEMORY * (self._speed or 0.0))
        if _is_motion(self._anchor, sample.odom_from_body):
            self._travelled_m += float(np.linalg.norm(sample.odom_from_body[:3, 3] - self._anchor[:3, 3]))
            self._rest_at(sample.odom_from_body)
        self._last = sample
        return self._fix(sample)

    def _withhold_or_begin(self, sample: _Sample) -> OdometryFix | None:
        if self._withheld and not _is_plausible(self._withheld[-1], sample, None):
            if self._withheld_in_a_row == UNUSABLE_POSES:
                step = f"{_apart(self._withheld[-1], sample)} in {_duration_s(self._withheld[-1], sample):.2f} s"
                self._report("odometry", f"odometry is not used: no robot moves so ({step}); is it in metres?")
            self._withheld.clear()
        self._withheld.append(sample)
        self._withheld_in_a_row += 1
        if len(self._withheld) < AGREEING_POSES:
            return self._without_pose(sample.elapsed_ns)
        assert self._last is not None
        first = self._withheld[0]
        if first.frame_name != self._last.frame_name:
            what = f"odometry changed from frame {self._last.frame_name!r} to {first.frame_name!r}"
        else:
            silence_s = _duration_s(self._last, first)
            after = f" after {silence_s:.0f} s of silence" if silence_s > LONGEST_STEP_S else ""
            what = f"odometry jumped by {_apart(self._last, first)}{after}"
        self._report("odometry jump", f"{what}: poses before and after are not compared")
        self._withheld.clear()
        self._withheld_in_a_row = 0
        return self._begin(sample)

    def _rest_at(self, pose: Pose) -> None:
        self._anchor = pose
        self._views.clear()
        self._strange_views = 0

    def _fix(self, sample: _Sample) -> OdometryFix:
        return OdometryFix(self._segment, self._travelled_m, sample.odom_from_body, sample.odom_from_body)


def _is_plausible(before: _Sample, now: _Sample, speed: float | None) -> bool:
    """Whether the robot can have moved from one pose to the other, in the same frames; `speed` (m/s) is its recent one."""
    if before.frame_name != now.frame_name:
        return False
    duration_s = min(LONGEST_STEP_S, _duration_s(before, now))
    fastest = FIRST_SPEED if speed is None else SPEED_FACTOR * speed + SPEED_FLOOR
    if _distance_m(before, now) > SLACK_M + fastest * duration_s:
        return False
    turned_deg = rotation_angle_deg(before.odom_from_body[:3, :3].T @ now.odom_from_body[:3, :3])
    return turned_deg <= SLACK_DEG + TURN_RATE_DEG * duration_s


def _is_motion(before: Pose, now: Pose) -> bool:
    turned_deg = rotation_angle_deg(before[:3, :3].T @ now[:3, :3])
    return bool(np.linalg.norm(now[:3, 3] - before[:3, 3]) > MOVED_M or turned_deg > MOVED_DEG)


def _distance_m(a: _Sample, b: _Sample) -> float:
    return float(np.linalg.norm(a.odom_from_body[:3, 3] - b.odom_from_body[:3, 3]))


def _duration_s(a: _Sample, b: _Sample) -> float:
    return max(1e-3, abs(b.elapsed_ns - a.elapsed_ns) * 1e-9)


def _apart(a: _Sample, b: _Sample) -> str:
    turned_deg = rotation_angle_deg(a.odom_from_body[:3, :3].T @ b.odom_from_body[:3, :3])
    return f"{_distance_m(a, b):.1f} m and {turned_deg:.0f} deg"
