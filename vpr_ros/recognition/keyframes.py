"""Which frames the map remembers."""

from __future__ import annotations

import numpy as np

from vpr_ros.config import KeyframeConfig
from vpr_ros.rotations import rotation_angle_deg
from vpr_ros.types import Descriptor, Keyframe, Pose


def is_new_keyframe(
    elapsed_ns: int, descriptor: Descriptor, odom_from_body: Pose | None, last: Keyframe | None, config: KeyframeConfig
) -> bool:
    """Whether a frame, `elapsed_ns` into its drive, differs enough from its camera's last keyframe (None: it is the first).

    Time is necessary; then any of distance, angle (with odometry) and change of the descriptor is enough. A robot that
    stands still therefore adds nothing.
    """
    if last is None:
        return True
    if 0 <= elapsed_ns - last.elapsed_ns < config.min_interval_s * 1e9:  # older than the last: that one's stamp was odd
        return False
    if float(descriptor @ last.descriptor) < config.max_similarity or config.max_similarity >= 1.0:
        return True
    if odom_from_body is None or last.odom_from_body is None:
        return False
    motion = np.linalg.inv(last.odom_from_body) @ odom_from_body
    return bool(
        np.linalg.norm(motion[:3, 3]) >= config.min_distance_m or rotation_angle_deg(motion) >= config.min_angle_deg
    )
