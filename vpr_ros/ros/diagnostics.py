"""What /diagnostics says: is there data, does it keep up, what becomes of the queries."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from vpr_ros.config import Config
from vpr_ros.loop_detector import LoopDetector
from vpr_ros.stopwatch import Stopwatch
from vpr_ros.types import PlaceMatch


class Diagnostics:
    """Counts, and publishes once a second: `stream` (rates, drops, silence, QoS) and `place recognition` (results, times)."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._config: Config | None = None
        self._detector: LoopDetector | None = None
        self._stopwatch: Stopwatch | None = None
        self._failure = ""
        self._topic = ""
        self._incompatible = ""
        self._last_skip = ""
        self._statuses: Counter[str] = Counter()
        self._received_before, self._published_s = 0, time.monotonic()
        self.received = self.dropped = self.skipped = 0
        self.last_image_s = 0.0

    def configured(self, config: Config, detector: LoopDetector, stopwatch: Stopwatch) -> None:
        self._config, self._detector, self._stopwatch, self._failure = config, detector, stopwatch, ""

    def fail(self, reason: str) -> None:
        """The node could not be configured."""
        self._failure = reason

    def watch(self, topic: str) -> None:
        """Expect images on this topic from now on; none: the stream is off."""
        self._topic, self._incompatible = topic, ""
        self.last_image_s = time.monotonic()

    def count(self, match: PlaceMatch) -> None:
        self._statuses[match.status.name] += 1

    def skip(self, reason: str) -> None:
        """A frame got no answer."""
        self.skipped += 1
        self._last_skip = reason

    def on_incompatible_qos(self, topic: str, info: Any) -> None:
        """A publisher exists whose quality of service cannot feed this subscription."""
        self._incompatible = (
            f"{info.total_count} publisher(s) of {topic} offer an incompatible QoS ({info.last_policy_kind}): "
            f"set qos_overrides.{self._topic}.subscription.* to what `ros2 topic info -v {self._topic}` shows"
        )
        self._node.get_logger().error(self._incompatible)

    def publish(self) -> None:
        message = DiagnosticArray(status=[self._stream(), self._recognition()])
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)

    def _stream(self) -> DiagnosticStatus:
        now = time.monotonic()
        rate = (self.received - self._received_before) / max(1e-3, now - self._published_s)
        self._received_before, self._published_s = self.received, now
        values = {
            "topic": self._topic,
            "rate (Hz)": f"{rate:.1f}",
            "received": self.received,
            "dropped (late)": self.dropped,
            "skipped (unreadable or out of order)": self.skipped,
            "last skipped": self._last_skip,
        }
        level, text = self._stream_health(now)
        return self._status("stream", level, text, values)

    def _stream_health(self, now: float) -> tuple[bytes, str]:
        if self._failure:
            return DiagnosticStatus.ERROR, self._failure
        if not self._topic or self._config is None:
            return DiagnosticStatus.OK, "not active"
        silent_s = now - self.last_image_s
        if self._incompatible and silent_s > 1.0:
            return DiagnosticStatus.ERROR, self._incompatible
        if silent_s > self._config.node.no_data_s:
            publishers = self._node.count_publishers(self._topic)
            why = (
                "nobody publishes it" if publishers == 0 else f"{publishers} publisher(s), nothing arrives (QoS? DDS?)"
            )
            return DiagnosticStatus.ERROR, f"no image on {self._topic} for {silent_s:.0f} s: {why}"
        return DiagnosticStatus.OK, "receiving"

    def _recognition(self) -> DiagnosticStatus:
        values: dict[str, Any] = dict(self._statuses)
        if self._detector is not None:
            values |= {
                "keyframes": len(self._detector.map),
                "session": self._detector.session,
                "model": self._detector.engine.model.name,
                "model id": self._detector.engine.model.id,
                "engine": self._detector.engine.name,
            }
        for stage, seconds in (self._stopwatch.seconds if self._stopwatch else {}).items():
            for percent in (50, 90, 99):
                values[f"{stage} p{percent} (ms)"] = f"{np.percentile(seconds, percent) * 1e3:.1f}"
        text = f"{self._statuses['ACCEPTED']} loop closures in {sum(self._statuses.values())} queries"
        return self._status("place recognition", DiagnosticStatus.OK, text, values)

    def _status(self, name: str, level: bytes, text: str, values: dict[str, Any]) -> DiagnosticStatus:
        pairs = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
        return DiagnosticStatus(
            name=f"{self._node.get_name()}: {name}", level=level, message=text, values=pairs, hardware_id="vpr_ros"
        )
