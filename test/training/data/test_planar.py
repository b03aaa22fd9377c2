"""Poses from above: known cameras, a slow oracle, and the law that turning the world turns the plane."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from small_worlds import level_camera

from training.data.planar import planar_pose, turn_between, within_gate, world_up


def test_a_world_with_z_up_keeps_its_x_and_y() -> None:
    poses = np.array([level_camera(2.0, -3.0, 0.0), level_camera(0.0, 0.0, np.pi / 2), level_camera(1.0, 1.0, -2.0)])
    positions, headings = planar_pose(poses, [0, 0, 1])
    np.testing.assert_allclose(positions, [[2, -3], [0, 0], [1, 1]])
    np.testing.assert_allclose(headings, [0, np.pi / 2, -2.0])


def test_kitti_moves_forward_along_z_and_turns_right_towards_x() -> None:
    ahead, right = np.eye(4), np.eye(4)
    ahead[:3, 3] = 1.0, 0.2, 7.0  # x right, y down, z forward
    right[:3, :3] = Rotation.from_euler("y", 90, degrees=True).as_matrix()
    positions, headings = planar_pose(np.array([ahead, right]), [0, -1, 0])
    np.testing.assert_allclose(positions, [[1, 7], [0, 0]])
    np.testing.assert_allclose(headings, [np.pi / 2, 0], atol=1e-12)


@pytest.mark.parametrize("down", [1.0, -1.0])
def test_a_camera_that_looks_straight_down_or_up_has_no_heading(down: float) -> None:
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("x", 180 if down > 0 else 0, degrees=True).as_matrix()
    assert np.isnan(planar_pose(pose[None], [0, 0, 1])[1][0])


def slow_planar_pose(pose: np.ndarray, up: np.ndarray) -> tuple[list[float], float]:
    """One camera, by turning the whole world until `up` is z."""
    most_level = min(range(3), key=lambda k: abs(up[k]))
    first = np.eye(3)[most_level] - up[most_level] * up
    first /= np.linalg.norm(first)
    upright = np.stack([first, np.cross(up, first), up])
    x, y, _ = upright @ pose[:3, 3]
    dx, dy, _ = upright @ pose[:3, :3] @ [0, 0, 1]
    return [x, y], float(np.arctan2(dy, dx))


unit = st.floats(-1, 1)
quaternions = st.tuples(unit, unit, unit, unit).filter(lambda q: np.linalg.norm(q) > 0.1)
numbers = st.floats(-100, 100)


@given(quaternions, numbers, numbers, numbers, quaternions)
@settings(max_examples=50, deadline=None)
def test_it_agrees_with_turning_the_world_upright(q, x, y, z, tilt) -> None:
    up = Rotation.from_quat(tilt).as_matrix()[:, 2]
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = Rotation.from_quat(q).as_matrix(), (x, y, z)
    positions, headings = planar_pose(pose[None], up)
    position, heading = slow_planar_pose(pose, up)
    np.testing.assert_allclose(positions[0], position, atol=1e-9)
    if not np.isnan(headings[0]):
        np.testing.assert_allclose(np.exp(1j * headings[0]), np.exp(1j * heading), atol=1e-6)


@given(st.lists(st.tuples(numbers, numbers, st.floats(-3, 3)), min_size=2, max_size=5), st.floats(-3, 3), numbers)
@settings(max_examples=50, deadline=None)
def test_turning_and_moving_the_world_turns_and_moves_the_plane(cameras, turn, shift) -> None:
    poses = np.array([level_camera(*camera) for camera in cameras])
    moved = np.eye(4)
    moved[:3, :3], moved[:3, 3] = Rotation.from_euler("z", turn).as_matrix(), (shift, 0, shift)
    before, headings = planar_pose(poses, [0, 0, 1])
    after, turned = planar_pose(moved @ poses, [0, 0, 1])
    np.testing.assert_allclose(after, before @ moved[:2, :2].T + moved[:2, 3], atol=1e-9)
    np.testing.assert_allclose(np.exp(1j * (turned - headings)), np.exp(1j * turn), atol=1e-9)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_up_is_found_in_any_world(axis: int, sign: float) -> None:
    up = np.zeros(3)
    up[axis] = sign
    world = Rotation.align_vectors([up], [[0, 0, 1]])[0].as_matrix()
    poses = np.array([level_camera(0, 0, heading) for heading in (0.0, 1.0, 2.5)])
    poses[:, :3, :3] = world @ poses[:, :3, :3] @ Rotation.from_euler("x", 20, degrees=True).as_matrix()
    np.testing.assert_array_equal(world_up(poses), up)


@given(st.floats(-10, 10), st.floats(-10, 10))
def test_the_angle_between_headings_ignores_full_turns(first: float, second: float) -> None:
    turn = turn_between(np.array([first]), np.array([second]))[0]
    assert np.cos(turn) == pytest.approx(np.cos(first - second), abs=1e-9)
    assert 0 <= turn <= np.pi


def test_no_gate_lets_unknown_headings_pass() -> None:
    headings = np.radians([np.nan, 90.0, 91.0])
    assert within_gate(np.zeros(3), headings, None).all()
    assert within_gate(np.zeros(3), headings, 90.0).tolist() == [False, True, False]
