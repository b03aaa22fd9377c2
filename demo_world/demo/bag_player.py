"""Plays a bag over DDS at a steady rate: what `ros2 bag play` does, which PyPI does not have."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from vpr_ros.bags.base import Message
from vpr_ros.bags.reader import Bag
from vpr_ros.errors import SourceError
from vpr_ros.ros.messages import stamp_ns

KINDS: dict[str, type] = {
    "sensor_msgs/msg/Image": Image,
    "sensor_msgs/msg/CompressedImage": CompressedImage,
    "sensor_msgs/msg/CameraInfo": CameraInfo,
    "nav_msgs/msg/Odometry": Odometry,
}
IMAGES = (Image, CompressedImage)
MessageProgress = Callable[[Iterable[Message]], Iterable[Message]]


class BagPlayer(Node):
    """A node that publishes some topics of a bag, best effort as cameras do. Raises SourceError for a topic it cannot play."""

    def __init__(self, bag: Path, topics: Collection[str]) -> None:
        super().__init__("vpr_bag_player")
        with Bag(bag) as recording:
            missing = [t for t in topics if t not in recording.topics or recording.topics[t].type not in KINDS]
            if missing:
                raise SourceError(
                    f"{bag} has no playable topic {', '.join(missing)}; it has {', '.join(recording.topics)}"
                )
            self._messages = sorted(recording.messages(topics), key=lambda message: message.bag_ns)
            self._kinds = {topic: KINDS[recording.topics[topic].type] for topic in topics}
        self._outlets: dict[str, Any] = {
            topic: self.create_publisher(kind, topic, qos_profile_sensor_data) for topic, kind in self._kinds.items()
        }

    def has_subscribers(self) -> bool:
        """Whether every topic has somebody listening."""
        return all(publisher.get_subscription_count() > 0 for publisher in self._outlets.values())

    def play(self, rate: float, progress: MessageProgress = iter) -> dict[int, float]:
        """Publish everything, `rate` times as fast as recorded; when each image was sent (perf_counter), by its stamp."""
        sent: dict[int, float] = {}
        if not self._messages:
            return sent
        start_s, start_ns = time.perf_counter(), self._messages[0].bag_ns
        for recorded in progress(self._messages):
            kind = self._kinds[recorded.topic]
            message: Any = deserialize_message(recorded.data, kind)
            wait_s = start_s + (recorded.bag_ns - start_ns) * 1e-9 / rate - time.perf_counter()
            if wait_s > 0:
                time.sleep(wait_s)
            if kind in IMAGES:
                sent[stamp_ns(message.header.stamp)] = time.perf_counter()
            self._outlets[recorded.topic].publish(message)
        return sent
