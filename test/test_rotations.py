from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpr_ros.rotations import matrix_to_quaternion, quaternion_to_matrix, rotation_angle_deg

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
