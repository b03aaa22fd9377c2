"""What is seen of the ROS graph: topics with what came of them, and nodes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from nav_msgs.msg import Odometry
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from vpr_ros.ros.doctor.qos import mismatch, qos_text

KINDS = {
    "sensor_msgs/msg/Image": Image,
    "sensor_msgs/msg/CompressedImage": CompressedImage,
    "sensor_msgs/msg/CameraInfo": CameraInfo,
    "nav_msgs/msg/Odometry": Odometry,
}
"""Types that our node could use."""
LATE_S = 1.0
"""Stamps that differ from this machine's clock by more are another clock's."""
NOT_FOR_PEOPLE = ("depth", "disparity", "mask", "/attention")
"""In names of image topics that are no camera pictures."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One publisher or subscription of a topic; `node` is its full name."""

    node: str
    qos: QoSProfile


@dataclass(slots=True)
class Stream:
    """A topic, and what came of it."""

    topic: str
    type: str
    publishers: list[Endpoint] = field(default_factory=list)
    subscriptions: list[Endpoint] = field(default_factory=list)
    arrivals_s: list[float] = field(default_factory=list)
    size: int = 0
    """Of all messages, in bytes."""
    first: bytes = b""
    first_s: float = 0.0
    """System time at which `first` came."""
    is_watched: bool = False
    is_refused: bool = False
    """Whether it cannot be listened to, because the topic is listened to as another type."""

    def on_message(self, raw: bytes) -> None:
        if not self.arrivals_s:
            self.first, self.first_s = bytes(raw), time.time()
        self.arrivals_s.append(time.monotonic())
        self.size += len(raw)

    @property
    def kind(self) -> str:
        """`Image`, `CompressedImage`, `CameraInfo` or `Odometry`; the whole type of what our node has no use for."""
        return PurePosixPath(self.type).name if self.type in KINDS else self.type

    @property
    def is_image(self) -> bool:
        return self.kind in ("Image", "CompressedImage")

    @property
    def base(self) -> str:
        """The topic without the transport that image_transport appends."""
        return self.topic.removesuffix("/compressed")

    @property
    def rate_hz(self) -> float | None:
        """From the first arrival to the last; None for fewer than two."""
        if len(self.arrivals_s) < 2:
            return None
        return (len(self.arrivals_s) - 1) / max(1e-6, self.arrivals_s[-1] - self.arrivals_s[0])

    @property
    def rate(self) -> str:
        """`30.0 Hz, 28 MB/s` of what came."""
        if self.rate_hz is None:
            return "1 message"
        per_second = self.size / len(self.arrivals_s) * self.rate_hz
        return f"{self.rate_hz:.1f} Hz, {per_second / 1e6:.2g} MB/s"

    @property
    def published(self) -> str:
        """`2 publishers, best effort, volatile`."""
        count = len(self.publishers)
        profiles = sorted({qos_text(e.qos) for e in self.publishers})
        return f"{count} publisher{'s' if count > 1 else ''}, {' and '.join(profiles)}"

    @property
    def publisher_names(self) -> str:
        """`/front/camera and /rear/camera`."""
        return " and ".join(sorted({endpoint.node for endpoint in self.publishers}))

    @property
    def as_published(self) -> str:
        """`/camera publishes it as Image`."""
        return f"{self.publisher_names} publishes it as {self.kind}"

    def mismatch(self, subscription: QoSProfile = qos_profile_sensor_data) -> str:
        """Why a subscription (our node's, unless given) hears nothing of some publisher; empty if it hears all."""
        return next((why for e in self.publishers if (why := mismatch(e.qos, subscription))), "")

    def stamp_ns(self) -> int | None:
        """Of the first message; None if there was none."""
        message = self.message()
        if message is None:
            return None
        # not by vpr_ros.ros.messages: that needs OpenCV and vpr_msgs, which may be what is broken
        return int(message.header.stamp.sec) * 10**9 + int(message.header.stamp.nanosec)

    def message(self) -> Any:
        """The first message, None if there was none."""
        return deserialize_message(self.first, KINDS[self.type]) if self.first else None

    def lag_s(self) -> float | None:
        """How far the first message's stamp lay behind the system's clock when it came."""
        stamp_ns = self.stamp_ns()
        return None if stamp_ns is None else self.first_s - stamp_ns * 1e-9


@dataclass(frozen=True, slots=True)
class Complaint:
    """A status of our node on /diagnostics that is not OK."""

    part: str
    """`stream` or `place recognition`."""
    is_error: bool
    text: str


@dataclass(frozen=True, slots=True)
class VprNode:
    """A running node of ours: its full name, and its lifecycle state ("" if it does not say)."""

    name: str
    state: str = ""
    use_sim_time: bool = False
    transport: str = ""
    """Its `node.image_transport`; empty if it does not say."""
    complaints: tuple[Complaint, ...] | None = ()
    """What it last said of itself; None if it said nothing on /diagnostics, where it is due once a second."""


@dataclass(frozen=True, slots=True)
class Graph:
    """What was seen. Every topic was listened to for `seconds`."""

    seconds: float
    streams: Sequence[Stream]
    nodes: Sequence[str]
    vpr_nodes: Sequence[VprNode]
    has_clock: bool

    def of(self, *kinds: str) -> list[Stream]:
        """The streams of these kinds that somebody publishes, those first that data came from."""
        found = [stream for stream in self.streams if stream.kind in kinds and stream.publishers]
        return sorted(found, key=lambda stream: (not stream.arrivals_s, is_special(stream.topic), stream.topic))

    def image(self, transport: str) -> Stream | None:
        """The image topic that our node should listen to: one of `transport`, raw or compressed, if there is any."""
        kinds = ("CompressedImage", "Image") if transport == "compressed" else ("Image", "CompressedImage")
        return next((stream for kind in kinds for stream in self.of(kind)), None)


def is_special(topic: str) -> bool:
    """Whether it is no camera picture, by its name."""
    return any(word in topic.lower() for word in NOT_FOR_PEOPLE)
