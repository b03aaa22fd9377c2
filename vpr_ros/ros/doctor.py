"""Watches the ROS graph for seconds and says whether the node can be fed: topics, QoS, rates, clocks, running nodes.

Run by `vpr doctor`, as a process that may be ended at any time.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import rclpy
from lifecycle_msgs.srv import GetState
from nav_msgs.msg import Odometry
from rcl_interfaces.srv import GetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import (
    DurabilityPolicy,
    QoSCompatibility,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
    qos_profile_sensor_data,
)
from rclpy.serialization import deserialize_message
from rclpy.utilities import get_rmw_implementation_identifier
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from vpr_ros.doctor import Finding, Level, lines, to_json
from vpr_ros.errors import ImageError
from vpr_ros.ros.messages import stamp_ns
from vpr_ros.share import shared_files

KINDS = {
    "sensor_msgs/msg/Image": Image,
    "sensor_msgs/msg/CompressedImage": CompressedImage,
    "sensor_msgs/msg/CameraInfo": CameraInfo,
    "nav_msgs/msg/Odometry": Odometry,
}
MATCHES = "vpr_msgs/msg/PlaceMatchArray"
"""Who publishes it is our node."""
MOST_IMAGE_TOPICS = 6
"""How many are subscribed to: a rig's every topic in Python would slow down the robot that is being looked at."""
DISCOVERY_S = 3.3
"""DDS processes announce themselves every 3 s; who started before us may be unknown for so long."""
ANSWER_S = 1.0
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

    def on_message(self, raw: bytes) -> None:
        if not self.arrivals_s:
            self.first, self.first_s = bytes(raw), time.time()
        self.arrivals_s.append(time.monotonic())
        self.size += len(raw)

    @property
    def rate_hz(self) -> float | None:
        """From the first arrival to the last; None for fewer than two."""
        if len(self.arrivals_s) < 2:
            return None
        return (len(self.arrivals_s) - 1) / max(1e-6, self.arrivals_s[-1] - self.arrivals_s[0])

    def message(self) -> Any:
        """The first message, None if there was none."""
        return deserialize_message(self.first, KINDS[self.type]) if self.first else None

    def lag_s(self) -> float | None:
        """How far the first message's stamp lay behind the system's clock when it came."""
        message = self.message()
        return None if message is None else self.first_s - stamp_ns(message.header.stamp) / 1e9


@dataclass(frozen=True, slots=True)
class VprNode:
    """A running node of ours: its full name, its lifecycle state ("" if it does not say), its kind of time."""

    name: str
    state: str = ""
    use_sim_time: bool = False


@dataclass(frozen=True, slots=True)
class Graph:
    """What was seen. Every topic was listened to for `seconds`."""

    seconds: float
    streams: Sequence[Stream]
    nodes: Sequence[str]
    vpr_nodes: Sequence[VprNode]
    has_clock: bool

    def of(self, *types: str) -> list[Stream]:
        """The streams of these types that somebody publishes, those first that data came from."""
        names = {f"sensor_msgs/msg/{name}" for name in types} | {f"nav_msgs/msg/{name}" for name in types}
        found = [s for s in self.streams if s.type in names and s.publishers]
        return sorted(found, key=lambda s: (not s.arrivals_s, _is_special(s.topic), s.topic))


