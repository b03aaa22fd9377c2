"""Rotations as matrices (3, 3) and as unit quaternions (x, y, z, w), ROS's and TUM's order."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Matrix = NDArray[np.float64]


def quaternion_to_matrix(quaternion: ArrayLike) -> Matrix:
    """(4,) x y z w -> (3, 3). Raises ValueError where its length is zero or not finite."""
    q = np.asarray(quaternion, dtype=np.float64)
    length = float(np.linalg.norm(q))
    if q.shape != (4,) or not (np.isfinite(length) and length > 1e-9):
        raise ValueError(f"{q.tolist()} is not a rotation: a quaternion has four numbers and a length")
    x, y, z, w = q / length
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def matrix_to_quaternion(rotation: Matrix) -> Matrix:
    """(3, 3) -> (4,) x y z w with w >= 0, stable at every angle.

    The leading eigenvector of Bar-Itzhack's matrix ("New Method for Extracting the Quaternion from a Rotation Matrix",
    JGCD 2000), which also makes the best of a matrix that is not quite orthonormal.
    """
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = rotation
    lower = [
        [xx - yy - zz, 0.0, 0.0, 0.0],
        [yx + xy, yy - xx - zz, 0.0, 0.0],
        [zx + xz, zy + yz, zz - xx - yy, 0.0],
        [zy - yz, xz - zx, yx - xy, xx + yy + zz],
    ]
    quaternion = np.linalg.eigh(np.array(lower), UPLO="L")[1][:, -1]
    return -quaternion if quaternion[3] < 0.0 else quaternion


def rotation_angle_deg(rotation: Matrix) -> float:
    """The angle of a rotation, in [0, 180]."""
    return float(np.degrees(np.arccos(np.clip((np.trace(rotation[:3, :3]) - 1.0) / 2.0, -1.0, 1.0))))
