"""Writing bags that `ros2 bag play` understands, without ROS."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from rosbags.rosbag2 import StoragePlugin, Writer, WriterError

from vpr_ros.bags.base import typestore
from vpr_ros.errors import SourceError
from vpr_ros.rotations import matrix_to_quaternion
from vpr_ros.types import Camera, Image, Pose

TYPESTORE = typestore()
"""The standard ROS 2 messages, as `BagWriter.write` takes them: `TYPESTORE.types["sensor_msgs/msg/Image"](...)`."""

_STORAGE = {"sqlite3": StoragePlugin.SQLITE3, "mcap": StoragePlugin.MCAP}


class BagWriter:
    """A new rosbag2 bag at `path` (a folder that must not exist yet); a context manager.

    Stamps are the headers', in ns; a message counts as received at its stamp unless `bag_ns` says otherwise.
    Raises `SourceError` where `path` exists.
    """

    def __init__(self, path: Path | str, storage: Literal["sqlite3", "mcap"] = "sqlite3") -> None:
        try:
            self._writer = Writer(Path(path), version=Writer.VERSION_LATEST, storage_plugin=_STORAGE[storage])
        except WriterError as error:
            raise SourceError(str(error)) from None
        self._connections: dict[str, Any] = {}

    def __enter__(self) -> BagWriter:
        self._writer.open()
        return self

    def __exit__(self, *error: Any) -> None:
        self._writer.__exit__(*error)

    def image(self, topic: str, stamp_ns: int, image: Image, frame_id: str = "", bag_ns: int | None = None) -> None:
        """(H, W, 3) uint8 RGB as a `sensor_msgs/Image`, rgb8."""
        height, width = image.shape[:2]
        data = np.ascontiguousarray(image).reshape(-1)
        message = _new("sensor_msgs/msg/Image", _header(stamp_ns, frame_id), height, width, "rgb8", 0, 3 * width, data)
        self.write(topic, message, stamp_ns if bag_ns is None else bag_ns)

    def plane(self, topic: str, stamp_ns: int, plane: NDArray[Any], encoding: str, frame_id: str = "") -> None:
        """(H, W) of any type as a `sensor_msgs/Image` of that one-channel encoding, such as 32FC1 or mono8."""
        height, width = plane.shape
        data = np.frombuffer(plane.tobytes(), dtype=np.uint8)
        header, step = _header(stamp_ns, frame_id), plane.itemsize * width
        self.write(topic, _new("sensor_msgs/msg/Image", header, height, width, encoding, 0, step, data), stamp_ns)

    def compressed_image(
        self,
        topic: str,
        stamp_ns: int,
        image: Image,
        frame_id: str = "",
        format: Literal["jpeg", "png"] = "jpeg",
        quality: int = 90,
    ) -> None:
        """(H, W, 3) uint8 RGB as a `sensor_msgs/CompressedImage`; `quality` of jpeg is 1 to 100."""
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        _, data = cv2.imencode(f".{format}", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality] if format == "jpeg" else [])
        described = f"rgb8; {format} compressed bgr8"
        self.write(
            topic, _new("sensor_msgs/msg/CompressedImage", _header(stamp_ns, frame_id), described, data), stamp_ns
        )

    def camera_info(self, topic: str, stamp_ns: int, camera: Camera, frame_id: str = "") -> None:
        """Intrinsics as a `sensor_msgs/CameraInfo` of an image that is not rectified."""
        pinhole = "rational_polynomial" if len(camera.distortion) > 5 else "plumb_bob"
        message = _new(
            "sensor_msgs/msg/CameraInfo",
            _header(stamp_ns, frame_id),
            camera.height,
            camera.width,
            "equidistant" if camera.fisheye else pinhole,
            np.array(camera.distortion or (0.0,) * (4 if camera.fisheye else 5)),
            camera.matrix.reshape(-1),
            np.eye(3).reshape(-1),
            np.hstack((camera.matrix, np.zeros((3, 1)))).reshape(-1),
            0,
            0,
            _new("sensor_msgs/msg/RegionOfInterest", 0, 0, 0, 0, False),
        )
        self.write(topic, message, stamp_ns)

    def odometry(
        self,
        topic: str,
        stamp_ns: int,
        odom_from_body: Pose,
        frame_id: str = "odom",
        child_frame_id: str = "base_link",
        bag_ns: int | None = None,
    ) -> None:
        """A (4, 4) pose as a `nav_msgs/Odometry` with zero twist and covariance; received at its stamp unless `bag_ns`."""
        zero = _new("geometry_msgs/msg/Vector3", 0.0, 0.0, 0.0)
        covariance = np.zeros(36)
        pose = _new(
            "geometry_msgs/msg/Pose",
            _new("geometry_msgs/msg/Point", *odom_from_body[:3, 3].tolist()),
            _new("geometry_msgs/msg/Quaternion", *matrix_to_quaternion(odom_from_body[:3, :3]).tolist()),
        )
        message = _new(
            "nav_msgs/msg/Odometry",
            _header(stamp_ns, frame_id),
            child_frame_id,
            _new("geometry_msgs/msg/PoseWithCovariance", pose, covariance),
            _new("geometry_msgs/msg/TwistWithCovariance", _new("geometry_msgs/msg/Twist", zero, zero), covariance),
        )
        self.write(topic, message, stamp_ns if bag_ns is None else bag_ns)

    def static_transform(self, stamp_ns: int, parent: str, child: str, parent_from_child: Pose) -> None:
        """A (4, 4) transform on `/tf_static`."""
        transform = _new(
            "geometry_msgs/msg/Transform",
            _new("geometry_msgs/msg/Vector3", *parent_from_child[:3, 3].tolist()),
            _new("geometry_msgs/msg/Quaternion", *matrix_to_quaternion(parent_from_child[:3, :3]).tolist()),
        )
        stamped = _new("geometry_msgs/msg/TransformStamped", _header(stamp_ns, parent), child, transform)
        self.write("/tf_static", _new("tf2_msgs/msg/TFMessage", [stamped]), stamp_ns)

    def write(self, topic: str, message: Any, bag_ns: int) -> None:
        """Any message of `TYPESTORE`, as received at `bag_ns`."""
        kind = message.__msgtype__
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(topic, kind, typestore=TYPESTORE)
        self._writer.write(self._connections[topic], bag_ns, TYPESTORE.serialize_cdr(message, kind))


def _new(kind: str, *fields: Any) -> Any:
    return TYPESTORE.types[kind](*fields)


def _header(stamp_ns: int, frame_id: str) -> Any:
    seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
    return _new("std_msgs/msg/Header", _new("builtin_interfaces/msg/Time", seconds, nanoseconds), frame_id)