class Watcher(Node):
    """Subscribes, as our node does, to every topic that our node could use."""

    def __init__(self) -> None:
        name = f"vpr_doctor_{os.getpid()}"
        super().__init__(name, start_parameter_services=False, enable_rosout=False, use_global_arguments=False)
        self._streams: dict[tuple[str, str], Stream] = {}
        # as our node's, but a queue: a rate is measured here
        self._qos = QoSProfile(
            depth=20, reliability=qos_profile_sensor_data.reliability, durability=qos_profile_sensor_data.durability
        )
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self)

    def watch(self, seconds: float) -> Graph:
        """Until nobody new can be expected, and each topic that was found has been listened to for `seconds`."""
        found_by = time.monotonic() + DISCOVERY_S
        end = found_by
        while (now := time.monotonic()) < end:
            if now < found_by and self._look():
                end = max(found_by, now + seconds)
            until = min(end, now + 0.2)
            while (wait := until - time.monotonic()) > 0:
                self._executor.spin_once(timeout_sec=wait)
        for stream in self._streams.values():
            stream.publishers = self._endpoints(self.get_publishers_info_by_topic(stream.topic), stream.type)
            stream.subscriptions = self._endpoints(self.get_subscriptions_info_by_topic(stream.topic), stream.type)
        nodes = [_full_name(name, space) for name, space in self.get_node_names_and_namespaces()]
        others = sorted(node for node in nodes if node != self.get_fully_qualified_name())
        return Graph(seconds, list(self._streams.values()), others, self._vpr_nodes(others), self._has_clock())

    def close(self) -> None:
        self._executor.shutdown()
        self.destroy_node()

    def _look(self) -> bool:
        """Subscribe to what is new, and say whether anything was."""
        is_new = False
        watched_images = sum(s.is_watched for s in self._streams.values() if s.type.endswith("Image"))
        topics = sorted(self.get_topic_names_and_types(), key=lambda topic: (_is_special(topic[0]), topic[0]))
        for topic, types in topics:
            for kind in types:
                if kind not in KINDS or topic.endswith("/compressedDepth"):
                    continue
                stream = self._streams.setdefault((topic, kind), Stream(topic, kind))
                if stream.is_watched or not self.count_publishers(topic):
                    continue
                if kind.endswith("Image"):
                    if watched_images == MOST_IMAGE_TOPICS:
                        continue
                    watched_images += 1
                self.create_subscription(KINDS[kind], topic, stream.on_message, self._qos, raw=True)
                stream.is_watched = is_new = True
        return is_new

    def _endpoints(self, found: Sequence[Any], kind: str) -> list[Endpoint]:
        own = self.get_name()
        return [
            Endpoint(_full_name(e.node_name, e.node_namespace), e.qos_profile)
            for e in found
            if e.node_name != own and e.topic_type == kind
        ]

    def _has_clock(self) -> bool:
        return self.count_publishers("/clock") > 0

    def _vpr_nodes(self, nodes: Sequence[str]) -> list[VprNode]:
        """Nodes that publish matches, or are called vpr: one that is not configured publishes nothing yet."""
        topics = [topic for topic, types in self.get_topic_names_and_types() if MATCHES in types]
        names = [
            _full_name(e.node_name, e.node_namespace) for t in topics for e in self.get_publishers_info_by_topic(t)
        ]
        names += [node for node in nodes if PurePosixPath(node).name == "vpr" and node not in names]
        return [self._vpr_node(name) for name in sorted(names)]

    def _vpr_node(self, name: str) -> VprNode:
        state = self._call(GetState, f"{name}/get_state", GetState.Request())
        time_ = self._call(GetParameters, f"{name}/get_parameters", GetParameters.Request(names=["use_sim_time"]))
        sim = time_ is not None and any(value.bool_value for value in time_.values)
        return VprNode(name, "" if state is None else state.current_state.label, sim)

    def _call(self, kind: type, service: str, request: Any) -> Any:
        """The answer of a service, None if there is none in time."""
        client: Any = self.create_client(kind, service)
        end = time.monotonic() + ANSWER_S
        future = None
        while time.monotonic() < end and not (future is not None and future.done()):
            if future is None and client.service_is_ready():
                future = client.call_async(request)
            self._executor.spin_once(timeout_sec=0.05)
        self.destroy_client(client)
        return future.result() if future is not None and future.done() else None


def _full_name(node: str, namespace: str) -> str:
    return f"{namespace.rstrip('/')}/{node}"


def _is_special(topic: str) -> bool:
    return any(word in topic.lower() for word in NOT_FOR_PEOPLE)


# --- what it means ---------------------------------------------------------------------------------------------------


