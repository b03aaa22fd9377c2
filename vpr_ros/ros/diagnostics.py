"""What is on /diagnostics: is there data, does it keep up, what becomes of the queries."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from vpr_ros.config import Config
from vpr_ros.fleet.exchange import SILENT_S, ExchangeState
from vpr_ros.recognition.loop_detector import LoopDetector
from vpr_ros.recognition.relocalization import Localization, LocalizationState
from vpr_ros.ros.engine_build import EngineBuild
from vpr_ros.ros.watchdog import STALLED_S
from vpr_ros.stopwatch import Stopwatch
from vpr_ros.types import PlaceMatch

MANY_REFUSALS = 300
"""Queries without a match that are worth a warning: ten seconds of a camera, a minute of one that is asked five times a second."""
REFUSALS = {
    "LOW_SCORE": "is this the place of the map, and the camera as it was?",
    "AMBIGUOUS": "many places of the map look alike, or is it one place recorded many times?",
    "INCONSISTENT": "consecutive images look like different places; consistency.min_hits for rare images?",
    "GEOMETRY": "what looks alike is not verified: blur, darkness, or a view of the robot's own body?",
    "ODOMETRY": "odometry contradicts all; is it of this robot, and in metres?",
}
"""Why a query that had a place to compare with gets no match, and what to look at where that is so for all."""


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
        self._before_this_map: Counter[str] = Counter()
        self._has_loaded_map = False
        self._events: Counter[str] = Counter()
        self._last_event = ""
        self._published_s = time.monotonic()
        self.streams: dict[str, Stream] = {"": Stream()}
        """By the name of the camera."""
        self.odometry = OdometryStream()
        self._busy_s: Callable[[], float] = float
        self._is_stalled = False
        self.is_enabled = True
        """Whether images are answered: `~/set_enabled`."""
        self.engine_build: EngineBuild | None = None
        self.engine_fault = ""
        """Why another engine runs than the configured one."""
        self.image_decoder = ""
        """What decodes images."""
        self.fleet: Callable[[], ExchangeState] | None = None
        """What is known of other robots; None where no keyframes are exchanged."""
        self.map_fault = ""
        """What the map cannot do that is required of it."""
        self.localization = Localization()
        """Whether the robot knows where it is in an older map."""

    def configured(self, config: Config, detector: LoopDetector, stopwatch: Stopwatch) -> None:
        self._config, self._detector, self._stopwatch, self._failure = config, detector, stopwatch, ""
        self._has_loaded_map, self._before_this_map = len(detector.map) > 0, self._statuses.copy()

    def unconfigured(self) -> None:
        """Forget the detector, and with it the map and the model."""
        self._detector = self._stopwatch = self.fleet = None

    def fail(self, reason: str) -> None:
        """The node could not be configured."""
        self._failure = reason

    def watch(self, topics: Mapping[str, str], busy_s: Callable[[], float]) -> None:
        """Expect images of each camera on its topic from now on; `busy_s`: how long the present frame is in work."""
        self._busy_s = busy_s
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
        stall = self._stall()
        if stall and not self._is_stalled:
            self._node.get_logger().error(stall)
        self._is_stalled = bool(stall)
        streams = [self._stream(camera, now, passed_s) for camera in self.streams]
        fleet = [] if self.fleet is None else [self._fleet(self.fleet())]
        message = DiagnosticArray(status=[*streams, self._recognition(), *fleet])
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
            return DiagnosticStatus.WARN, "not active: images are ignored"
        if not self.is_enabled:
            return DiagnosticStatus.WARN, "disabled by ~/set_enabled: images are ignored"
        if stall := self._stall():
            return DiagnosticStatus.ERROR, stall
        silent_s = now - stream.last_image_s
        if stream.incompatible and silent_s > 1.0:
            return DiagnosticStatus.ERROR, stream.incompatible
        if silent_s > self._config.node.no_data_s:
            why = self._why_silent(stream.topic)
            return DiagnosticStatus.ERROR, f"no image on {stream.topic} for {silent_s:.0f} s: {why}"
        level, text = stream.health
        if level == DiagnosticStatus.OK and stream.calibration and not stream.is_calibrated:
            return DiagnosticStatus.WARN, f"receiving; {stream.calibration}"
        return level, text or "receiving"

    def _stall(self) -> str:
        """What there is to say of a frame that never ends; empty if there is none."""
        busy_s = self._busy_s()
        if busy_s < STALLED_S or self._detector is None:
            return ""
        return (
            f"a frame is in work for {busy_s:.0f} s: inference ({self._detector.engine.name}) hangs, and nothing is answered; "
            "start the node again"
        )

    def _why_silent(self, topic: str) -> str:
        publishers = self._node.get_publishers_info_by_topic(topic)
        if not publishers:
            return "nobody publishes it"
        wanted = {s.topic_type for s in self._node.get_subscriptions_info_by_topic(topic) if self._is_own(s)}
        if wanted and not wanted & {publisher.topic_type for publisher in publishers}:
            said = " and ".join(sorted({f"{p.node_name} publishes it as {p.topic_type}" for p in publishers}))
            return f"{said}, and {' or '.join(sorted(wanted))} is wanted: node.image_transport, or another topic?"
        return f"{len(publishers)} publisher(s), nothing arrives (QoS? DDS?)"

    def _is_own(self, endpoint: Any) -> bool:
        own = (self._node.get_name(), self._node.get_namespace())
        return (endpoint.node_name, endpoint.node_namespace) == own

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
                "localization": f"{self.localization.state.name}: {self.localization.reason}",
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
        reasons = (
            self.engine_fault,
            self.map_fault,
            self.odometry.fault(),
            self._never_matches(),
            self._lost(),
            self._twin(),
            recording_fault,
        )
        faults = [fault for fault in reasons if fault]
        level = DiagnosticStatus.WARN if faults else DiagnosticStatus.OK
        if recording_fault:
            level = DiagnosticStatus.ERROR
        return self._status("place recognition", level, "; ".join((text, *faults)), values)

    def _fleet(self, state: ExchangeState) -> DiagnosticStatus:
        """A line for each robot that was heard."""
        values: dict[str, Any] = {"sent keyframes and pictures (kB)": f"{state.sent_bytes / 1e3:.0f}"}
        for peer in state.peers:
            behind = f"at most {peer.most_behind} of {peer.sessions_behind} sessions missing"
            text = f"{peer.keyframes} keyframes, {behind if peer.most_behind else 'none missing'}"
            values[peer.name] = f"{'another model' if peer.is_strange else text}; heard {peer.silent_s:.1f} s ago"
        is_heard = [peer for peer in state.peers if peer.silent_s < SILENT_S]
        level = DiagnosticStatus.WARN if state.faults else DiagnosticStatus.OK
        return self._status("fleet", level, "; ".join((f"{len(is_heard)} other robots", *state.faults)), values)

    def _never_matches(self) -> str:
        """Whether queries that had a place to compare with were all refused, and why most were."""
        statuses = self._statuses - self._before_this_map
        refused = Counter({name: statuses[name] for name in REFUSALS})
        if statuses["ACCEPTED"] or refused.total() < MANY_REFUSALS:
            return ""
        reason, count = refused.most_common(1)[0]
        if reason == "LOW_SCORE" and not self._has_loaded_map:
            return ""  # a robot that has not come back yet
        return f"none of {refused.total()} queries matched, most for {reason} ({count}): {REFUSALS[reason]}"

    def _lost(self) -> str:
        is_localizing = self._config is not None and self._config.map.mode == "localization"
        is_lost = self.localization.state is LocalizationState.LOST
        return f"lost in the map: {self.localization.reason}" if is_lost and is_localizing else ""

    def _twin(self) -> str:
        names = self._node.get_node_names_and_namespaces()
        own = (self._node.get_name(), self._node.get_namespace())
        if names.count(own) < 2:
            return ""
        return (
            f"another node is called {self._node.get_fully_qualified_name()}, too: services reach either (a crashed one is "
            "forgotten in 20 s)"
        )

    def _status(self, name: str, level: bytes, text: str, values: dict[str, Any]) -> DiagnosticStatus:
        pairs = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
        return DiagnosticStatus(
            name=f"{self._node.get_fully_qualified_name().lstrip('/')}: {name}",
            level=level,
            message=text,
            values=pairs,
            hardware_id="vpr_ros",
        )
