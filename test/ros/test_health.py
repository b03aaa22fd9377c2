"""Health means useful, not alive: what /diagnostics and the log tell of a node that receives and finds nothing."""

from __future__ import annotations

import numpy as np
import pytest
from harness import NodeUnderTest, wait_until
from nav_msgs.msg import Odometry
from rclpy import create_node
from sensor_msgs.msg import Image
from small_worlds import texture
from std_srvs.srv import SetBool
from vpr_msgs.srv import LoadMap, SaveMap

from vpr_ros.ros.messages import time_msg

S = 10**9
WARN, ERROR = b"\x01", b"\x02"


def view(place: int) -> np.ndarray:
    return np.ascontiguousarray(texture(place, 320, 240))


def is_warned(node: NodeUnderTest, status: str, text: str) -> bool:
    found = node.ears.diagnostics.get(f"vpr: {status}")
    return found is not None and found.level == WARN and text in found.message


def send_odometry(node: NodeUnderTest, second: float, x_m: float) -> None:
    message = Odometry(child_frame_id="base_link")
    message.header.stamp, message.header.frame_id = time_msg(round(second * S)), "odom"
    message.pose.pose.position.x, message.pose.pose.orientation.w = x_m, 1.0
    node.ears.outlet(Odometry, "/odom").publish(message)


def test_the_topics_are_logged_and_silence_once(parameters: dict[str, object]) -> None:
    with NodeUnderTest(parameters | {"node.no_data_s": 0.5}) as node:
        wait_until(lambda: "subscribed to /image, /camera_info, /odom" in node.text, what=node.text)
        wait_until(lambda: "no image on /image for" in node.text, what=node.text)
        node.ears.send_and_wait(view(0), 100 * S)
        assert node.text.count("no image on /image for") == 1


def test_a_node_whose_every_frame_fails_is_not_well(parameters: dict[str, object]) -> None:
    """A library that breaks at the first search, say: what is received is not what is answered."""
    program = (
        "import vpr_ros.map.index.faiss_index as index\n"
        "def fails(*_): raise RuntimeError('no such function')\n"
        "index.why_refused(); index._search = fails"
    )
    with NodeUnderTest(parameters, before=program) as node:
        sent = iter(range(10**6))

        def is_told() -> bool:
            node.ears.send(view(0), (100 + next(sent)) * S)
            found = node.ears.diagnostics.get("vpr: stream")
            return found is not None and found.level == ERROR and "a frame failed: RuntimeError" in found.message

        wait_until(is_told, what=node.text)


def test_black_images(node: NodeUnderTest) -> None:
    for i in range(3):
        node.ears.send_and_wait(np.full((240, 320, 3), i, np.uint8), (100 + i) * S)
    wait_until(lambda: is_warned(node, "stream", "the images are black"), what=node.ears.status_of("stream"))
    for i in range(3):
        node.ears.send_and_wait(view(i), (103 + i) * S)
    wait_until(lambda: node.ears.status_of("stream") == "receiving", what=node.ears.status_of("stream"))


def test_a_node_that_the_user_disabled(node: NodeUnderTest) -> None:
    assert node.ears.call(SetBool, "/vpr/set_enabled", data=False).success
    wait_until(lambda: is_warned(node, "stream", "disabled by ~/set_enabled"))
    assert node.ears.call(SetBool, "/vpr/set_enabled", data=True).success
    wait_until(lambda: "disabled" not in node.ears.status_of("stream"))


@pytest.mark.parametrize(
    ("x_m", "late_s", "text"),
    [(np.nan, 0.0, "odometry is not used"), (0.0, 900.0, "do their clocks agree?")],
)
def test_odometry_that_is_of_no_use(node: NodeUnderTest, x_m: float, late_s: float, text: str) -> None:
    def is_told() -> bool:
        send_odometry(node, 100.0 + late_s, x_m)
        node.ears.send_and_wait(view(0), (100 + len(node.ears.matches)) * S)
        return is_warned(node, "place recognition", text)

    wait_until(is_told, what=node.ears.status_of("place recognition"))


def test_two_robots_have_two_names_on_diagnostics(parameters: dict[str, object]) -> None:
    with NodeUnderTest(parameters | {"node.autostart": False}, {"__ns": "/robot1"}) as node:
        wait_until(lambda: "robot1/vpr: stream" in node.ears.diagnostics)


def test_another_type_on_the_topic_is_named(parameters: dict[str, object]) -> None:
    with NodeUnderTest(parameters | {"node.no_data_s": 0.5, "node.image_transport": "compressed"}) as node:
        node.ears.outlet(Image, "/image/compressed", wait=False)
        wait_until(
            lambda: (
                "ears publishes it as sensor_msgs/msg/Image, and sensor_msgs/msg/CompressedImage is wanted"
                in node.ears.status_of("stream")
            ),
            what=node.text,
        )


def test_a_node_that_never_matches_says_why(parameters: dict[str, object]) -> None:
    """A map that was loaded, and images of other places."""
    with NodeUnderTest(parameters | {"match.min_similarity": 0.999, "exclusion.time_s": 0.0}) as node:
        for i in range(2):
            node.ears.send_and_wait(view(i), (100 + i) * S)
        assert node.ears.call(SaveMap, "/vpr/save_map", name="town").success
        assert node.ears.call(LoadMap, "/vpr/load_map", name="town").success
        for i in range(300):
            assert not is_warned(node, "place recognition", "queries matched")
            node.ears.send_and_wait(view(2 + i), (200 + i) * S)
        wait_until(lambda: is_warned(node, "place recognition", "none of 300 queries matched, most for LOW_SCORE"))


def test_a_second_node_of_the_same_name(node: NodeUnderTest) -> None:
    twin = create_node("vpr")
    try:
        wait_until(lambda: is_warned(node, "place recognition", "another node is called /vpr, too"))
    finally:
        twin.destroy_node()
    wait_until(lambda: not is_warned(node, "place recognition", "another node"))


def test_a_node_that_is_not_active(parameters: dict[str, object]) -> None:
    with NodeUnderTest(parameters | {"node.autostart": False}) as node:
        wait_until(lambda: is_warned(node, "stream", "not active"))
