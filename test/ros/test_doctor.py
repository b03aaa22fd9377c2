"""The ROS part of `vpr doctor`: real cameras and nodes in processes, and graphs like theirs made by hand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from harness import NodeUnderTest, camera_info_msg, compressed_msg, image_msg, wait_until
from nav_msgs.msg import Odometry
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo
from std_srvs.srv import SetBool

from vpr_ros.config import Config
from vpr_ros.doctor import Finding, Level, watch_graph
from vpr_ros.doctor.shared_memory import leftovers, remove
from vpr_ros.machine import Machine
from vpr_ros.ros.doctor import findings, graph_finding, type_findings
from vpr_ros.ros.doctor.camera import camera_info_finding, image_findings
from vpr_ros.ros.doctor.graph import Complaint, Endpoint, Graph, Stream, VprNode
from vpr_ros.ros.doctor.launch_line import launch_line
from vpr_ros.ros.doctor.odometry_and_clock import clock_finding, odometry_finding
from vpr_ros.ros.doctor.qos import mismatch, qos_text
from vpr_ros.ros.doctor.vpr_nodes import node_findings
from vpr_ros.ros.doctor.watcher import Watcher
from vpr_ros.ros.messages import time_msg
from vpr_ros.types import Camera

CAMERA = """
import sys, time
import rclpy
from nav_msgs.msg import Odometry
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
topic, kind, reliability, durability, rate = sys.argv[1:]
qos = QoSProfile(depth=5, reliability=ReliabilityPolicy[reliability], durability=DurabilityPolicy[durability])
rclpy.init()
node = rclpy.create_node("camera")
compressed = kind == "CompressedImage"
images = node.create_publisher(CompressedImage if compressed else Image, topic, qos)
infos = node.create_publisher(CameraInfo, topic.rsplit("/", 1)[0] + "/camera_info", 1)
odometry = node.create_publisher(Odometry, "/wheels", 1)
image = CompressedImage(format="jpeg") if compressed else Image(width=64, height=48, encoding="rgb8", step=192)
image.data = bytes([128]) * (64 * 48 * 3)
info = CameraInfo(width=64, height=48, distortion_model="plumb_bob", d=[0.0] * 5)
info.k = [50.0, 0.0, 32.0, 0.0, 50.0, 24.0, 0.0, 0.0, 1.0]
print("ready", flush=True)
while rclpy.ok():
    odom = Odometry()
    for publisher, message in ((images, image), (infos, info), (odometry, odom)):
        message.header.stamp = node.get_clock().now().to_msg()
        publisher.publish(message)
    time.sleep(1 / float(rate))
"""


@contextmanager
def camera(
    topic: str, kind: str = "Image", qos: str = "BEST_EFFORT", durability: str = "VOLATILE", rate: float = 10.0
) -> Iterator[None]:
    command = [sys.executable, "-c", CAMERA, topic, kind, qos, durability, str(rate)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield
    finally:
        process.terminate()  # not killed: the others would take it for alive for another 20 s
        process.wait()


def watch(is_complete: Callable[[Graph], object]) -> Graph:
    """Until all is seen that the test's processes do: on a busy machine one look is too short for that."""
    watcher = Watcher()
    try:
        return next(graph for graph in (watcher.watch(1.0) for _ in range(60)) if is_complete(graph))
    finally:
        watcher.close()


def hears(graph: Graph, *kinds: str) -> bool:
    """Whether something came of each of these kinds."""
    return all(any(stream.arrivals_s for stream in graph.of(kind)) for kind in kinds)


def knows(graph: Graph, *states: str) -> bool:
    """Whether our nodes are in these states, and said what they are configured to and how they are, where they are active."""
    nodes = graph.vpr_nodes
    return sorted(node.state for node in nodes) == sorted(states) and all(
        node.transport and (node.state != "active" or node.complaints is not None) for node in nodes
    )


