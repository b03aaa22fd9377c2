from __future__ import annotations

import numpy as np
import pytest

from vpr_ros.config import KeyframeConfig
from vpr_ros.recognition.keyframes import is_new_keyframe
from vpr_ros.types import Keyframe, KeyframeRef, Pose

CONFIG = KeyframeConfig(min_interval_s=1.0, max_similarity=0.9, min_distance_m=2.0, min_angle_deg=30.0)
SAME = np.array([1.0, 0.0], np.float32)
OTHER = np.array([0.0, 1.0], np.float32)


def pose(x: float = 0.0, yaw_deg: float = 0.0) -> Pose:
    result = np.eye(4)
    c, s = np.cos(np.radians(yaw_deg)), np.sin(np.radians(yaw_deg))
    result[:2, :2] = [[c, -s], [s, c]]
    result[0, 3] = x
    return result


LAST = Keyframe(KeyframeRef("", "s", 0), SAME, odom_from_body=pose())


@pytest.mark.parametrize(
    ("seconds", "descriptor", "odometry", "is_new"),
    [
        (5.0, SAME, None, False),
        (5.0, OTHER, None, True),
        (0.5, OTHER, pose(x=9.0), False),
        (1.0, SAME, pose(x=1.99), False),
        (1.0, SAME, pose(x=2.01), True),
        (1.0, SAME, pose(yaw_deg=29.0), False),
        (1.0, SAME, pose(yaw_deg=-31.0), True),
        (1.0, SAME, pose(yaw_deg=180.0), True),
    ],
)
def test_the_rules(seconds: float, descriptor: np.ndarray, odometry: Pose | None, is_new: bool) -> None:
    assert is_new_keyframe(round(seconds * 1e9), descriptor, odometry, LAST, CONFIG) is is_new


def test_the_first_frame_is_a_keyframe() -> None:
    assert is_new_keyframe(0, SAME, None, None, CONFIG)


def test_similarity_of_one_makes_every_frame_new() -> None:
    assert is_new_keyframe(10**9, SAME, None, LAST, KeyframeConfig(min_interval_s=0.0, max_similarity=1.0))
