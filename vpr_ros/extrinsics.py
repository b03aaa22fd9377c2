"""Where cameras sit on the robot: `body_from_camera`, which joins closures between cameras with the odometry of a body."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from vpr_ros.config import Config, per_camera
from vpr_ros.errors import ConfigError
from vpr_ros.rotations import pose_from_quaternion, pose_of
from vpr_ros.types import Pose

NAME = "odometry.body_from_camera"


def configured_extrinsics(config: Config) -> dict[str, Pose]:
    """`body_from_camera` by the name of the camera, of those that the configuration names. Raises ConfigError."""
    found = {}
    for camera, text in per_camera(NAME, config.odometry.body_from_camera, config.node.camera_names):
        try:
            numbers = np.array([float(word) for word in text.split()])
            if numbers.shape != (7,):
                raise ValueError("seven numbers are needed")
            found[camera] = pose_from_quaternion(numbers[:3], numbers[3:])
        except ValueError as error:
            raise ConfigError(
                f"{NAME}: {text.strip()!r}: {error}; write x y z qx qy qz qw in metres, like 0.3 0 1.2 -0.5 0.5 -0.5 0.5"
            ) from error
    if "" in found and config.node.camera_names != ("",):
        raise ConfigError(f"{NAME}: name the cameras, like {config.node.camera_names[0]}: x y z qx qy qz qw")
    return found


class StaticTransforms:
    """The static transforms of a robot, as /tf_static has them: a forest of frames."""

    def __init__(self) -> None:
        self._parents: dict[str, tuple[str, Pose]] = {}

    def add(self, parent: str, child: str, parent_from_child: Pose) -> None:
        """The newest one of a child counts."""
        self._parents[child.lstrip("/")] = (parent.lstrip("/"), parent_from_child)

    def update(self, transforms: Iterable[Any]) -> list[str]:
        """Take in the `transforms` of a tf2_msgs/TFMessage; a sentence about each that is none and is left out."""
        faults = []
        for each in transforms:
            try:
                pose = pose_of(each.transform.translation, each.transform.rotation)
            except ValueError as error:
                faults.append(f"/tf_static: {each.child_frame_id} is not used: {error}")
            else:
                self.add(each.header.frame_id, each.child_frame_id, pose)
        return faults

    def between(self, target: str, source: str) -> Pose | None:
        """(4, 4) `target_from_source`; None where static transforms do not join the two frames."""
        to_target, to_source = self._ancestors(target.lstrip("/")), self._ancestors(source.lstrip("/"))
        common = next((frame for frame in to_source if frame in to_target), None)
        if not target or not source or common is None:
            return None
        return np.linalg.inv(to_target[common]) @ to_source[common]

    def _ancestors(self, frame: str) -> dict[str, Pose]:
        """A frame and those above it, each with the transform that takes points of the frame to it; nearest first."""
        found, pose = {frame: np.eye(4)}, np.eye(4)
        while frame in self._parents:
            frame, parent_from_child = self._parents[frame]
            if frame in found:
                break  # a loop: no tree
            pose = parent_from_child @ pose
            found[frame] = pose
        return found