def by_name(findings: list[Finding], name: str) -> Finding:
    (found,) = [finding for finding in findings if finding.name == name]
    return found


# --- real processes --------------------------------------------------------------------------------------------------


HEARD = {"image", "camera_info", "odom"}


def test_a_camera_and_no_node() -> None:
    """The whole way: the process that `vpr doctor` starts, what it hears, and its answer as findings."""
    machine = replace(Machine(), environment=dict(os.environ) | {"PATH": "/nowhere"})
    with camera("/front/image_raw"):
        looks = (watch_graph(machine, Config(), 1.0) for _ in range(60))
        findings = next(found for found in looks if {f.name for f in found if f.level is Level.OK} >= HEARD)
    image = by_name(findings, "image")
    assert image.level is Level.OK, image
    assert "/front/image_raw (Image): 1 publisher, best effort, volatile" in image.found
    assert "64x48 rgb8" in image.found
    assert re.search(r"[\d.]+ Hz", image.found)
    assert by_name(findings, "camera_info").level is Level.OK
    assert by_name(findings, "odom").level is Level.OK
    assert by_name(findings, "clock").found == "system time"
    node = by_name(findings, "vpr node")
    assert node.level is Level.SKIPPED
    assert node.fix == (
        "vpr_node --ros-args -r image:=/front/image_raw -r camera_info:=/front/camera_info -r odom:=/wheels"
    )
    assert not [finding for finding in findings if finding.level is Level.ERROR]


def test_a_node_that_cannot_hear_the_camera() -> None:
    with NodeUnderTest({"qos_overrides./image.subscription.reliability": "reliable"}), camera("/image"):
        graph = watch(lambda seen: knows(seen, "active") and hears(seen, "Image") and seen.vpr_nodes[0].complaints)
    (node,) = graph.vpr_nodes
    assert (node.name, node.state, node.use_sim_time, node.transport) == ("/vpr", "active", False, "raw")
    assert [(c.part, c.is_error) for c in node.complaints or ()] == [("stream", True)]
    (finding,) = node_findings(graph)
    assert finding.level is Level.ERROR
    assert finding.found == (
        "/vpr is active and listens to /image, but cannot hear it: it is sent best effort and wanted reliable"
    )
    assert "ros2 topic info -v /image" in finding.fix
    assert "qos_overrides./image.subscription.reliability: best_effort" in finding.fix


def test_a_node_that_listens_to_the_wrong_topic_and_waits_for_a_clock() -> None:
    with NodeUnderTest({"use_sim_time": True}), camera("/front/image_raw/compressed", "CompressedImage"):
        graph = watch(lambda seen: knows(seen, "active") and hears(seen, "CompressedImage"))
    (finding,) = node_findings(graph)
    assert finding.level is Level.ERROR
    assert "listens to /image, which nobody publishes" in finding.found
    assert "image:=/front/image_raw" in finding.fix or "image_topic:=/front/image_raw" in finding.fix
    assert "image_transport:=compressed" in finding.fix
    clock = clock_finding(graph)
    assert clock.level is Level.ERROR
    assert clock.found == "/vpr has use_sim_time, and nobody publishes /clock: its time stands still"
    assert clock.fix == "ros2 param set /vpr use_sim_time false"
    broken, transport = image_findings(graph)  # the camera sends zeros, which are no jpeg
    assert broken.level is Level.WARNING
    assert "cannot be used" in broken.found
    assert transport.level is Level.WARNING
    assert "there are only compressed images" in transport.found