def mismatch(publisher: QoSProfile, subscription: QoSProfile = qos_profile_sensor_data) -> str:
    """Why a subscription (our node's, unless given) hears nothing of a publisher; empty if it can."""
    compatibility, reason = qos_check_compatible(publisher, subscription)
    if compatibility != QoSCompatibility.ERROR:
        return ""
    if (publisher.reliability, subscription.reliability) == (ReliabilityPolicy.BEST_EFFORT, ReliabilityPolicy.RELIABLE):
        return "it is sent best effort and wanted reliable"
    if (publisher.durability, subscription.durability) == (
        DurabilityPolicy.VOLATILE,
        DurabilityPolicy.TRANSIENT_LOCAL,
    ):
        return "it is sent volatile and wanted transient local"
    return reason.strip().rstrip(";")


def qos_text(qos: QoSProfile) -> str:
    """`best effort, volatile`, and the depth where the RMW tells it."""
    words = [qos.reliability.name, qos.durability.name]
    text = ", ".join(word.lower().replace("_", " ") for word in words)
    return f"{text}, depth {qos.depth}" if qos.depth else text


def graph_finding(graph: Graph) -> Finding:
    """Is anybody there?"""
    said = f"{get_rmw_implementation_identifier()}, {len(graph.nodes)} node{'' if len(graph.nodes) == 1 else 's'}"
    if not graph.nodes:
        fix = (
            "echo $ROS_DOMAIN_ID $ROS_AUTOMATIC_DISCOVERY_RANGE $RMW_IMPLEMENTATION    # the same where the robot runs?"
        )
        return Finding("ros graph", Level.WARNING, f"{said}: nobody else is there, or in another domain", fix)
    return Finding("ros graph", Level.OK, said)


def messages_finding() -> Finding:
    """Are our messages there?"""
    try:
        import vpr_msgs.msg
    except ImportError as error:
        fix = "source install/setup.bash    # after colcon build; or pip install ./vpr_msgs"
        return Finding("vpr_msgs", Level.ERROR, f"our messages do not import: {error}", fix)
    return Finding("vpr_msgs", Level.OK, str(PurePosixPath(vpr_msgs.msg.__file__).parent))


def image_findings(graph: Graph, transport: str = "raw") -> list[Finding]:
    """Each image topic: what comes, and whether our node can use it."""
    streams = graph.of("Image", "CompressedImage")
    if not streams:
        fix = "ros2 topic list -t    # after starting the camera's driver"
        return [Finding("image", Level.WARNING, "nobody publishes images", fix)]
    findings = [_image_finding(stream, graph.seconds) for stream in streams]
    wanted = "CompressedImage" if transport == "compressed" else "Image"
    is_fed = any(e.node == node.name for node in graph.vpr_nodes for s in streams for e in s.subscriptions)
    if not graph.of(wanted) and not is_fed:
        only = "raw" if transport == "compressed" else "compressed"
        found = f"node.image_transport is {transport}, and there are only {only} images"
        findings.append(Finding("transport", Level.WARNING, found, launch_line(graph, transport)))
    return findings


