"""Frames from a rosbag2 bag."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vpr_ros.bags.base import CDR, Message, Topic, typestore
from vpr_ros.bags.compressed import UnpackedFiles
from vpr_ros.bags.reader import Bag
from vpr_ros.calibration import Calibration, Calibrations, is_rectified
from vpr_ros.errors import ImageError, Keyword, SourceError
from vpr_ros.extrinsics import StaticTransforms
from vpr_ros.images import decode_compressed, decode_image
from vpr_ros.recognition.drive_clock import stamp_or_received
from vpr_ros.rotations import pose_of
from vpr_ros.sources.base import Source
from vpr_ros.sources.truth import Truth, read_truth
from vpr_ros.trajectory import nearest
from vpr_ros.types import Camera, Frame, Image, Pose

IMAGE, COMPRESSED_IMAGE = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
ODOMETRY = "nav_msgs/msg/Odometry"
TRANSFORMS, STATIC_TRANSFORMS = "tf2_msgs/msg/TFMessage", "/tf_static"

_DECODERS = {IMAGE: decode_image, COMPRESSED_IMAGE: decode_compressed}
_TRUTH_TYPES = (ODOMETRY, "geometry_msgs/msg/PoseStamped", "geometry_msgs/msg/PoseWithCovarianceStamped")

ODOMETRY_TOLERANCE_NS = 100_000_000
"""Odometry further than this from a frame is none: at 1 m/s it would be 10 cm off."""


class BagSource(Source):
    """The images of one topic of a rosbag2 bag (sqlite3 or mcap, a folder or a single file), stamped by their headers.

    - `image_topic`: raw or compressed; may be left empty where the bag has exactly one image topic;
    - `camera_info_topic`: default the image topic's sibling `camera_info`, where the bag has it. An image goes with the
      last message before it, the first images with the first message;
    - `odom_topic`: `nav_msgs/Odometry`, the nearest one within `ODOMETRY_TOLERANCE_NS` goes with each frame; where the camera
      sits on its body is known from `/tf_static`, where the bag has it;
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
            raise SourceError(Keyword("ground_truth_topic"), " or ", Keyword("ground_truth_file"), ", not both")
        self._path = Path(path)
        self._odometry: _Odometry | None = None
        self._unpacked = UnpackedFiles()
        with self._bag() as bag:
            self._topic = _image_topic(bag, image_topic)
            self._type, self._count = bag.topics[self._topic][:2]
            self._info_topic = _info_topic(bag, self._topic, camera_info_topic)
            truth = read_truth(ground_truth_file) if ground_truth_file else None
            if ground_truth_topic:
                truth = _truth(bag, ground_truth_topic)
            if odom_topic:
                self._odometry = _odometry(bag, odom_topic)
            self._transforms, faults = _static_transforms(bag)
        super().__init__(
            self._path.resolve().name,
            truth=truth,
            ground_truth_offset_s=ground_truth_offset_s,
            odometry_from_poses=odometry_from_poses,
        )
        self._add_notes(bag)
        if self._odometry is not None and self._odometry.note:
            self._note(self._odometry.note)
        for fault in faults if self._odometry is not None else ():
            self._note(fault)

    def __len__(self) -> int:
        return self._count

    def _bag(self) -> Bag:
        return Bag(self._path, self._unpacked)

    def _image(self, index: int) -> Image | None:
        stamp_ns, bag_ns = self._index[index]
        with self._bag() as bag:
            for message in bag.messages([self._topic], bag_ns, bag_ns + 1):
                if _stamp_ns(message) == stamp_ns:
                    try:
                        return self._decoded(message)[1]
                    except ImageError:
                        return None
        return None

    def _read(self) -> Iterator[Frame | ImageError]:
        read = without_odometry = unstamped = 0
        self._calibrations = Calibrations(rectified=is_rectified(self._topic))
        with self._bag() as bag:
            topics = [self._topic]
            if self._info_topic:
                topics.append(self._info_topic)
                self._calibrate(next(filter(None, map(_calibration, bag.messages([self._info_topic]))), None))
            for message in bag.messages(topics):
                if message.topic == self._info_topic:
                    self._calibrate(_calibration(message))
                    continue
                item = self._frame(message)
                read += 1
                unstamped += _header_ns(message) == 0
                without_odometry += isinstance(item, Frame) and item.odom_from_body is None
                yield item
        self._add_notes(bag)
        if read < self._count:
            self._note(f"{self._topic} gave {read} of the {self._count} images that the bag announces")
        if unstamped:
            self._note(f"{unstamped} of {read} images carry no stamp: the time of recording stands in")
        if self._odometry is not None and without_odometry:
            self._note(f"{without_odometry} frames have no odometry within {ODOMETRY_TOLERANCE_NS / 1e9:g} s")

    def _stamps(self) -> NDArray[np.int64]:
        return np.array([stamp_ns for stamp_ns, _ in self._index], np.int64)

    @cached_property
    def _index(self) -> list[tuple[int, int]]:
        """Every image's stamp and bag time, which are cheap next to decoding it."""
        with self._bag() as bag:
            found = [(_stamp_ns(message), message.bag_ns) for message in bag.messages([self._topic])]
        self._add_notes(bag)
        return found

    def _frame(self, message: Message) -> Frame | ImageError:
        try:
            content, image = self._decoded(message)
        except ImageError as error:
            return error
        stamp_ns = _stamp_ns(message)
        pose, odometry_frame = self._odometry.at(stamp_ns) if self._odometry else (None, "")
        return Frame(
            stamp_ns,
            image,
            camera=self._camera_of(image),
            odom_from_body=pose,
            frame_id=content.header.frame_id,
            odometry_frame=odometry_frame,
            received_ns=message.bag_ns,
            body_from_camera=self._transforms.between(odometry_frame.rpartition("/")[2], content.header.frame_id),
        )

    def _decoded(self, message: Message) -> tuple[Any, Image]:
        content = _deserialized(message, self._type)
        return content, _DECODERS[self._type](content, self._depth)

    def _calibrate(self, calibration: Calibration | None) -> None:
        if calibration is not None and (change := self._calibrations.update(calibration)):
            self._note(change)

    def _camera_of(self, image: Image) -> Camera | None:
        judged = self._calibrations.camera_for(width=image.shape[1], height=image.shape[0])
        if judged.why:
            self._note(str(judged))
        return judged.camera

    def _add_notes(self, bag: Bag) -> None:
        for note in bag.notes:
            self._note(note)


