"""Odometry that breaks as odometry breaks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from vpr_ros.recognition.odometry import AGREEING_POSES, STRANGE_VIEWS, OdometryFollower
from vpr_ros.rotations import is_pose
from vpr_ros.types import Frame, OdometryFix, Pose

PIXEL = np.zeros((1, 1, 3), np.uint8)
S = 10**9


def pose(x: float, y: float = 0.0, yaw_deg: float = 0.0) -> Pose:
    result = np.eye(4)
    result[:3, :3] = Rotation.from_euler("z", yaw_deg, degrees=True).as_matrix()
    result[:2, 3] = x, y
    return result


class Drive:
    """A frame each half second."""

    def __init__(self, period_s: float = 0.5) -> None:
        self.events: list[tuple[str, str]] = []
        self.follower = OdometryFollower(lambda kind, text: self.events.append((kind, text)))
        self.elapsed_ns, self.period_ns = 0, round(period_s * S)

    def fix(self, odometry: Pose | None, name: str = "odom") -> OdometryFix | None:
        self.elapsed_ns += self.period_ns
        return self.follower.follow(Frame(0, PIXEL, odom_from_body=odometry, odometry_frame=name), self.elapsed_ns)

    def segments(self, poses: Sequence[Pose | None], name: str = "odom") -> list[int | None]:
        """Of each pose the segment; None where it cannot be used."""
        fixes = [self.fix(one, name) for one in poses]
        return [None if fix is None or fix.odom_from_body is None else fix.segment for fix in fixes]

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.events]


def straight(start: float, count: int, step: float = 1.0) -> list[Pose | None]:
    return [pose(start + step * i) for i in range(count)]


@pytest.mark.parametrize("step", [0.0, 0.05, 1.0, 15.0])
def test_good_odometry_is_one_segment_and_its_path_is_measured(step: float) -> None:
    drive = Drive()
    fixes = [drive.fix(one) for one in straight(500.0, 41, step)]
    assert {fix.segment for fix in fixes if fix} == {0}
    assert fixes[-1] is not None
    assert fixes[-1].travelled_m == pytest.approx(40 * step, abs=0.15)
    assert drive.events == []


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf, 1e300, 1e7, 300.0])
def test_one_odd_pose_is_left_out_and_changes_nothing(odd: float) -> None:
    drive, clean = Drive(), Drive()
    poses = straight(0.0, 20)
    expected = [clean.fix(one) for one in poses]
    found = [drive.fix(pose(odd) if i == 7 else one) for i, one in enumerate(poses)]
    assert found[7] is not None
    assert found[7].odom_from_body is None
    for fix, same in zip(found[:7] + found[8:], expected[:7] + expected[8:], strict=True):
        assert (fix.segment, fix.travelled_m) == (same.segment, pytest.approx(same.travelled_m))
    assert drive.kinds == ["odometry outlier" if np.isfinite(odd) and odd < 1e8 else "odometry pose"]


def test_what_is_no_rotation_is_no_pose() -> None:
    assert is_pose(np.eye(4))
    for broken in (2 * np.eye(4), np.zeros((4, 4)), np.diag([1.0, 1.0, -1.0, 1.0]), np.full((4, 4), np.nan), np.eye(3)):
        assert not is_pose(broken)


def test_a_reset_begins_a_segment_with_a_path_of_its_own() -> None:
    drive = Drive()
    assert drive.segments(straight(500.0, 10)) == [0] * 10
    assert drive.segments(straight(0.0, 10)) == [None] * (AGREEING_POSES - 1) + [1] * (11 - AGREEING_POSES)
    last = drive.fix(pose(10.0))
    assert last is not None
    assert last.travelled_m == pytest.approx(8.0)  # since the third pose after the jump
    assert drive.kinds == ["odometry jump"]
    assert "509.0 m" in drive.events[0][1]


def test_a_reset_after_a_pause_too() -> None:
    """69 m in 20 s is a speed that robots have, but nobody saw it."""
    drive = Drive()
    drive.segments(straight(40.0, 30))
    drive.elapsed_ns += 20 * S
    assert drive.segments(straight(0.3, 5))[-1] == 1
    assert "after 20 s of silence" in drive.events[0][1]


def test_a_turn_that_no_robot_makes_is_a_jump() -> None:
    drive = Drive(period_s=0.1)
    drive.segments([pose(0.1 * i) for i in range(20)])
    assert drive.segments([pose(2.0, 0.1 * i, yaw_deg=120.0) for i in range(4)])[-1] == 1
    turning = Drive(period_s=0.1)
    assert set(turning.segments([pose(0.0, yaw_deg=20.0 * i) for i in range(50)])) == {0}


def test_another_frame_is_another_segment_even_where_the_poses_agree() -> None:
    drive = Drive()
    drive.segments(straight(0.0, 5))
    assert drive.segments(straight(5.0, 5), "map") == [None, None, 1, 1, 1]
    assert "from frame 'odom' to 'map'" in drive.events[0][1]


def test_of_two_publishers_on_one_topic_the_first_is_followed() -> None:
    drive = Drive()
    for i in range(30):
        assert drive.segments([pose(0.5 * i)]) == [0]
        assert drive.segments([pose(300.0 + 0.5 * i)], "map") == [None]
    assert set(drive.kinds) == {"odometry outlier"}


def test_poses_in_millimetres_are_not_used() -> None:
    drive = Drive(period_s=0.1)
    for i, one in enumerate(straight(0.0, 30, step=1000.0)):
        assert (drive.segments([one]) == [0]) == (i == 0)
        drive.follower.notice_view("", view(i), 0.5)
    assert drive.kinds == ["odometry"]
    assert "is it in metres?" in drive.events[0][1]


def test_after_a_silence_the_path_is_unknown() -> None:
    drive = Drive()
    drive.segments(straight(0.0, 5))
    fixes = [drive.fix(None) for _ in range(6)]
    assert [None if fix is None else fix.travelled_m for fix in fixes] == [4.0] * 4 + [None] * 2


def test_noise_of_a_robot_at_rest_is_no_path() -> None:
    drive, rng = Drive(period_s=0.05), np.random.default_rng(0)
    fixes = [drive.fix(pose(*rng.normal(0.0, 0.01, 2), yaw_deg=rng.normal(0.0, 0.2))) for _ in range(2000)]
    assert fixes[-1] is not None
    assert fixes[-1].travelled_m < 0.5


def view(i: int) -> np.ndarray:
    return np.eye(64, dtype=np.float32)[i]


def test_odometry_that_never_moves_while_the_view_changes_is_not_used() -> None:
    drive = Drive()
    for i in range(20):
        fix = drive.fix(pose(7.0))
        drive.follower.notice_view("", view(i), 0.5)
        assert (fix is None) == (i > STRANGE_VIEWS)
    assert drive.kinds == ["odometry hangs"]
    assert drive.segments(straight(7.2, 4)) == [1, 1, 1, 1]  # it moves again, from wherever it is


def test_odometry_that_hangs_after_a_while_too() -> None:
    drive = Drive()
    for i in range(30):
        drive.fix(pose(float(min(i, 10))))
        drive.follower.notice_view("", view(i), 0.5)
    assert drive.kinds == ["odometry hangs"]


def test_a_robot_that_waits_among_passers_by_keeps_its_odometry() -> None:
    drive = Drive()
    drive.segments(straight(0.0, 5))
    for i in range(100):
        assert drive.fix(pose(4.0)) is not None
        drive.follower.notice_view("", view(0) if i % STRANGE_VIEWS == 0 else view(i % 60), 0.5)
    assert drive.events == []


def test_each_camera_of_a_rig_is_compared_with_its_own_view() -> None:
    drive = Drive()
    for _ in range(40):
        assert drive.fix(pose(4.0)) is not None
        drive.follower.notice_view("front", view(1), 0.5)
        drive.follower.notice_view("rear", view(2), 0.5)


@given(
    st.lists(st.one_of(st.none(), st.floats(-1e9, 1e9), st.sampled_from([np.nan, np.inf, 0.0, 1.0, 2.0])), max_size=40)
)
def test_the_laws(xs: list[float | None]) -> None:
    """Whatever comes: the path within a segment is finite and only grows, and segments only go up."""
    drive, last = Drive(), (0, 0.0)
    for x in xs:
        fix = drive.fix(None if x is None else pose(x))
        if fix is not None:
            assert np.isfinite(fix.travelled_m)
            assert (fix.segment, fix.travelled_m) >= last
            last = fix.segment, fix.travelled_m
