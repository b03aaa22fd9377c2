"""Poses between poses, against one frame at a time; and the search for the nearest, against all of them."""

from __future__ import annotations

import math
from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vpr_ros.trajectory import MAX_GAP_S, Trajectory, is_known, nearest

S = 10**9


def pose(x: float, yaw_deg: float = 0.0) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = cv2.Rodrigues(np.array([0.0, math.radians(yaw_deg), 0.0]))[0]
    matrix[0, 3] = x
    return matrix


def path(stamps_s: list[float], poses: list[np.ndarray]) -> Trajectory:
    return Trajectory(np.array([round(s * S) for s in stamps_s], np.int64), np.array(poses))


def at(trajectory: Trajectory, *stamps_s: float) -> np.ndarray:
    return trajectory.interpolated(np.array([round(s * S) for s in stamps_s], np.int64))


def drive(time_s: float) -> np.ndarray:
    """A bend at 8 m/s and 20 deg/s, radius 23 m."""
    angle = math.radians(20.0 * time_s)
    matrix = pose(0.0, 20.0 * time_s)
    matrix[:3, 3] = 23.0 * (1.0 - math.cos(angle)), 0.0, 23.0 * math.sin(angle)
    return matrix


@pytest.mark.parametrize("rate_hz", [1, 2, 5, 10, 20])
@pytest.mark.parametrize("phase_s", [0.0, 0.03, 0.047])
def test_a_slower_truth_out_of_phase_is_nearly_as_good(rate_hz: int, phase_s: float) -> None:
    times = [phase_s + k / rate_hz for k in range(8 * rate_hz)]
    truth = path(times, [drive(t) for t in times])
    frames = np.arange(times[0], times[-1], 0.1)
    found = at(truth, *frames)
    expected = np.array([drive(t) for t in frames])
    assert is_known(found).all()
    # the sagitta of an arc of 8 m and 20 deg
    assert np.linalg.norm(found[:, :3, 3] - expected[:, :3, 3], axis=1).max() < 0.36 / rate_hz**2
    assert np.abs(found[:, :3, :3] - expected[:, :3, :3]).max() < 1e-6


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0.01, 2.0), st.floats(-20, 20), st.floats(-80, 80)), max_size=8), st.data())
def test_between_two_poses_lies_what_the_oracle_finds(
    steps: list[tuple[float, float, float]], data: st.DataObject
) -> None:
    time, x, yaw = 0.0, 0.0, 0.0
    rows = [(0, 0.0, 0.0)]
    for dt, dx, turn in steps:
        time, x, yaw = time + dt, x + dx, yaw + turn
        rows.append((round(time * S), x, yaw))
    truth = Trajectory(np.array([row[0] for row in rows], np.int64), np.array([pose(*row[1:]) for row in rows]))
    stamps = data.draw(st.lists(st.integers(-S, round(time * S) + S), max_size=10))
    found = truth.interpolated(np.array(stamps, np.int64))
    for stamp, got in zip(stamps, found, strict=True):
        enclosing = [(a, b) for a, b in pairwise(rows) if a[0] <= stamp <= b[0]]
        believed = [
            (a, b)
            for a, b in enclosing
            if b[0] - a[0] <= MAX_GAP_S * S
            and abs(b[2] - a[2]) <= 60.0
            and abs(b[1] - a[1]) <= 50.0 * (b[0] - a[0]) / S
        ]
        if believed:
            a, b = believed[0]
            w = (stamp - a[0]) / (b[0] - a[0])
            np.testing.assert_allclose(got, pose(a[1] + w * (b[1] - a[1]), a[2] + w * (b[2] - a[2])), atol=1e-9)
            continue
        near = min(rows, key=lambda row: abs(row[0] - stamp))
        if abs(near[0] - stamp) <= 0.02 * S:
            np.testing.assert_array_equal(got, pose(*near[1:]))
        else:
            assert np.isnan(got).all()


def test_a_pose_of_the_very_moment_is_taken_as_it_is() -> None:
    truth = path([0, 1, 2], [pose(0.1), pose(0.3, 7.0), pose(0.7)])
    np.testing.assert_array_equal(at(truth, 0, 1, 2), truth.poses)


@pytest.mark.parametrize(
    ("after", "gap_s"),
    [(pose(0.0), 1.7), (pose(0.0, 61.0), 1.0), (pose(6.0), 0.1)],
    ids=["too long", "turned too far", "jumped"],
)
def test_gaps_that_are_not_believed_have_no_pose(after: np.ndarray, gap_s: float) -> None:
    assert not is_known(at(path([0, gap_s], [pose(0.0), after]), gap_s / 2)).any()


def test_beyond_the_ends_only_the_nearest_counts() -> None:
    truth = path([1, 2], [pose(1), pose(2)])
    assert is_known(at(truth, 0.979, 0.98, 2.02, 2.021)).tolist() == [False, True, True, False]
    assert not is_known(at(Trajectory(np.zeros(0, np.int64), np.zeros((0, 4, 4))), 1.0)).any()
    assert is_known(at(path([1], [pose(1)]), 1.0)).all()


def test_the_nearest_pose_within_the_tolerance() -> None:
    trajectory = Trajectory(np.array([0, 100, 200]), np.array([pose(0), pose(1), pose(2)]))
    for stamp, x in ((-20, 0), (-21, None), (49, None), (85, 1), (120, 1), (199, 2), (221, None)):
        found = trajectory.at(stamp, 20)
        assert (None if found is None else found[0, 3]) == x
    assert Trajectory(np.zeros(0, np.int64), np.zeros((0, 4, 4))).at(0, 20) is None


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 50), max_size=20).map(sorted), st.lists(st.integers(-5, 60), max_size=20), st.integers(0, 9)
)
def test_nearest(ascending: list[int], stamps: list[int], tolerance: int) -> None:
    found = nearest(np.array(ascending, dtype=np.int64), np.array(stamps, dtype=np.int64), tolerance)
    for stamp, index in zip(stamps, found, strict=True):
        gaps = [abs(stamp - other) for other in ascending]
        if not gaps or min(gaps) > tolerance:
            assert index == -1
        else:
            assert gaps[index] == min(gaps)


def test_poses_in_any_order_are_sorted_and_the_last_of_equal_stamps_is_kept() -> None:
    trajectory = Trajectory.sorted(np.array([30, 10, 20, 10]), np.array([pose(3), pose(0), pose(2), pose(1)]))
    assert trajectory.stamps.tolist() == [10, 20, 30]
    assert trajectory.poses[:, 0, 3].tolist() == [1, 2, 3]
    assert len(Trajectory.sorted(np.zeros(0, np.int64), np.zeros((0, 4, 4)))) == 0
