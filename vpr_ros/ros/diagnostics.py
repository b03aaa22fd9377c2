"""What is on /diagnostics: is there data, does it keep up, what becomes of the queries."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from vpr_ros.config import Config
from vpr_ros.recognition.loop_detector import LoopDetector
from vpr_ros.ros.engine_build import EngineBuild
from vpr_ros.stopwatch import Stopwatch
from vpr_ros.types import PlaceMatch


class Counts(NamedTuple):
    """Of the images of one camera: all, those that were answered, those that cannot be, those without a stamp, black ones."""

    received: int = 0
    answered: int = 0
    skipped: int = 0
    unstamped: int = 0
    black: int = 0


@dataclass(slots=True, eq=False)
class OdometryStream:
    """What came of the odometry; the node counts here."""

    counts: Counter[str] = field(default_factory=Counter)
    """Messages `received`, those `unusable`, and images that had one `near` them or only `far` ones."""
    why: str = ""
    """What was wrong with the last unusable one."""
    _before: Counter[str] = field(default_factory=Counter)
    _fault: str = ""

    def fault(self) -> str:
        """Why the odometry was of no use when some came last; empty if it was."""
        now = self.counts.copy()
        new, self._before = now - self._before, now
        if new["received"] and new["received"] == new["unusable"]:
            self._fault = f"odometry is not used: {self.why}"
        elif new["received"] and new["far"] and not new["near"]:
            self._fault = "odometry is never within node.max_odometry_age_s of the images: do their clocks agree?"
        elif new["received"]:
            self._fault = ""
        return self._fault


@dataclass(slots=True, eq=False)
class Stream:
    """What came of one camera's images; the node counts here."""

    topic: str = ""
    """Where images are expected; empty: nowhere."""
    received: int = 0
    dropped: int = 0
    answered: int = 0
    skipped: int = 0
    last_skip: str = ""
    unstamped: int = 0
    black: int = 0
    is_silent: bool = False
    """Whether its silence was logged."""
    incompatible: str = ""
    last_image_s: float = field(default_factory=time.monotonic)
    calibration: str = ""
    """What there is to know of the calibration beside the last image."""
    is_calibrated: bool = False
    """Whether the last image had intrinsics."""
    bit_depth: str = ""
    """What there is to know of the bits of 16-bit images."""
    before: Counts = field(default_factory=Counts)
    """At the last look."""
    health: tuple[bytes, str] = (DiagnosticStatus.OK, "")
    """What the images of the last interval with any were good for."""

    def counts(self) -> Counts:
        return Counts(self.received, self.answered, self.skipped, self.unstamped, self.black)

    def skip(self, reason: str) -> None:
        """An image got no answer."""
        self.skipped += 1
        self.last_skip = reason


