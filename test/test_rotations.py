from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpr_ros.rotations import matrix_to_quaternion, quaternion_to_matrix, relative_angles_deg, rotation_angle_deg, slerp

rotation_vectors = st.tuples(*[st.floats(-3.1, 3.1)] * 3)


@given(rotation_vectors)
def test_quaternion_and_matrix_are_inverse_and_agree_with_rodrigues(vector: tuple[float, float, float]) -> None:
    matrix = cv2.Rodrigues(np.array(vector))[0]
    quaternion = matrix_to_quaternion(matrix)
    assert quaternion[3] >= -1e-12
    np.testing.assert_allclose(np.linalg.norm(quaternion), 1.0, atol=1e-9)
    np.testing.assert_allclose(quaternion_to_matrix(quaternion), matrix, atol=1e-7)
    np.testing.assert_allclose(quaternion_to_matrix(-3.0 * quaternion), matrix, atol=1e-7)


@pytest.mark.parametrize("axis", np.eye(3))
def test_half_turns_have_a_quaternion(axis: np.ndarray) -> None:
    rotation = cv2.Rodrigues(np.pi * axis)[0]
    np.testing.assert_allclose(quaternion_to_matrix(matrix_to_quaternion(rotation)), rotation, atol=1e-9)


def test_ros_order() -> None:
    quarter_turn_about_z = quaternion_to_matrix([0.0, 0.0, np.sqrt(0.5), np.sqrt(0.5)])
    np.testing.assert_allclose(quarter_turn_about_z @ [1, 0, 0], [0, 1, 0], atol=1e-12)
    assert rotation_angle_deg(quarter_turn_about_z) == pytest.approx(90.0)


@pytest.mark.parametrize("bad", [[0, 0, 0, 0], [np.nan, 0, 0, 1], [np.inf, 0, 0, 1]])
def test_what_is_no_rotation_is_refused(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="not a rotation"):
        quaternion_to_matrix(bad)


@given(rotation_vectors, rotation_vectors, st.floats(0.0, 1.0))
def test_slerp_turns_about_one_axis(
    start: tuple[float, float, float], vector: tuple[float, float, float], fraction: float
) -> None:
    scale = 2.5 / max(2.5, float(np.linalg.norm(vector)))  # a half turn has two ways
    turn = scale * np.array(vector)
    a = cv2.Rodrigues(np.array(start))[0]
    between = slerp(a[None], (a @ cv2.Rodrigues(turn)[0])[None], np.array([fraction]))[0]
    np.testing.assert_allclose(between, a @ cv2.Rodrigues(fraction * turn)[0], atol=1e-7)


@given(rotation_vectors, rotation_vectors)
def test_relative_angles_are_those_of_one_rotation(
    first: tuple[float, float, float], second: tuple[float, float, float]
) -> None:
    a, b = cv2.Rodrigues(np.array(first))[0], cv2.Rodrigues(np.array(second))[0]
    assert relative_angles_deg(a[None], b[None])[0] == pytest.approx(rotation_angle_deg(a.T @ b), abs=1e-4)
