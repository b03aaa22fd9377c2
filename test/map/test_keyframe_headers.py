"""Whatever JSON a header holds, it is refused or of its type: names that are text, times that ROS can hold, numbers that are finite."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vpr_ros.map.keyframe_headers import Header
from vpr_ros.rotations import is_pose

JUNK: list[object] = [None, True, -1, 0, 2**63, 2**64, 1e308, float("nan"), float("inf"), "x", "\ud800", "s" * 2000, [], [1], {}, {"a": 1}]  # fmt: skip
CAMERA: dict[str, Any] = {
    "fx": 1.0,
    "fy": 1.0,
    "cx": 1.0,
    "cy": 1.0,
    "width": 2,
    "height": 2,
    "distortion": [0.1],
    "fisheye": False,
}
GOOD: dict[str, Any] = {
    "robot": "r", "session": "s", "id": 1, "stamp_ns": 2, "camera_name": "c", "frame_id": "f", "travelled_m": 1.5, "elapsed_ns": 3,
    "odometry_segment": 0, "scale": 0.5, "camera": CAMERA, "odom_from_body": np.eye(4).tolist(), "body_from_camera": None,
}  # fmt: skip


def check(values: dict[str, Any]) -> None:
    """Raises what a reader of maps turns into MapError; asserts of all else."""
    head = Header(values, 7)
    ref = head.ref
    for text in (ref.robot, ref.session, ref.camera_name, ref.frame_id):
        assert len(text.encode()) < 4000
    assert 0 <= ref.id < 2**64 - 1
    assert -(2**31) <= ref.stamp_ns // 10**9 < 2**31
    assert head.travelled_m is None or np.isfinite(head.travelled_m)
    assert head.scale is None or 0 < head.scale < np.inf
    for name in ("odom_from_body", "body_from_camera"):
        pose = head.pose(name)
        assert pose is None or is_pose(pose)
    if (camera := head.camera) is not None:
        assert np.isfinite(camera.matrix).all()
        assert np.isfinite(camera.distortion).all()
        assert min(camera.width, camera.height) > 0


def test_a_good_one_is_read() -> None:
    check(GOOD)
    old = {
        name: GOOD[name]
        for name in ("session", "stamp_ns", "frame_id", "travelled_m", "scale", "camera", "odom_from_body")
    }
    assert Header(old, 7).ref.id == 7


@pytest.mark.parametrize("junk", JUNK, ids=lambda junk: ascii(junk)[:12])
@pytest.mark.parametrize("field", [*GOOD, *(f"camera.{name}" for name in CAMERA)])
def test_junk(field: str, junk: object) -> None:
    inner = field.removeprefix("camera.")
    changed = GOOD | {field: junk} if inner == field else GOOD | {"camera": CAMERA | {inner: junk}}
    try:
        check(changed)
    except (ValueError, TypeError, KeyError):
        return


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"session": 7}, "keyframe 7 has no session that can be: '7'"),
        ({"frame_id": None}, "no frame_id"),
        ({"stamp_ns": 10**19}, "no stamp_ns"),
        ({"scale": 0}, "no scale"),
        ({"travelled_m": "far"}, "no travelled_m"),
        ({"camera": CAMERA | {"fx": "a"}}, "no fx"),
    ],
)
def test_the_reason_is_named(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check(GOOD | change)


def test_a_pose_that_is_none_is_left_out() -> None:
    """Maps from before odometry was checked may have them."""
    assert Header(GOOD | {"odom_from_body": [[float("nan")] * 4] * 4}, 0).pose("odom_from_body") is None
