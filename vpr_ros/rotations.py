"""Rotations as matrices (3, 3) and as unit quaternions (x, y, z, w), ROS's and TUM's order."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

Matrix = NDArray[np.float64]


def quaternion_to_matrix(quaternion: ArrayLike) -> Matrix:
    """(4,) x y z w -> (3, 3). Raises ValueError where its length is zero or not finite."""
    q = np.asarray(quaternion, dtype=np.float64)
    length = float(np.linalg.norm(q))
    if not (np.isfinite(length) and length > 1e-9):
        raise ValueError(f"{q.tolist()} is not a rotation: its length is {length:g}")
    x, y, z, w = q / length
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def matrix_to_quaternion(rotation: Matrix) -> Matrix:
    """(3, 3) -> (4,) x y z w with w >= 0."""
    vector = cv2.Rodrigues(np.ascontiguousarray(rotation, dtype=np.float64))[0].ravel()
    angle = float(np.linalg.norm(vector))
    axis = vector / angle if angle > 0 else vector
    return np.array([*(np.sin(angle / 2) * axis), np.cos(angle / 2)])


def rotation_angle_deg(rotation: Matrix) -> float:
    """The angle of a rotation, in [0, 180]."""
    return float(np.degrees(np.arccos(np.clip((np.trace(rotation[:3, :3]) - 1.0) / 2.0, -1.0, 1.0))))
