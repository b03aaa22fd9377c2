"""Rotations as matrices (3, 3) and as unit quaternions (x, y, z, w), ROS's and TUM's order."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Matrix = NDArray[np.float64]

BODY_FROM_OPTICAL: Matrix = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
"""Of a camera that looks along its body (REP 103): x forward, y left, z up from x right, y down, z forward."""

LARGEST_M = 1e8
"""No coordinate is larger: UTM and Earth-centred ones end at 1e7 m."""


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


def pose_from_quaternion(translation: Matrix, quaternion: Matrix) -> Matrix:
    """(4, 4) pose from a translation x y z in m and a quaternion x y z w of any length but zero.

    Raises ValueError where a number is not finite or the quaternion is zero.
    """
    if not np.isfinite(translation).all():
        raise ValueError(f"{translation.tolist()} is not a position")
    pose = np.eye(4)
    pose[:3, 3] = translation
    pose[:3, :3] = quaternion_to_matrix(quaternion)
    return pose


def pose_of(position: Any, orientation: Any) -> Matrix:
    """(4, 4) pose of what has `x y z` and what has `x y z w`: the parts of a geometry_msgs Pose or Transform, from rclpy or rosbags.

    Raises ValueError as `pose_from_quaternion` does.
    """
    p, q = position, orientation
    return pose_from_quaternion(np.array([p.x, p.y, p.z]), np.array([q.x, q.y, q.z, q.w]))


def is_pose(pose: Matrix) -> bool:
    """Whether (4, 4) numbers are a rigid transform with coordinates that a robot can have."""
    if pose.shape != (4, 4) or not np.isfinite(pose).all() or np.abs(pose[:3, 3]).max() > LARGEST_M:
        return False
    rotation = pose[:3, :3]
    return bool(np.abs(rotation.T @ rotation - np.eye(3)).max() < 1e-3 and np.linalg.det(rotation) > 0)


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


def relative_angles_deg(a: Matrix, b: Matrix) -> Matrix:
    """(Q,) the angles between rotations (Q, 3, 3) and (Q, 3, 3), in [0, 180]."""
    relative = np.swapaxes(a, 1, 2) @ b
    return np.degrees(np.arctan2(np.linalg.norm(_sine_axes(relative), axis=1), _cosines(relative)))


def slerp(a: Matrix, b: Matrix, fraction: Matrix) -> Matrix:
    """From rotations `a` (Q, 3, 3) towards `b` (Q, 3, 3) at constant speed, by `fraction` (Q,) of the way.

    The axis of a turn by 180 degrees is undefined; those between 0 and, say, 170 are exact.
    """
    relative = np.swapaxes(a, 1, 2) @ b
    axes = _sine_axes(relative)
    sines = np.linalg.norm(axes, axis=1)
    angles = fraction * np.arctan2(sines, _cosines(relative))
    x, y, z = (axes / np.where(sines > 0.0, sines, 1.0)[:, None]).T
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=1).reshape(-1, 3, 3)
    # Rodrigues' formula
    turn = np.eye(3) + np.sin(angles)[:, None, None] * cross + (1.0 - np.cos(angles))[:, None, None] * (cross @ cross)
    return a @ turn


def _sine_axes(rotations: Matrix) -> Matrix:
    """(Q, 3) the axis of each rotation, times the sine of its angle."""
    skew = (rotations - np.swapaxes(rotations, 1, 2)) / 2.0
    return np.stack([skew[:, 2, 1], skew[:, 0, 2], skew[:, 1, 0]], axis=1)


def _cosines(rotations: Matrix) -> Matrix:
    return (np.trace(rotations, axis1=1, axis2=2) - 1.0) / 2.0
