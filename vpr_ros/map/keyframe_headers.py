"""What a map file, or an archive of before, holds of a keyframe that is no array: plain values, checked when they are read.

What goes wrong here would otherwise go wrong at every frame that meets the keyframe: a name that is no text cannot be published.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from vpr_ros.rotations import is_pose
from vpr_ros.types import Camera, KeyframeRef, Pose

_LONGEST_NAME = 1000
LARGEST_STAMP_NS = 2**31 * 10**9
"""ROS keeps seconds in 32 bits."""
_LARGEST_ID = 2**64 - 2
"""One more is `KeyframeRef.NO_ID` of the message."""
_MOST_COEFFICIENTS = 14
"""Of OpenCV's models of distortion."""


class Header:
    """The plain values of one keyframe, read by their types.

    What older files do not have is None, or the default that is given. Raises ValueError, with the name of the value.
    """

    def __init__(self, values: Any, position: int) -> None:
        """`position` of the keyframe in the file, which was its id once."""
        if not isinstance(values, Mapping):
            raise ValueError(f"keyframe {position} is no mapping of names to values")
        self._values, self._position = values, position

    @property
    def ref(self) -> KeyframeRef:
        return KeyframeRef(
            robot=self._name("robot"),
            session=self._name("session", is_required=True),
            id=self.integer("id", self._position, 0, _LARGEST_ID),
            stamp_ns=self.integer("stamp_ns", None, -LARGEST_STAMP_NS, LARGEST_STAMP_NS - 1),
            camera_name=self._name("camera_name"),
            frame_id=self._name("frame_id", is_required=True),
        )

    @property
    def camera(self) -> Camera | None:
        values = self._values["camera"]
        if values is None:
            return None
        camera = Header(values, self._position)
        distortion = camera._values["distortion"]
        if not isinstance(distortion, list) or len(distortion) > _MOST_COEFFICIENTS:
            raise self._wrong("distortion")
        return Camera(
            fx=camera._positive("fx"),
            fy=camera._positive("fy"),
            cx=camera._number("cx"),
            cy=camera._number("cy"),
            width=camera.integer("width", None, 1, 2**31),
            height=camera.integer("height", None, 1, 2**31),
            distortion=tuple(Header({"distortion": each}, self._position)._number("distortion") for each in distortion),
            fisheye=bool(camera._values.get("fisheye", False)),
        )

    @property
    def scale(self) -> float | None:
        """Of the thumbnail; None where there is none."""
        return None if self._values["scale"] is None else self._positive("scale")

    @property
    def travelled_m(self) -> float | None:
        return None if self._values["travelled_m"] is None else self._number("travelled_m")

    def pose(self, name: str) -> Pose | None:
        """None also for numbers that are no pose: maps from before odometry was checked have some."""
        rows = self._values.get(name)
        if rows is None:
            return None
        pose = np.array(rows, dtype=np.float64)
        return pose if is_pose(pose) else None

    def integer(self, name: str, default: int | None, least: int, most: int) -> int:
        """Required where `default` is None."""
        value = self._values[name] if default is None else self._values.get(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise self._wrong(name)
        return value

    def _name(self, name: str, is_required: bool = False) -> str:
        value = self._values[name] if is_required else self._values.get(name, "")
        if not isinstance(value, str) or len(value) > _LONGEST_NAME:
            raise self._wrong(name)
        value.encode()  # half of a surrogate pair, which JSON can hold and no message
        return value

    def _number(self, name: str) -> float:
        value = self._values[name]
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise self._wrong(name)
        return float(value)

    def _positive(self, name: str) -> float:
        if (value := self._number(name)) <= 0.0:
            raise self._wrong(name)
        return value

    def _wrong(self, name: str) -> ValueError:
        return ValueError(f"keyframe {self._position} has no {name} that can be: {str(self._values.get(name))[:60]!r}")