def _image_finding(stream: Stream, seconds: float) -> Finding:
    kind = PurePosixPath(stream.type).name
    said = f"{stream.topic} ({kind}): {_publishers(stream)}"
    why = next((why for e in stream.publishers if (why := mismatch(e.qos))), "")
    if why:
        fix = f"ros2 topic info -v {stream.topic}    # set qos_overrides.{stream.topic}.subscription.* to it"
        return Finding("image", Level.WARNING, f"{said}; the node cannot hear it: {why}", fix)
    if not stream.is_watched:
        return Finding("image", Level.OK, f"{said}; not measured: only {MOST_IMAGE_TOPICS} image topics are")
    if not stream.arrivals_s:
        fix = f"ros2 topic hz {stream.topic}"
        if kind == "Image" and any(e.qos.reliability == ReliabilityPolicy.BEST_EFFORT for e in stream.publishers):
            profile = next(iter(shared_files("config/fastdds.xml")), "config/fastdds.xml")
            nodes = ", ".join(sorted({e.node for e in stream.publishers}))
            fix = f"export FASTDDS_DEFAULT_PROFILES_FILE={profile}    # where {nodes} is started, and start it again"
        found = (
            f"{said}; the QoS fits, but nothing came in {seconds:g} s: a camera that stands still, or too large for DDS"
        )
        return Finding("image", Level.WARNING, found, fix)
    message = stream.message()
    said += f"; {_rate(stream)}"
    try:
        size = _size_of(message, kind)
    except ImageError as error:
        fix = "ros2 topic list -t | grep -i image    # another topic of that camera"
        return Finding("image", Level.WARNING, f"{said}; cannot be used: {error}", fix)
    lag = stream.lag_s() or 0.0
    return Finding(
        "image", Level.OK, f"{said}, {size}, stamped {lag * 1e3:.0f} ms ago" if abs(lag) < LATE_S else f"{said}, {size}"
    )


def _size_of(message: Any, kind: str) -> str:
    """`640x480 rgb8`. Raises ImageError for what our node cannot decode."""
    from vpr_ros.images import decode_compressed, decode_image  # OpenCV may be what is broken

    picture = decode_image(message) if kind == "Image" else decode_compressed(message)
    return f"{picture.shape[1]}x{picture.shape[0]} {message.encoding if kind == 'Image' else message.format}"


def _publishers(stream: Stream) -> str:
    count = len(stream.publishers)
    profiles = sorted({qos_text(e.qos) for e in stream.publishers})
    return f"{count} publisher{'s' if count > 1 else ''}, {' and '.join(profiles)}"


def _rate(stream: Stream) -> str:
    if stream.rate_hz is None:
        return "1 message"
    per_second = stream.size / len(stream.arrivals_s) * stream.rate_hz
    return f"{stream.rate_hz:.1f} Hz, {per_second / 1e6:.2g} MB/s"


def _base(topic: str) -> str:
    return topic.removesuffix("/compressed")


def chosen_image(graph: Graph, transport: str = "raw") -> tuple[Stream | None, bool]:
    """The image topic that our node should listen to, and whether it is compressed."""
    preferred, other = ("CompressedImage", "Image") if transport == "compressed" else ("Image", "CompressedImage")
    stream = next(iter([*graph.of(preferred), *graph.of(other)]), None)
    return stream, stream is not None and stream.type.endswith("CompressedImage")


def camera_info_finding(graph: Graph, transport: str = "raw") -> Finding:
    """Are there intrinsics beside the images?"""
    image, _ = chosen_image(graph, transport)
    infos = graph.of("CameraInfo")
    beside = "" if image is None else str(PurePosixPath(_base(image.topic)).with_name("camera_info"))
    calibrate = "ros2 run camera_calibration cameracalibrator --size 8x6 --square 0.025 --ros-args -r image:=" + (
        "/image" if image is None else _base(image.topic)
    )
    found = next((s for s in infos if s.topic == beside), None)
    if found is None:
        if not infos:
            why = "nobody publishes it: closures will have no relative pose"
            return Finding("camera_info", Level.WARNING, why, calibrate + "    # then start the driver with its result")
        topics = ", ".join(s.topic for s in infos)
        why = f"none at {beside or 'an image topic'}; there is {topics}"
        return Finding("camera_info", Level.WARNING, why, launch_line(graph, transport))
    said = f"{found.topic}: {_publishers(found)}"
    message = found.message()
    if message is None:
        return Finding("camera_info", Level.WARNING, f"{said}; nothing came", f"ros2 topic echo --once {found.topic}")
    from vpr_ros.images import camera_from_info

    camera = camera_from_info(message)
    if camera is None:
        why = f"{said}; not calibrated, or distortion model {message.distortion_model!r} is not known: no relative pose"
        return Finding("camera_info", Level.WARNING, why, calibrate)
    return Finding("camera_info", Level.OK, f"{said}; {_rate(found)}, {camera.width}x{camera.height}, calibrated")