class Diagnostics:
    """Counts, and publishes once a second: `stream` (rates, drops, silence, QoS) and `place recognition` (results, times).

    Of a rig there is a `stream NAME` for each camera.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._config: Config | None = None
        self._detector: LoopDetector | None = None
        self._stopwatch: Stopwatch | None = None
        self._failure = ""
        self._statuses: Counter[str] = Counter()
        self._events: Counter[str] = Counter()
        self._last_event = ""
        self._published_s = time.monotonic()
        self.streams: dict[str, Stream] = {"": Stream()}
        """By the name of the camera."""
        self.odometry = OdometryStream()
        self.is_enabled = True
        """Whether images are answered: `~/set_enabled`."""
        self.engine_build: EngineBuild | None = None
        self.engine_fault = ""
        """Why another engine runs than the configured one."""
        self.image_decoder = ""
        """What decodes images."""
        self.map_fault = ""
        """What the map cannot do that is required of it."""

    def configured(self, config: Config, detector: LoopDetector, stopwatch: Stopwatch) -> None:
        self._config, self._detector, self._stopwatch, self._failure = config, detector, stopwatch, ""

    def fail(self, reason: str) -> None:
        """The node could not be configured."""
        self._failure = reason

    def watch(self, topics: Mapping[str, str]) -> None:
        """Expect images of each camera on its topic from now on."""
        self.streams = {camera: self.streams.get(camera, Stream()) for camera in topics}
        for camera, stream in self.streams.items():
            stream.topic, stream.incompatible, stream.last_image_s = topics[camera], "", time.monotonic()

    def ignore(self) -> None:
        """Expect no images: the streams are off."""
        for stream in self.streams.values():
            stream.topic = ""

    def count(self, match: PlaceMatch) -> None:
        self._statuses[match.status.name] += 1

    def count_event(self, kind: str, text: str) -> int:
        """Something odd that recognition goes on with: a session that begins, odometry that jumps. How often it was by now."""
        self._events[kind] += 1
        self._last_event = text
        return self._events[kind]

    def on_incompatible_qos(self, camera: str, info: Any) -> None:
        """A publisher exists whose quality of service cannot feed the subscription to this camera."""
        stream = self.streams[camera]
        stream.incompatible = (
            f"{info.total_count} publisher(s) of {stream.topic} offer an incompatible QoS ({info.last_policy_kind}): "
            f"set qos_overrides.{stream.topic}.subscription.* to what `ros2 topic info -v {stream.topic}` shows"
        )
        self._node.get_logger().error(stream.incompatible)

    def publish(self) -> None:
        now = time.monotonic()
        passed_s, self._published_s = max(1e-3, now - self._published_s), now
        streams = [self._stream(camera, now, passed_s) for camera in self.streams]
        message = DiagnosticArray(status=[*streams, self._recognition()])
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)

    def _stream(self, camera: str, now: float, passed_s: float) -> DiagnosticStatus:
        stream = self.streams[camera]
        rate = (stream.received - stream.before.received) / passed_s
        if stream.received > stream.before.received:
            stream.health = self._usefulness(stream)
        stream.before = stream.counts()
        values = {
            "topic": stream.topic,
            "rate (Hz)": f"{rate:.1f}",
            "received": stream.received,
            "dropped (late)": stream.dropped,
            "skipped (unreadable or out of order)": stream.skipped,
            "last skipped": stream.last_skip,
            "without stamp": stream.unstamped,
            "calibration": stream.calibration or ("used" if stream.is_calibrated else "none"),
            "16-bit images": stream.bit_depth or "none, or of 16 bits",
        }
        level, text = self._stream_health(stream, now)
        is_silent = text.startswith("no image on ")
        if is_silent and not stream.is_silent:
            self._node.get_logger().warning(text)
        stream.is_silent = is_silent
        return self._status(f"stream {camera}".strip(), level, text, values)

    def _stream_health(self, stream: Stream, now: float) -> tuple[bytes, str]:
        if self._failure:
            return DiagnosticStatus.ERROR, self._failure
        if not stream.topic or self._config is None:
            return DiagnosticStatus.OK, "not active"
        if not self.is_enabled:
            return DiagnosticStatus.WARN, "disabled by ~/set_enabled: images are ignored"
        silent_s = now - stream.last_image_s
        if stream.incompatible and silent_s > 1.0:
            return DiagnosticStatus.ERROR, stream.incompatible
        if silent_s > self._config.node.no_data_s:
            publishers = self._node.count_publishers(stream.topic)
            why = (
                "nobody publishes it" if publishers == 0 else f"{publishers} publisher(s), nothing arrives (QoS? DDS?)"
            )
            return DiagnosticStatus.ERROR, f"no image on {stream.topic} for {silent_s:.0f} s: {why}"
        level, text = stream.health
        if level == DiagnosticStatus.OK and stream.calibration and not stream.is_calibrated:
            return DiagnosticStatus.WARN, f"receiving; {stream.calibration}"
        return level, text or "receiving"

    def _usefulness(self, stream: Stream) -> tuple[bytes, str]:
        """Of the images since the last look; to receive them is not enough."""
        _, answered, skipped, unstamped, black = (
            now - before for now, before in zip(stream.counts(), stream.before, strict=True)
        )
        if skipped > answered:
            level = DiagnosticStatus.WARN if answered else DiagnosticStatus.ERROR
            return level, f"receiving, but most images get no answer: {stream.last_skip}"
        if black > answered / 2:
            return DiagnosticStatus.WARN, "receiving, but the images are black: a covered lens, or the exposure?"
        if unstamped:
            return DiagnosticStatus.WARN, "receiving images without a stamp: the time of reception stands in"
        return DiagnosticStatus.OK, ""

    def _recognition(self) -> DiagnosticStatus:
        values: dict[str, Any] = dict(self._statuses)
        if self._detector is not None:
            values |= {
                "keyframes": len(self._detector.map),
                "map": str(self._detector.map.path or "in memory"),
                "keyframes that wait for the disk": self._detector.map.waiting,
                "session": self._detector.session,
                "model": self._detector.engine.model.name,
                "model id": self._detector.engine.model.id,
                "engine": self._detector.engine.name,
                "engine build": (self.engine_build and self.engine_build.state) or "none",
                "engine fault": self.engine_fault or "none",
                "image decoder": self.image_decoder,
                "map fault": self.map_fault or "none",
                "last event": self._last_event or "none",
            }
            values |= {
                f"never changes, ignored{' ' if camera else ''}{camera} (%)": f"{100 * share:.0f}"
                for camera, share in self._detector.verifier.static_shares.items()
            }
            values |= {f"{kind} events": count for kind, count in self._events.items()}
        for stage, seconds in (self._stopwatch.seconds if self._stopwatch else {}).items():
            for percent in (50, 90, 99):
                values[f"{stage} p{percent} (ms)"] = f"{np.percentile(seconds, percent) * 1e3:.1f}"
        text = f"{self._statuses['ACCEPTED']} loop closures in {sum(self._statuses.values())} queries"
        recording_fault = "" if self._detector is None else self._detector.map.recording_fault
        faults = [
            fault for fault in (self.engine_fault, self.map_fault, self.odometry.fault(), recording_fault) if fault
        ]
        level = DiagnosticStatus.WARN if faults else DiagnosticStatus.OK
        if recording_fault:
            level = DiagnosticStatus.ERROR
        return self._status("place recognition", level, "; ".join((text, *faults)), values)

    def _status(self, name: str, level: bytes, text: str, values: dict[str, Any]) -> DiagnosticStatus:
        pairs = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
        return DiagnosticStatus(
            name=f"{self._node.get_fully_qualified_name().lstrip('/')}: {name}",
            level=level,
            message=text,
            values=pairs,
            hardware_id="vpr_ros",
        )
