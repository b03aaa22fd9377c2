"""What robots really send: stamps and odometry that are wrong now and then, over DDS."""

from __future__ import annotations

import numpy as np
import pytest
from harness import NodeUnderTest, image_msg, wait_until
from nav_msgs.msg import Odometry
from sensor_msgs.msg import Image
from small_worlds import texture

from vpr_ros.ros.messages import time_msg

S = 10**9


def view(place: int) -> np.ndarray:
    return np.ascontiguousarray(texture(place, 320, 240))


def value(node: NodeUnderTest, name: str, key: str) -> str | None:
    status = node.ears.diagnostics.get(f"vpr: {name}")
    return next((v.value for v in status.values if v.key == key), None) if status else None


def send_and_count(node: NodeUnderTest, place: int, stamp_ns: int) -> None:
    """Until the node has taken it, as an answer or as a frame that it skipped."""
    before = len(node.ears.matches) + int(value(node, "stream", "skipped (unreadable or out of order)") or 0)

    def is_taken() -> bool:
        skipped = int(value(node, "stream", "skipped (unreadable or out of order)") or 0)
        return len(node.ears.matches) + skipped > before

    node.ears.send(view(place), stamp_ns)
    wait_until(is_taken, what=node.text)


def test_images_without_a_stamp_are_answered_and_it_is_said_once(node: NodeUnderTest) -> None:
    for i in range(4):
        send_and_count(node, i, 0)
    stamps = [match.stamp_ns for match in node.ears.matches]
    assert len(stamps) == 4
    assert stamps == sorted(stamps)
    assert stamps[0] > 10**18  # the time of reception
    wait_until(lambda: "without a stamp" in node.ears.status_of("stream"))
    assert node.text.count("have no stamp") == 1


def test_one_odd_stamp_is_dropped_and_a_set_clock_starts_a_session_that_is_logged(node: NodeUnderTest) -> None:
    ears = node.ears
    for i in range(4):
        ears.send_and_wait(view(i), (100 + i) * S)
    send_and_count(node, 9, 4000 * S)
    send_and_count(node, 9, 50 * S)
    assert ears.send_and_wait(view(4), 104 * S).session == ears.matches[0].session
    for i in range(2):
        send_and_count(node, 10 + i, (9000 + i) * S)
    after = ears.send_and_wait(view(4), 9002 * S)
    assert after.session == ears.matches[0].session + "+"
    assert not after.accepted  # the place was seen a moment ago, whatever the clock shows
    assert "jumped forward by 8896.000 s" in node.text
    wait_until(lambda: value(node, "place recognition", "session events") == "1")


def test_stamps_that_never_change_are_an_error_and_not_ok(node: NodeUnderTest) -> None:
    node.ears.send_and_wait(view(0), 100 * S)
    outlet = node.ears.outlet(Image, "/image")

    def is_reported() -> bool:
        outlet.publish(image_msg(view(1), 100 * S))
        is_error = node.ears.diagnostics["vpr: stream"].level == b"\x02"
        return is_error and "most images get no answer" in node.ears.status_of("stream")

    wait_until(lambda: node.ears.status_of("stream"))
    wait_until(is_reported, what=node.text)
    assert "is not newer than" in node.ears.status_of("stream")


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), 1e300, 300.0])
def test_one_odd_odometry_message_does_not_switch_the_gate_off(node: NodeUnderTest, odd: float) -> None:
    """Two streets that look alike, 50 m apart by odometry."""
    ears = node.ears
    odom = ears.outlet(Odometry, "/odom")
    for i in range(12):
        message = Odometry()
        message.header.stamp, message.header.frame_id = time_msg((100 + i) * S), "odom"
        message.pose.pose.position.x = odd if i == 2 else 8.0 * i
        message.pose.pose.orientation.w = 1.0
        odom.publish(message)
        match = ears.send_and_wait(view(i % 6), (100 + i) * S)
        assert match.status.name == ("NO_MAP" if i == 0 else "ODOMETRY" if i >= 6 else match.status.name)
        assert not match.accepted