def _image_topic(bag: Bag, requested: str) -> str:
    if requested:
        _check_topic(bag, requested, "image_topic", tuple(_DECODERS))
        return requested
    found = [name for name, topic in bag.topics.items() if _is_image(topic) and topic.messages]
    if len(found) == 1:
        return found[0]
    if not found:
        advice = next(filter(None, (_advice(name, bag.topics[name]) for name in sorted(bag.topics))), "")
        raise SourceError(
            f"{bag.path}: has no images; its topics are {_listed(bag, bag.topics)}{advice and '; '}{advice}"
        )
    several = f"{bag.path}: has several image topics; choose one with "
    raise SourceError(several, Keyword("image_topic"), f": {_listed(bag, found)}")


def _check_topic(bag: Bag, topic: str, option: str, types: tuple[str, ...]) -> None:
    fitting = [name for name, found in bag.topics.items() if found.type in types and found.encoding == CDR]
    if topic not in bag.topics:
        raise SourceError(
            f"{bag.path}: has no topic {topic!r}; ", Keyword(option), f" can be one of {_listed(bag, fitting)}"
        )
    if topic not in fitting:
        advice = _advice(topic, bag.topics[topic])
        raise SourceError(
            f"{bag.path}: {topic} is {_described(bag.topics[topic])}; ",
            Keyword(option),
            f" needs {' or '.join(types)}{advice and '; '}{advice}",
        )


def _is_image(topic: Topic) -> bool:
    return topic.type in _DECODERS and topic.encoding == CDR


_VIDEO_TRANSPORTS = {
    "foxglove_msgs/msg/CompressedVideo": "foxglove",
    "ffmpeg_image_transport_msgs/msg/FFMPEGPacket": "ffmpeg",
    "theora_image_transport/msg/Packet": "theora",
}
"""Types whose messages are no pictures by themselves, and the plugin of image_transport that decodes them."""


def _advice(name: str, topic: Topic) -> str:
    """What to do with a topic that could hold images, but not as ROS 2 serialises them; empty where it is something else."""
    if transport := _VIDEO_TRANSPORTS.get(topic.type):
        base = name.removesuffix(f"/{transport}")
        return (
            f"{name} is a video: play the bag, record {base}/compressed, and meanwhile "
            f"ros2 run image_transport republish --ros-args -p in_transport:={transport} -p out_transport:=compressed "
            f"-r in/{transport}:={name} -r out/compressed:={base}/compressed"
        )
    if topic.encoding == "ros1":
        return (
            f"{name} is a recording of ROS 1: convert the .bag it was made of, "
            "rosbags-convert --src RECORDING.bag --dst RECORDING"
        )
    if topic.encoding != CDR:
        return f"{name} is {topic.encoding}: record it in ROS 2 as {COMPRESSED_IMAGE}"
    if not topic.type:
        return f"the file has no schema for {name}, so its type is unknown: record it again with ros2 bag record {name}"
    if "nitros" in topic.type.lower():
        return f"{name} exists on the GPU only: record the {IMAGE} that NITROS publishes beside it"
    return ""


def _listed(bag: Bag, topics: Collection[str]) -> str:
    each = (f"{name} ({_described(bag.topics[name])}, {bag.topics[name].messages} messages)" for name in sorted(topics))
    return ", ".join(each) or "none"


def _described(topic: Topic) -> str:
    return (topic.type or "of unknown type") + ("" if topic.encoding == CDR else f" in {topic.encoding}")


