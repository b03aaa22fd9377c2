"""Frames from a rosbag2 bag."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vpr_ros.errors import ImageError, SourceError
from vpr_ros.images import camera_from_info, decode_compressed, decode_image
from vpr_ros.rotations import pose_from_quaternion
from vpr_ros.sources.base import Source
from vpr_ros.sources.rosbag import Bag, Message, typestore
from vpr_ros.sources.truth import Truth, read_truth
from vpr_ros.trajectory import Trajectory
from vpr_ros.types import Camera, Frame, Image, Pose

IMAGE, COMPRESSED_IMAGE = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
ODOMETRY = "nav_msgs/msg/Odometry"

_DECODERS = {IMAGE: decode_image, COMPRESSED_IMAGE: decode_compressed}
_TRUTH_TYPES = (ODOMETRY, "geometry_msgs/msg/PoseStamped", "geometry_msgs/msg/PoseWithCovarianceStamped")

ODOMETRY_TOLERANCE_NS = 100_000_000
"""Odometry further than this from a frame is none: at 1 m/s it would be 10 cm off."""


class BagSource(Source):
    """The images of one topic of a rosbag2 bag (sqlite3 or mcap, a folder or a single file), stamped by their headers.

    - `image_topic`: raw or compressed; may be left empty where the bag has exactly one image topic;
    - `camera_info_topic`: default the image topic's sibling `camera_info`, where the bag has it;
    - `odom_topic`: `nav_msgs/Odometry`, the nearest one within `ODOMETRY_TOLERANCE_NS` goes with each frame;
    - `ground_truth_topic` (`Odometry`, `PoseStamped` or `PoseWithCovarianceStamped`: the camera's pose) or
      `ground_truth_file` (on the headers' clock, or a row for each image; see `sources/truth.py`).

    A truncated or unfinished bag is read to its last good message, and `notes` says so.
    Raises `SourceError`: a bag that nothing can be read from, a topic that is missing, ambiguous or of another type.
    """

    def __init__(
        self,
        path: Path | str,
        image_topic: str = "",
        camera_info_topic: str = "",
        odom_topic: str = "",
        ground_truth_topic: str = "",
        ground_truth_file: Path | str = "",
        *,
        ground_truth_offset_s: float = 0.0,
        odometry_from_poses: bool = False,
    ) -> None:
        if ground_truth_topic and ground_truth_file:
            raise SourceError("pass ground_truth_topic or ground_truth_file, not both")
        self._path = Path(path)
        self._odometry: Trajectory | None = None
        with Bag(path) as bag:
            self._topic = _image_topic(bag, image_topic)
            self._type, self._count = bag.topics[self._topic]
            self._intrinsics = _camera(bag, self._topic, camera_info_topic)
            truth = read_truth(ground_truth_file) if ground_truth_file else None
            if ground_truth_topic:
                truth = _truth(bag, ground_truth_topic)
            if odom_topic:
                self._odometry = _trajectory(bag, odom_topic, "odom_topic", (ODOMETRY,))
        super().__init__(
            self._path.resolve().name,
            truth=truth,
            ground_truth_offset_s=ground_truth_offset_s,
            odometry_from_poses=odometry_from_poses,
        )
        self._add_notes(bag)

    def __len__(self) -> int:
        return self._count

    def _image(self, index: int) -> Image | None:
        stamp_ns, bag_ns = self._index[index]
        with Bag(self._path) as bag:
            for message in bag.messages([self._topic], bag_ns, bag_ns + 1):
                if _stamp_ns(message) == stamp_ns:
                    frame = self._frame(message)
                    return frame.image if isinstance(frame, Frame) else None
        return None

    def _read(self) -> Iterator[Frame | ImageError]:
        read = without_odometry = 0
        with Bag(self._path) as bag:
            for message in bag.messages([self._topic]):
                item = self._frame(message)
                read += 1
                without_odometry += isinstance(item, Frame) and item.odom_from_body is None
                yield item
        self._add_notes(bag)
        if read < self._count:
            self._note(f"{self._topic} gave {read} of the {self._count} images that the bag announces")
        if self._odometry is not None and without_odometry:
            self._note(f"{without_odometry} frames have no odometry within {ODOMETRY_TOLERANCE_NS / 1e9:g} s")

    def _stamps(self) -> NDArray[np.int64]:
        return np.array([stamp_ns for stamp_ns, _ in self._index], np.int64)

    @cached_property
    def _index(self) -> list[tuple[int, int]]:
        """Every image's stamp and bag time, which are cheap next to decoding it."""
        with Bag(self._path) as bag:
            found = [(_stamp_ns(message), message.bag_ns) for message in bag.messages([self._topic])]
        self._add_notes(bag)
        return found

    def _frame(self, message: Message) -> Frame | ImageError:
        try:
            content = _deserialized(message, self._type)
            image = _DECODERS[self._type](content)
        except ImageError as error:
            return error
        stamp_ns = _stamp_ns(message)
        return Frame(
            stamp_ns,
            image,
            camera=self._camera_of(image),
            odom_from_body=self._odometry.at(stamp_ns, ODOMETRY_TOLERANCE_NS) if self._odometry else None,
            frame_id=content.header.frame_id,
        )

    def _camera_of(self, image: Image) -> Camera | None:
        camera, (height, width) = self._intrinsics, image.shape[:2]
        if camera and (camera.width, camera.height) != (width, height):
            self._note(
                f"camera_info is for {camera.width} x {camera.height} px, images are {width} x {height} px: not used"
            )
            return None
        return camera

    def _add_notes(self, bag: Bag) -> None:
        for note in bag.notes:
            self._note(note)


def _image_topic(bag: Bag, requested: str) -> str:
    if requested:
        _check_topic(bag, requested, "image_topic", tuple(_DECODERS))
        return requested
    found = [name for name, topic in bag.topics.items() if topic.type in _DECODERS and topic.messages]
    if len(found) == 1:
        return found[0]
    if not found:
        raise SourceError(f"{bag.path}: has no images; its topics are {_listed(bag, bag.topics)}")
    raise SourceError(f"{bag.path}: has several image topics; pass image_topic=, one of {_listed(bag, found)}")


def _check_topic(bag: Bag, topic: str, option: str, types: tuple[str, ...]) -> None:
    fitting = [name for name, (kind, _) in bag.topics.items() if kind in types]
    if topic not in bag.topics:
        raise SourceError(f"{bag.path}: has no topic {topic!r}; {option}= can be one of {_listed(bag, fitting)}")
    if topic not in fitting:
        raise SourceError(f"{bag.path}: {topic} is {bag.topics[topic].type}; {option}= needs {' or '.join(types)}")


def _listed(bag: Bag, topics: Collection[str]) -> str:
    return (
        ", ".join(f"{name} ({bag.topics[name].type}, {bag.topics[name].messages} messages)" for name in sorted(topics))
        or "none"
    )


def _camera(bag: Bag, image_topic: str, requested: str) -> Camera | None:
    if requested:
        _check_topic(bag, requested, "camera_info_topic", (CAMERA_INFO,))
    topic = requested or _camera_info_sibling(image_topic)
    if topic not in bag.topics or bag.topics[topic].type != CAMERA_INFO:
        return None
    for message in bag.messages([topic]):
        try:
            return camera_from_info(_deserialized(message, CAMERA_INFO))
        except ImageError:
            continue
    return None


def _camera_info_sibling(image_topic: str) -> str:
    """Where image_transport looks: beside the base topic, of which `/compressed` is a transport."""
    return image_topic.removesuffix("/compressed").rpartition("/")[0] + "/camera_info"


def _trajectory(bag: Bag, topic: str, option: str, types: tuple[str, ...]) -> Trajectory:
    _check_topic(bag, topic, option, types)
    kind, poses = bag.topics[topic].type, {}
    for message in bag.messages([topic]):
        try:
            poses[_stamp_ns(message)] = _pose(_deserialized(message, kind))
        except (ImageError, ValueError):
            continue
    if not poses:
        raise SourceError(f"{bag.path}: {topic} holds no readable pose")
    stamps = np.array(list(poses), np.int64)
    return Trajectory.sorted(stamps, np.array(list(poses.values())))


def _truth(bag: Bag, topic: str) -> Truth:
    """The poses of a topic in the order of the bag: the clock of their stamps may restart."""
    _check_topic(bag, topic, "ground_truth_topic", _TRUTH_TYPES)
    kind = bag.topics[topic].type
    stamps, poses, unusable = [], [], 0
    for message in bag.messages([topic]):
        try:
            poses.append(_pose(_deserialized(message, kind)))
        except (ImageError, ValueError):
            unusable += 1
            continue
        stamps.append(_stamp_ns(message))
    if not poses:
        raise SourceError(f"{bag.path}: {topic} holds no readable pose")
    total = len(poses) + unusable
    notes = (f"{topic}: {unusable} of {total} messages hold no pose and are not used",) if unusable else ()
    return Truth(topic, tuple(stamps), np.array(poses), notes, unit="s")


def _pose(message: Any) -> Pose:
    pose = getattr(message.pose, "pose", message.pose)  # with covariance, or without
    position, rotation = pose.position, pose.orientation
    return pose_from_quaternion(
        np.array([position.x, position.y, position.z]), np.array([rotation.x, rotation.y, rotation.z, rotation.w])
    )


def _stamp_ns(message: Message) -> int:
    """The stamp of a message that begins with a header, read without decoding the rest.

    Bag time stands in where a driver left the stamp at zero.
    """
    if len(message.data) < 12:
        return message.bag_ns
    little_endian = message.data[1] & 1
    seconds, nanoseconds = struct.unpack_from("<iI" if little_endian else ">iI", message.data, 4)
    return seconds * 1_000_000_000 + nanoseconds or message.bag_ns


def _deserialized(message: Message, kind: str) -> Any:
    try:
        return typestore().deserialize_cdr(message.data, kind)
    except Exception as error:  # rosbags checks no bounds: a short message ends in whatever numpy or struct says
        raise ImageError(f"{message.topic}: a message of {len(message.data)} bytes is not a {kind}: {error}") from None