def odometry_finding(graph: Graph, transport: str = "raw", max_age_s: float = 0.2, wanted: bool = True) -> Finding:
    """Is there odometry, on the images' clock?"""
    if not wanted:
        return Finding("odom", Level.OK, "not used: node.use_odometry is false")
    streams = graph.of("Odometry")
    if not streams:
        found = "nobody publishes nav_msgs/Odometry; it is optional, and spaces keyframes and rules out closures"
        return Finding("odom", Level.SKIPPED, found, launch_line(graph, transport, "/your/odometry"))
    stream = streams[0]
    said = f"{stream.topic}: {_publishers(stream)}"
    if not stream.arrivals_s:
        return Finding("odom", Level.WARNING, f"{said}; nothing came", f"ros2 topic hz {stream.topic}")
    image, _ = chosen_image(graph, transport)
    of_image, of_odometry = None if image is None else image.lag_s(), stream.lag_s()
    if of_image is not None and of_odometry is not None and abs(of_image - of_odometry) > max_age_s:
        apart = abs(of_image - of_odometry)
        found = f"{said}; its stamps and the images' are {apart:.2f} s apart, and {max_age_s:g} s are allowed"
        return Finding(
            "odom", Level.WARNING, found, "chronyc tracking    # on both machines; or node.max_odometry_age_s"
        )
    return Finding("odom", Level.OK, f"{said}; {_rate(stream)}")


def clock_finding(graph: Graph, transport: str = "raw") -> Finding:
    """Do images, nodes and this machine live in one time?"""
    for node in graph.vpr_nodes:
        if node.use_sim_time and not graph.has_clock:
            found = f"{node.name} has use_sim_time, and nobody publishes /clock: its time stands still"
            return Finding("clock", Level.ERROR, found, f"ros2 param set {node.name} use_sim_time false")
        if graph.has_clock and not node.use_sim_time:
            found = f"/clock is published, and {node.name} does not use it"
            return Finding("clock", Level.WARNING, found, f"ros2 param set {node.name} use_sim_time true")
    if graph.has_clock:
        return Finding("clock", Level.OK, "simulated: /clock is published; start nodes with use_sim_time:=true")
    image, _ = chosen_image(graph, transport)
    lag = None if image is None else image.lag_s()
    if image is not None and lag is not None and abs(lag) > LATE_S:
        where = "behind" if lag > 0 else "ahead of"
        found = (
            f"stamps of {image.topic} are {abs(lag):.3g} s {where} this machine's clock: another clock's, or a bag's"
        )
        fix = "chronyc tracking    # on the camera's machine; a bag: ros2 bag play BAG --clock, and use_sim_time:=true"
        return Finding("clock", Level.WARNING, found, fix)
    return Finding("clock", Level.OK, "system time")


def node_findings(graph: Graph, transport: str = "raw") -> list[Finding]:
    """Our running nodes and what they are fed with, or how to start one."""
    if not graph.vpr_nodes:
        return [Finding("vpr node", Level.SKIPPED, "none runs", launch_line(graph, transport))]
    names = [node.name for node in graph.vpr_nodes]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        found = f"{' and '.join(twice)} is there more than once: both answer, and services reach either"
        return [
            Finding(
                "vpr node",
                Level.ERROR,
                found,
                "pgrep -af vpr_node    # stop one or give it a namespace; a crashed one is forgotten in 20 s",
            )
        ]
    return [_node_finding(node, graph, transport) for node in graph.vpr_nodes]