@contextmanager
def sleeping_node(namespace: str) -> Iterator[None]:
    """A node that waits to be configured."""
    command = [sys.executable, "-m", "vpr_ros.ros.vpr_node", "--ros-args", "-p", "node.autostart:=false"]
    process = subprocess.Popen([*command, "-r", f"__ns:={namespace}"])
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def test_a_node_that_is_fed_by_a_reliable_latched_camera_and_one_that_sleeps() -> None:
    with sleeping_node("/spare"), NodeUnderTest({}), camera("/image", qos="RELIABLE", durability="TRANSIENT_LOCAL"):
        graph = watch(lambda seen: knows(seen, "active", "unconfigured") and hears(seen, "Image"))
    (stream,) = graph.of("Image")
    assert stream.arrivals_s
    assert [endpoint.node for endpoint in stream.publishers] == ["/camera"]
    assert qos_text(stream.publishers[0].qos).startswith("reliable, transient local")
    asleep, fed = node_findings(graph)
    assert fed.level is Level.OK, fed
    assert "/vpr is active, listens to /image (" in fed.found
    assert asleep.level is Level.ERROR
    assert asleep.fix == "ros2 lifecycle set /spare/vpr configure"


VIEWER = """
import rclpy
from sensor_msgs.msg import Image
rclpy.init()
node = rclpy.create_node("viewer")
node.create_subscription(Image, "/front/image_raw/compressed", print, 1)
print("ready", flush=True)
rclpy.spin(node)
"""


def test_a_viewer_that_wants_another_type_of_the_topic() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", VIEWER], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        with camera("/front/image_raw/compressed", "CompressedImage"):
            seen = watch(
                lambda graph: hears(graph, "CompressedImage") and "/viewer" in graph.nodes and type_findings(graph)
            )
    finally:
        process.terminate()
        process.wait()
    (finding,) = type_findings(seen)
    assert "/viewer wants /front/image_raw/compressed as Image" in finding.found
    assert seen.of("CompressedImage")[0].arrivals_s, "it is watched all the same"


def test_a_node_that_is_alive_and_of_no_use() -> None:
    """Disabled by somebody, and two nodes of its name: what the whole way, `vpr doctor`'s process, finds."""
    machine = replace(Machine(), environment=dict(os.environ) | {"PATH": "/nowhere"})

    def first_with(text: str) -> Finding:
        looks = (watch_graph(machine, Config(), 1.0) for _ in range(60))
        return next(finding for findings in looks for finding in findings if text in finding.found)

    with NodeUnderTest({"engine.backend": "onnxruntime"}) as node, camera("/image"):
        assert node.ears.call(SetBool, "/vpr/set_enabled", data=False).success
        wait_until(lambda: "disabled" in node.ears.status_of("stream"))
        disabled = first_with("disabled by")
        with sleeping_node("/"):
            wait_until(lambda: node.ears.get_node_names_and_namespaces().count(("vpr", "/")) == 2)
            twins = first_with("more than once")
    assert disabled.level is Level.WARNING
    assert "disabled by ~/set_enabled" in disabled.found
    assert disabled.fix.startswith("ros2 service call /vpr/set_enabled")
    assert twins.level is Level.ERROR
    assert "/vpr is there more than once" in twins.found


