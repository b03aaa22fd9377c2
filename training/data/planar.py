"""Camera poses seen from above: the ground is where labels and protocols of a driving robot are defined."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

_VERTICAL = 1e-6
"""Length of the optical axis on the ground under which a camera looks straight up or down."""
_ANGLE_SLACK_RAD = 1e-9
"""Two headings exactly a gate's angle apart are within it, whatever their digits."""


def planar_pose(
    world_from_camera: NDArray[np.float64], up: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions (N, 2) in m and headings (N,) in rad of poses (N, 4, 4) whose optical axis is z; `up` (3,) in the world.

    The ground's first axis is the world's x (y where x points up or down) laid flat, the second is 90 deg to its left.
    Headings are counter-clockwise from the first, in [-pi, pi]; NaN where a camera looks straight up or down.
    """
    up = np.asarray(up, np.float64) / np.linalg.norm(up)
    world_axis = np.eye(3)[np.argmin(np.abs(up))]
    first = world_axis - (world_axis @ up) * up
    first /= np.linalg.norm(first)
    ground = np.stack([first, np.cross(up, first)], axis=1)
    forward = world_from_camera[:, :3, 2] @ ground
    headings = np.arctan2(forward[:, 1], forward[:, 0])
    headings[np.linalg.norm(forward, axis=1) < _VERTICAL] = np.nan
    return world_from_camera[:, :3, 3] @ ground, headings


def world_up(world_from_camera: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3,) the axis of the world that points up, judged by cameras (N, 4, 4) that are held about level.

    For data sets that do not say: of +-x, +-y and +-z the one nearest to the mean "up" of the images, which is the same
    for every recording in one world.
    """
    mean = -world_from_camera[:, :3, 1].mean(axis=0)
    axis = np.argmax(np.abs(mean))
    up = np.zeros(3)
    up[axis] = np.copysign(1.0, mean[axis])
    return up


def turn_between(first_rad: NDArray[np.float64], second_rad: NDArray[np.float64]) -> NDArray[np.float64]:
    """Angle between headings, in [0, pi]."""
    return np.abs((second_rad - first_rad + np.pi) % (2 * np.pi) - np.pi)


def within_gate(
    first_rad: NDArray[np.float64], second_rad: NDArray[np.float64], max_heading_deg: float | None
) -> NDArray[np.bool_]:
    """Whether cameras look at most `max_heading_deg` apart; None lets all pass, those of unknown heading too."""
    turn = turn_between(first_rad, second_rad)
    if max_heading_deg is None:
        return np.ones(turn.shape, bool)
    return turn <= np.radians(max_heading_deg) + _ANGLE_SLACK_RAD