def _node_finding(node: VprNode, graph: Graph, transport: str) -> Finding:
    if node.state and node.state != "active":
        step = "configure" if node.state == "unconfigured" else "activate"
        level = Level.ERROR if node.state == "unconfigured" else Level.WARNING
        return Finding(
            "vpr node",
            level,
            f"{node.name} is {node.state}: no image is used",
            f"ros2 lifecycle set {node.name} {step}",
        )
    fed = [
        (stream, endpoint)
        for stream in graph.streams
        if stream.type.endswith("Image")
        for endpoint in stream.subscriptions
        if endpoint.node == node.name
    ]
    said = f"{node.name} is {node.state or 'there'}"
    if not fed:
        found = f"{said} and listens to no image topic"
        return Finding("vpr node", Level.ERROR, found, f"ros2 node info {node.name}    # and restart it")
    for stream, endpoint in fed:
        if not stream.publishers:
            found = f"{said} and listens to {stream.topic}, which nobody publishes"
            return Finding("vpr node", Level.ERROR, found, launch_line(graph, transport))
        why = next((why for e in stream.publishers if (why := mismatch(e.qos, endpoint.qos))), "")
        if why:
            found = f"{said} and listens to {stream.topic}, but cannot hear it: {why}"
            fix = f"ros2 topic info -v {stream.topic}"
            if endpoint.qos.reliability == ReliabilityPolicy.RELIABLE:
                override = f"qos_overrides.{stream.topic}.subscription.reliability: best_effort"
                fix += f"    # and restart {node.name} with {override} in its params_file"
            return Finding("vpr node", Level.ERROR, found, fix)
    heard = ", ".join(f"{stream.topic} ({_rate(stream) if stream.arrivals_s else 'silent'})" for stream, _ in fed)
    return Finding("vpr node", Level.OK, f"{said}, listens to {heard}")


def launch_line(graph: Graph, transport: str = "raw", odometry_topic: str = "") -> str:
    """The command that starts our node on what was found; `odometry_topic` where none was."""
    image, compressed = chosen_image(graph, transport)
    topic = "/camera/image_raw" if image is None else _base(image.topic)
    infos = [s.topic for s in graph.of("CameraInfo")]
    odometry = [s.topic for s in graph.of("Odometry")] or ([odometry_topic] if odometry_topic else [])
    beside = str(PurePosixPath(topic).with_name("camera_info"))
    info = infos[0] if infos and beside not in infos else beside
    if shutil.which("ros2") is None:
        words = ["vpr_node --ros-args", f"-r image:={topic}", f"-r camera_info:={info}"]
        words += (
            [f"-r image/compressed:={topic}/compressed", "-p node.image_transport:=compressed"] if compressed else []
        )
        words += [f"-r odom:={odometry[0]}"] if odometry else []
        words += ["-p use_sim_time:=true"] if graph.has_clock else []
        return " ".join(words)
    words = ["ros2 launch vpr_ros vpr.launch.py", f"image_topic:={topic}"]
    words += ["image_transport:=compressed"] if compressed else []
    words += [f"camera_info_topic:={info}"] if info != beside else []
    words += [f"odom_topic:={odometry[0]}"] if odometry and odometry[0] != "/odom" else []
    words += ["use_sim_time:=true"] if graph.has_clock else []
    return " ".join(words)


def findings(graph: Graph, transport: str, max_odometry_age_s: float, odometry: bool) -> list[Finding]:
    """Everything that can be said of what was seen."""
    return [
        graph_finding(graph),
        messages_finding(),
        *image_findings(graph, transport),
        camera_info_finding(graph, transport),
        odometry_finding(graph, transport, max_odometry_age_s, odometry),
        clock_finding(graph, transport),
        *node_findings(graph, transport),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--image-transport", choices=("raw", "compressed"), default="raw")
    parser.add_argument("--max-odometry-age", type=float, default=0.2)
    parser.add_argument("--no-odometry", action="store_true")
    options = parser.parse_args()
    rclpy.init(args=[])
    watcher = Watcher()
    try:
        graph = watcher.watch(options.seconds)
        found = findings(graph, options.image_transport, options.max_odometry_age, not options.no_odometry)
    finally:
        watcher.close()
        rclpy.try_shutdown()
    if options.json:
        print(json.dumps([to_json(finding) for finding in found]))
    else:
        print("\n".join(line for finding in found for line in lines(finding)))


if __name__ == "__main__":
    main()