def test_the_memory_of_a_killed_process_is_left_and_that_of_a_living_one_is_in_use() -> None:
    def left() -> set[str]:
        return {file.name for each in leftovers(Machine()) for file in each.files}

    command = [sys.executable, "-c", CAMERA, "/killed", "Image", "RELIABLE", "VOLATILE", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        own = set(
            re.findall(
                r"/dev/shm/(fast(?:dds|rtps)_[0-9a-f]{16})$", Path(f"/proc/{process.pid}/maps").read_text(), re.M
            )
        )
        if not own:
            pytest.skip("this DDS has no memory of its own there")
        assert not own & left()
    finally:
        process.kill()
        process.wait()
    wait_until(lambda: own <= left(), what=f"{own} to be left")
    remove([each for each in leftovers(Machine()) if own & {file.name for file in each.files}])
    assert not [name for name in own if Path("/dev/shm", name).exists()]


def test_an_rmw_that_is_not_installed_is_said() -> None:
    environment = dict(os.environ) | {"RMW_IMPLEMENTATION": "rmw_nope_cpp", "ROS_DISTRO": "kilted"}
    (finding,) = watch_graph(replace(Machine(), environment=environment), Config(), 0.5)
    assert finding.level is Level.ERROR
    assert "rmw_nope_cpp" in finding.found
    assert finding.fix == "unset RMW_IMPLEMENTATION    # or: sudo apt install ros-kilted-rmw-nope-cpp"


def test_watching_needs_neither_opencv_nor_our_messages() -> None:
    program = """
import sys
sys.modules["cv2"] = sys.modules["vpr_msgs"] = None  # importing them raises ImportError
import vpr_ros.ros.doctor.__main__
from vpr_ros.ros.doctor import messages_finding
print(messages_finding().level.name)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "ERROR\n", done.stderr


# --- graphs made by hand ---------------------------------------------------------------------------------------------

BEST_EFFORT = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
RELIABLE = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
TYPES = {"Odometry": "nav_msgs/msg/Odometry"}
PICTURE = np.full((48, 64, 3), 128, np.uint8)
LENS = Camera(width=64, height=48, fx=50.0, fy=50.0, cx=32.0, cy=24.0)


def stream(topic: str, kind: str, message: object = None, qos: QoSProfile = BEST_EFFORT, lag_s: float = 0.0) -> Stream:
    """A topic with one publisher, heard ten times a second unless there is no message."""
    made = Stream(topic, TYPES.get(kind, f"sensor_msgs/msg/{kind}"), [Endpoint("/camera", qos)], is_watched=True)
    if message is not None:
        made.first = bytes(serialize_message(message))
        made.arrivals_s = [i / 10 for i in range(20)]
        made.size = 20 * len(made.first)
        made.first_s = 1000.0 + lag_s
    return made


def raw(topic: str = "/front/image_raw", lag_s: float = 0.0, qos: QoSProfile = BEST_EFFORT) -> Stream:
    return stream(topic, "Image", image_msg(PICTURE, 1000 * 10**9), qos, lag_s)


def compressed(topic: str = "/front/image_raw/compressed") -> Stream:
    return stream(topic, "CompressedImage", compressed_msg(PICTURE, 1000 * 10**9))


def odometry(lag_s: float = 0.0) -> Stream:
    message = Odometry()
    message.header.stamp = time_msg(1000 * 10**9)
    return stream("/wheels", "Odometry", message, lag_s=lag_s)


def graph(*streams: Stream, nodes: tuple[VprNode, ...] = (), has_clock: bool = False) -> Graph:
    return Graph(3.0, streams, ["/camera"], nodes, has_clock)


def test_mismatches() -> None:
    for qos in (RELIABLE, BEST_EFFORT, LATCHED):
        assert stream("/image", "Image", qos=qos).mismatch() == "", "our node hears them all"
    assert mismatch(BEST_EFFORT, RELIABLE) == "it is sent best effort and wanted reliable"
    assert mismatch(RELIABLE, LATCHED) == "it is sent volatile and wanted transient local"
    assert mismatch(LATCHED, LATCHED) == ""


def test_nobody_is_there() -> None:
    finding = graph_finding(Graph(3.0, [], [], [], False))
    assert finding.level is Level.WARNING
    assert "ROS_DOMAIN_ID" in finding.fix
    assert [f.level for f in image_findings(graph())] == [Level.WARNING]


def test_images_that_come() -> None:
    (finding,) = image_findings(graph(raw(lag_s=0.02)))
    assert finding.level is Level.OK
    assert finding.found == (
        "/front/image_raw (Image): 1 publisher, best effort, volatile, depth 5; 10.0 Hz, 0.093 MB/s, 64x48 rgb8, "
        "stamped 20 ms ago"
    )


def test_raw_images_that_do_not_come_need_larger_shared_memory() -> None:
    (finding,) = image_findings(graph(stream("/image", "Image")))
    assert finding.level is Level.WARNING
    assert re.fullmatch(
        r"export FASTDDS_DEFAULT_PROFILES_FILE=/\S+/config/fastdds.xml .* where /camera .*", finding.fix
    )
    (reliable,) = image_findings(graph(stream("/image", "Image", qos=RELIABLE)))
    assert reliable.fix == "ros2 topic hz /image"


def test_images_that_no_decoder_knows() -> None:
    message = image_msg(PICTURE, 0)
    message.encoding = "bayer_x"
    (finding,) = image_findings(graph(stream("/image", "Image", message)))
    assert finding.level is Level.WARNING
    assert "bayer_x" in finding.found


def test_only_compressed_images_need_the_parameter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: "/opt/ros/humble/bin/ros2")
    of_camera, transport = image_findings(graph(compressed()))
    assert of_camera.level is Level.OK
    assert transport.level is Level.WARNING
    assert transport.fix == (
        "ros2 launch vpr_ros vpr.launch.py image_topic:=/front/image_raw image_transport:=compressed"
    )
    assert len(image_findings(graph(compressed()), "compressed")) == 1
    fed = compressed()
    fed.subscriptions = [Endpoint("/vpr", BEST_EFFORT)]
    assert len(image_findings(graph(fed, nodes=(VprNode("/vpr", "active"),)))) == 1


def test_the_launch_line_names_what_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    info = stream("/left/info", "CameraInfo", camera_info_msg(LENS))
    seen = graph(stream("/front/depth/image", "Image", image_msg(PICTURE, 0)), raw(), info, odometry(), has_clock=True)
    monkeypatch.setattr("shutil.which", lambda _: "/opt/ros/humble/bin/ros2")
    assert launch_line(seen) == (
        "ros2 launch vpr_ros vpr.launch.py image_topic:=/front/image_raw camera_info_topic:=/left/info "
        "odom_topic:=/wheels use_sim_time:=true"
    )
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert launch_line(seen) == (
        "vpr_node --ros-args -r image:=/front/image_raw -r camera_info:=/left/info -r odom:=/wheels "
        "-p use_sim_time:=true"
    )


def test_camera_info() -> None:
    beside = stream("/front/camera_info", "CameraInfo", camera_info_msg(LENS))
    assert camera_info_finding(graph(raw(), beside)).level is Level.OK
    assert camera_info_finding(graph(compressed(), beside)).level is Level.OK
    none = camera_info_finding(graph(raw()))
    assert (none.level, "no relative pose" in none.found) == (Level.WARNING, True)
    assert "cameracalibrator" in none.fix
    uncalibrated = stream("/front/camera_info", "CameraInfo", CameraInfo(width=64, height=48))
    assert "not calibrated" in camera_info_finding(graph(raw(), uncalibrated)).found
    behind = camera_info_msg(replace(LENS, width=80, height=48))
    wrong = camera_info_finding(graph(raw(), stream("/front/camera_info", "CameraInfo", behind)))
    assert wrong.level is Level.WARNING
    assert "camera_info is for 80 x 48 px, images are 64 x 48 px" in wrong.found
    assert "cameracalibrator" in wrong.fix
    twice = camera_info_msg(Camera(width=128, height=96, fx=100.0, fy=100.0, cx=64.0, cy=48.0))
    scaled = camera_info_finding(graph(compressed(), stream("/front/camera_info", "CameraInfo", twice)))
    assert scaled.level is Level.OK
    assert "scaled by 1/2" in scaled.found
    elsewhere = camera_info_finding(graph(raw(), stream("/left/info", "CameraInfo", camera_info_msg(LENS))))
    assert elsewhere.level is Level.WARNING
    assert "/left/info" in elsewhere.fix
    silent = camera_info_finding(graph(raw(), stream("/front/camera_info", "CameraInfo")))
    assert silent.fix == "ros2 topic echo --once /front/camera_info"


def test_camera_info_of_a_rectified_image_is_p() -> None:
    info = camera_info_msg(LENS)
    info.d = [-0.3, 0.1, 0.0, 0.0, 0.0]
    beside = stream("/front/camera_info", "CameraInfo", info)
    assert camera_info_finding(graph(raw(), beside)).level is Level.OK
    without = camera_info_finding(graph(raw("/front/image_rect"), beside))
    assert (without.level, "has no P" in without.found) == (Level.WARNING, True)
    info.p = [50.0, 0.0, 32.0, 0.0, 0.0, 50.0, 24.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    beside = stream("/front/camera_info", "CameraInfo", info)
    assert camera_info_finding(graph(raw("/front/image_rect"), beside)).level is Level.OK


def test_the_bits_of_16_bit_images_are_said() -> None:
    message = image_msg(PICTURE, 0)
    message.encoding, message.step = "mono16", 128
    message.data = (np.arange(48 * 64, dtype=np.uint16) % 1024).tobytes()
    (finding,) = image_findings(graph(stream("/image", "Image", message)))
    assert "64x48 mono16 (the 16-bit images hold 10 bits: 0 to 1023 becomes 0 to 255)" in finding.found
    assert finding.level is Level.OK


def test_odometry() -> None:
    assert odometry_finding(graph(raw(), odometry())).level is Level.OK
    apart = odometry_finding(graph(raw(lag_s=0.1), odometry(lag_s=0.5)))
    assert (apart.level, "0.40 s apart" in apart.found) == (Level.WARNING, True)
    assert odometry_finding(graph(raw(lag_s=0.1), odometry(lag_s=0.5)), max_age_s=0.5).level is Level.OK
    none = odometry_finding(graph(raw()))
    assert none.level is Level.SKIPPED
    assert "/your/odometry" in none.fix
    assert odometry_finding(graph(raw()), wanted=False).level is Level.OK
    assert odometry_finding(graph(stream("/wheels", "Odometry"))).fix == "ros2 topic hz /wheels"


def test_odometry_that_is_no_pose() -> None:
    for change in ({"x": float("nan")}, {"w": 0.0}, {"w": float("inf")}):
        message = Odometry()
        message.pose.pose.position.x = change.get("x", 0.0)
        message.pose.pose.orientation.w = change.get("w", 1.0)
        finding = odometry_finding(graph(stream("/wheels", "Odometry", message)))
        assert finding.level is Level.WARNING, change
        assert "its first pose is not one" in finding.found
        assert finding.fix.startswith("ros2 topic echo --once /wheels")


def test_images_without_a_stamp() -> None:
    for has_clock in (False, True):
        finding = clock_finding(graph(stream("/image", "Image", image_msg(PICTURE, 0)), has_clock=has_clock))
        assert finding.level is Level.WARNING
        assert "/image carry no stamp" in finding.found


def test_one_check_that_fails_takes_no_other_with_it() -> None:
    broken = raw()
    broken.first = b"\0"  # deserialising fails
    with_odometry = findings(graph(broken, odometry()), "raw", 0.2, True)
    assert "check failed" in by_name(with_odometry, "image").found
    assert [f.level for f in with_odometry if f.name == "vpr node"] == [Level.SKIPPED]


def test_black_images() -> None:
    (finding,) = image_findings(graph(stream("/image", "Image", image_msg(PICTURE // 64, 1000 * 10**9))))
    assert finding.level is Level.WARNING
    assert finding.found.endswith("the first image is black")


def test_two_nodes_of_one_name() -> None:
    finding = graph_finding(Graph(3.0, [], ["/camera", "/camera", "/vpr"], [], False))
    assert finding.level is Level.WARNING
    assert "more than one is called /camera" in finding.found


def test_what_a_node_says_of_itself() -> None:
    fed = raw()
    fed.subscriptions = [Endpoint("/vpr", BEST_EFFORT)]
    dark = Complaint("stream", False, "receiving, but the images are black")
    (finding,) = node_findings(graph(fed, nodes=(VprNode("/vpr", "active", complaints=(dark,)),)))
    assert finding.level is Level.WARNING
    assert finding.found.endswith("stream: receiving, but the images are black")
    stalled = Complaint("place recognition", True, "a frame is in work for 60 s")
    (finding,) = node_findings(graph(fed, nodes=(VprNode("/vpr", "active", complaints=(dark, stalled)),)))
    assert finding.level is Level.ERROR
    (finding,) = node_findings(graph(fed, nodes=(VprNode("/vpr", "active", complaints=None),)))
    assert (finding.level, "says nothing on /diagnostics" in finding.found) == (Level.WARNING, True)


def test_a_node_on_a_topic_of_another_type() -> None:
    for other in (
        compressed("/image"),
        Stream("/image", "theora_image_transport/msg/Packet", [Endpoint("/codec", RELIABLE)]),
    ):
        wanted = Stream("/image", "sensor_msgs/msg/Image", subscriptions=[Endpoint("/vpr", BEST_EFFORT)])
        seen = graph(other, wanted, nodes=(VprNode("/vpr", "active"),))
        (finding,) = node_findings(seen)
        assert finding.level is Level.ERROR
        assert (
            f"listens to /image as Image, but {other.publishers[0].node} publishes it as {other.kind}" in finding.found
        )
        (finding,) = type_findings(seen)
        assert (
            f"/vpr wants /image as Image, and {other.publishers[0].node} publishes it as {other.kind}" in finding.found
        )


def test_topics_of_two_types() -> None:
    published, viewer = compressed("/image"), stream("/image", "Image")
    viewer.publishers = []
    assert type_findings(graph(published, viewer)) == []
    viewer.subscriptions = [Endpoint("/viewer", BEST_EFFORT)]
    (finding,) = type_findings(graph(published, viewer))
    assert finding.level is Level.WARNING
    assert (
        finding.found == "/viewer wants /image as Image, and /camera publishes it as CompressedImage: nothing arrives"
    )
    (both,) = type_findings(graph(published, stream("/image", "Image")))
    assert "/image is published as CompressedImage by /camera and as Image by /camera:" in both.found
    assert type_findings(graph(raw(), compressed())) == []


def test_clocks() -> None:
    assert clock_finding(graph(raw(lag_s=0.05))).level is Level.OK
    late = clock_finding(graph(raw(lag_s=40.0)))
    assert (late.level, "40 s behind" in late.found) == (Level.WARNING, True)
    assert "2 s ahead of" in clock_finding(graph(raw(lag_s=-2.0))).found
    assert clock_finding(graph(raw(lag_s=40.0), has_clock=True)).level is Level.OK
    wall = clock_finding(graph(nodes=(VprNode("/vpr", "active"),), has_clock=True))
    assert wall.fix == "ros2 param set /vpr use_sim_time true"


def test_nodes() -> None:
    twice = node_findings(graph(nodes=(VprNode("/vpr", "active"), VprNode("/vpr", "active"))))
    assert [(f.level, "more than once" in f.found) for f in twice] == [(Level.ERROR, True)]
    inactive = node_findings(graph(nodes=(VprNode("/robot/vpr", "inactive"),)))
    assert [(f.level, f.fix) for f in inactive] == [(Level.WARNING, "ros2 lifecycle set /robot/vpr activate")]
    ended = node_findings(graph(raw(), nodes=(VprNode("/vpr", "finalized"),)))
    assert [(f.level, "only a new process" in f.found) for f in ended] == [(Level.ERROR, True)]
    assert "image:=/front/image_raw" in ended[0].fix or "image_topic:=/front/image_raw" in ended[0].fix
    deaf = node_findings(graph(raw(), nodes=(VprNode("/vpr", "active"),)))
    assert [(f.level, "no image topic" in f.found) for f in deaf] == [(Level.ERROR, True)]
