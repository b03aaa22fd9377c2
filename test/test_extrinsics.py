"""Where cameras sit: by parameter, and along a tree of static transforms."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpr_ros.config import Config
from vpr_ros.errors import ConfigError
from vpr_ros.extrinsics import StaticTransforms, configured_extrinsics
from vpr_ros.rotations import pose_from_quaternion
from vpr_ros.types import Pose

FORWARD = "0.3 0 1.2 -0.5 0.5 -0.5 0.5"


def random_pose(seed: int) -> Pose:
    rng = np.random.default_rng(seed)
    return pose_from_quaternion(rng.normal(size=3), rng.normal(size=4))


def configured(text: str, cameras: str = "") -> dict[str, Pose]:
    return configured_extrinsics(Config().with_values({"odometry.body_from_camera": text, "node.cameras": cameras}))


def test_the_example_of_the_parameter_looks_forward() -> None:
    (pose,) = configured(FORWARD).values()
    ahead, below = pose @ [0, 0, 1, 1], pose @ [0, 1, 0, 1]  # optical frame: z ahead, y down
    np.testing.assert_allclose(ahead[:3], [1.3, 0, 1.2], atol=1e-12)
    np.testing.assert_allclose(below[:3], [0.3, 0, 0.2], atol=1e-12)


def test_cameras_of_a_rig_are_named() -> None:
    found = configured(f"front: {FORWARD}; rear: -0.3 0 1.2 0.5 -0.5 -0.5 0.5", "front,rear")
    np.testing.assert_allclose((found["rear"] @ [0, 0, 1, 1])[:3], [-1.3, 0, 1.2], atol=1e-12)
    assert found.keys() == {"front", "rear"}
    assert configured("", "front,rear") == configured("") == {}


@pytest.mark.parametrize(
    ("text", "cameras", "reason"),
    [
        ("1 2 3", "", "seven numbers"),
        ("1 2 3 0 0 0 0", "", "body_from_camera.*like 0.3 0 1.2"),
        ("1 2 nan 0 0 0 1", "", "body_from_camera"),
        ("a b c 0 0 0 1", "", "body_from_camera"),
        (f"left: {FORWARD}", "front,rear", "no camera 'left'"),
        (FORWARD, "front,rear", "name the cameras, like front"),
    ],
)
def test_what_is_no_pose_of_a_camera_is_refused(text: str, cameras: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        configured(text, cameras)


@given(st.lists(st.integers(0, 100), min_size=1, max_size=8), st.data())
def test_any_two_frames_of_a_tree_are_joined(seeds: list[int], data: st.DataObject) -> None:
    """Against each frame's pose in the root, which is known as the tree grows."""
    transforms, in_root = StaticTransforms(), {"root": np.eye(4)}
    for i, seed in enumerate(seeds):
        parent = data.draw(st.sampled_from(sorted(in_root)))
        transforms.add(parent, f"f{i}", random_pose(seed))
        in_root[f"f{i}"] = in_root[parent] @ random_pose(seed)
    a, b = (data.draw(st.sampled_from(sorted(in_root))) for _ in "ab")
    found = transforms.between(a, b)
    assert found is not None
    np.testing.assert_allclose(found, np.linalg.inv(in_root[a]) @ in_root[b], atol=1e-9)


def test_frames_that_nothing_joins() -> None:
    transforms = StaticTransforms()
    transforms.add("base", "lens", np.eye(4))
    transforms.add("/other", "/far", np.eye(4))
    assert transforms.between("base", "far") is None
    assert transforms.between("", "lens") is None
    assert transforms.between("base", "") is None
    assert transforms.between("other", "far") is not None, "a leading slash is no part of a name"


def test_a_loop_is_no_tree_but_ends() -> None:
    transforms = StaticTransforms()
    transforms.add("a", "b", np.eye(4))
    transforms.add("b", "a", np.eye(4))
    assert transforms.between("a", "c") is None


def test_the_newest_transform_of_a_frame_counts() -> None:
    transforms = StaticTransforms()
    for seed in (1, 2):
        transforms.add("base", "lens", random_pose(seed))
    np.testing.assert_array_equal(transforms.between("base", "lens"), random_pose(2))


def test_one_message_s_transforms_are_taken_in_one_by_one() -> None:
    """A broken one is named, and hides none of those after it."""

    def transform(child: str, w: float) -> SimpleNamespace:
        rotation = SimpleNamespace(x=0.0, y=0.0, z=0.0, w=w)
        translation = SimpleNamespace(x=1.0, y=2.0, z=3.0)
        inner = SimpleNamespace(translation=translation, rotation=rotation)
        return SimpleNamespace(header=SimpleNamespace(frame_id="base"), child_frame_id=child, transform=inner)

    transforms = StaticTransforms()
    (fault,) = transforms.update([transform("a", 1.0), transform("b", 0.0), transform("c", 2.0)])
    assert fault.startswith("/tf_static: b is not used")
    for child in ("a", "c"):
        found = transforms.between("base", child)
        assert found is not None
        assert found[:3, 3].tolist() == [1, 2, 3]
    assert transforms.between("base", "b") is None