def _info_topic(bag: Bag, image_topic: str, requested: str) -> str:
    """Empty where there is none."""
    if requested:
        _check_topic(bag, requested, "camera_info_topic", (CAMERA_INFO,))
        return requested
    sibling = _camera_info_sibling(image_topic)
    found = bag.topics.get(sibling)
    return sibling if found and found.type == CAMERA_INFO and found.encoding == CDR else ""


def _calibration(message: Message) -> Calibration | None:
    """None for a message that cannot be read."""
    try:
        return Calibration.of_info(_deserialized(message, CAMERA_INFO))
    except ImageError:
        return None


def _camera_info_sibling(image_topic: str) -> str:
    """Where image_transport looks: beside the base topic, of which `/compressed` is a transport."""
    return image_topic.removesuffix("/compressed").rpartition("/")[0] + "/camera_info"


@dataclass(frozen=True, slots=True, eq=False)
class _Odometry:
    """Poses by stamp, (N,) int64 ns ascending, and the names of the frames of each: odom_from_body is "odom/body"."""

    stamps: NDArray[np.int64]
    poses: tuple[Pose, ...]
    frames: tuple[str, ...]
    note: str

    def at(self, stamp_ns: int) -> tuple[Pose | None, str]:
        index = int(nearest(self.stamps, np.array([stamp_ns], np.int64), ODOMETRY_TOLERANCE_NS)[0])
        return (None, "") if index < 0 else (self.poses[index], self.frames[index])


def _odometry(bag: Bag, topic: str) -> _Odometry:
    _check_topic(bag, topic, "odom_topic", (ODOMETRY,))
    posed, note = _posed(bag, topic)
    last = {one.stamp_ns: one for one in posed}  # of equal stamps
    stamps = sorted(last)
    poses = tuple(last[stamp].pose for stamp in stamps)
    return _Odometry(np.array(stamps, np.int64), poses, tuple(last[stamp].frames for stamp in stamps), note)


def _truth(bag: Bag, topic: str) -> Truth:
    """The poses of a topic in the order of the bag: the clock of their stamps may restart."""
    _check_topic(bag, topic, "ground_truth_topic", _TRUTH_TYPES)
    posed, note = _posed(bag, topic)
    if not posed:
        raise SourceError(f"{bag.path}: {topic} holds no readable pose")
    stamps, poses = tuple(one.stamp_ns for one in posed), np.array([one.pose for one in posed])
    return Truth(topic, stamps, poses, (note,) if note else (), unit="s")


def _static_transforms(bag: Bag) -> tuple[StaticTransforms, list[str]]:
    """Those that the bag holds, if any, and what is wrong with some of them."""
    found, faults = StaticTransforms(), []
    if STATIC_TRANSFORMS in bag.topics and bag.topics[STATIC_TRANSFORMS].type == TRANSFORMS:
        for message in bag.messages([STATIC_TRANSFORMS]):
            try:
                faults += found.update(_deserialized(message, TRANSFORMS).transforms)
            except ImageError as error:
                faults.append(str(error))
    return found, faults


class _Posed(NamedTuple):
    stamp_ns: int
    pose: Pose
    frames: str
    """`frame_id/child_frame_id`."""


def _posed(bag: Bag, topic: str) -> tuple[list[_Posed], str]:
    """The poses of a topic in the order of the bag, and a note on messages that hold none; empty where all do."""
    kind, posed, unusable = bag.topics[topic].type, [], 0
    for message in bag.messages([topic]):
        try:
            content = _deserialized(message, kind)
            frames = f"{content.header.frame_id}/{getattr(content, 'child_frame_id', '')}"
            posed.append(_Posed(_stamp_ns(message), _pose(content), frames))
        except (ImageError, ValueError):
            unusable += 1
    total = len(posed) + unusable
    return posed, f"{topic}: {unusable} of {total} messages hold no pose and are not used" if unusable else ""


def _pose(message: Any) -> Pose:
    pose = getattr(message.pose, "pose", message.pose)  # with covariance, or without
    return pose_of(pose.position, pose.orientation)


def _stamp_ns(message: Message) -> int:
    """The stamp of a message that begins with a header; bag time stands in where a driver left it at zero."""
    return stamp_or_received(_header_ns(message), message.bag_ns)


def _header_ns(message: Message) -> int:
    """The stamp in a header at the beginning of a message, read without decoding the rest; 0 where there is none."""
    if len(message.data) < 12:
        return 0
    little_endian = message.data[1] & 1
    seconds, nanoseconds = struct.unpack_from("<iI" if little_endian else ">iI", message.data, 4)
    return int(seconds * 1_000_000_000 + nanoseconds)


def _deserialized(message: Message, kind: str) -> Any:
    try:
        return typestore().deserialize_cdr(message.data, kind)
    except Exception as error:  # rosbags checks no bounds: a short message ends in whatever numpy or struct says
        raise ImageError(f"{message.topic}: a message of {len(message.data)} bytes is not a {kind}: {error}") from None
