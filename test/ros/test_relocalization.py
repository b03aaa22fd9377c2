"""A map of an earlier drive, and a node that is to find the robot in it: with an odometry that began elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from geometry_msgs.msg import PoseWithCovarianceStamped
from harness import RELIABLE, NodeUnderTest, camera_info_msg, compressed_msg, image_msg, wait_until
from nav_msgs.msg import Odometry
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo
from small_worlds import texture
from vpr_msgs.msg import Localization
from vpr_msgs.srv import QueryPlaces, Relocalize

from vpr_ros.ros.messages import pose_from_msg, pose_to_msg, time_msg
from vpr_ros.types import Camera

S = 10**9
CAMERA = Camera(300.0, 300.0, 160.0, 120.0, 320, 240)
FORWARD = {"odometry.body_from_camera": "0.3 0 1.2 -0.5 0.5 -0.5 0.5", "exclusion.away_similarity": 1.0}
MAP_FROM_ODOM = np.array([[0.0, -1.0, 0.0, 5.0], [1.0, 0.0, 0.0, -3.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]])


def view(place: int) -> np.ndarray:
    return texture(place, 320, 240)


def at(x_m: float) -> np.ndarray:
    pose = np.eye(4)
    pose[0, 3] = x_m
    return pose


class Listener:
    """What a back end hears of where the robot is."""

    def __init__(self, node: NodeUnderTest) -> None:
        self.states: list[Any] = []
        self.poses: list[Any] = []
        self.initialposes: list[Any] = []
        latched = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        ears = node.ears
        ears.create_subscription(Localization, "/vpr/localization", self.states.append, latched)
        ears.create_subscription(PoseWithCovarianceStamped, "/vpr/relocalization_pose", self.poses.append, RELIABLE)
        ears.create_subscription(PoseWithCovarianceStamped, "/initialpose", self.initialposes.append, RELIABLE)
        wait_until(lambda: self.states, what=f"the state at the start:\n{node.text}")


def drive(node: NodeUnderTest, places: range, start_s: int, odom_from_map: np.ndarray | None = None) -> None:
    """One place a second, 2 m apart along x of the map. All odometry is there before the first image."""
    to_odom = np.eye(4) if odom_from_map is None else odom_from_map
    outlet = node.ears.outlet(Odometry, "/odom")
    for i in places:
        message = Odometry(child_frame_id="base_link")
        message.header.frame_id, message.header.stamp = "odom", time_msg((start_s + i) * S)
        message.pose.pose = pose_to_msg(to_odom @ at(2.0 * i))
        outlet.publish(message)
    node.ears.outlet(CameraInfo, "/camera_info").publish(camera_info_msg(CAMERA))
    before_ns = (start_s + places[0]) * S - S // 2
    node.ears.send_and_wait(view(500 + places[0]), before_ns)  # by then odometry and calibration are there
    for i in places:
        node.ears.send_and_wait(view(i), (start_s + i) * S)


@pytest.fixture
def mapped(parameters: dict[str, object]) -> dict[str, object]:
    """Parameters of a node in a map of twelve places."""
    with NodeUnderTest(parameters | FORWARD | {"node.map": "town"}) as node:
        drive(node, range(12), 1000)
        wait_until(lambda: len(node.ears.keyframes) == 13, what=node.text)
    return parameters | FORWARD | {"node.map": "town", "map.mode": "localization", "relocalization.max_distance_m": 1.0}


@pytest.fixture
def localizing(mapped: dict[str, object]) -> Iterator[NodeUnderTest]:
    with NodeUnderTest(mapped) as node:
        yield node


def test_the_robot_is_found_in_the_maps_frame(localizing: NodeUnderTest) -> None:
    """After three places that agree, and not before; initialpose is left alone."""
    heard = Listener(localizing)
    drive(localizing, range(2, 6), 2000, np.linalg.inv(MAP_FROM_ODOM))
    wait_until(lambda: len(heard.poses) == 2 and len(heard.states) == 2, what=localizing.text)
    assert [state.state for state in heard.states] == [Localization.UNKNOWN, Localization.LOCALIZED]
    for pose, place in zip(heard.poses, (4, 5), strict=True):
        assert pose.header.frame_id == "map"
        assert pose.header.stamp.sec == 2000 + place
        found = pose_from_msg(pose.pose.pose)
        # the pictures are the same: no parallax, so that the robot is where the keyframe is
        np.testing.assert_allclose(found, at(2.0 * place), atol=0.05)
        covariance = np.array(pose.pose.covariance).reshape(6, 6)
        assert np.linalg.eigvalsh(covariance).min() > 0
    assert not heard.initialposes
    assert "found in the map: 3 matches agree" in localizing.text
    status = wait_until(lambda: localizing.ears.diagnostics.get("vpr: place recognition"))
    wait_until(
        lambda: any(
            value.key == "localization" and value.value.startswith("LOCALIZED")
            for value in localizing.ears.diagnostics["vpr: place recognition"].values
        ),
        what=str(status),
    )


def test_initialpose_where_it_is_configured_and_after_the_robot_was_carried(mapped: dict[str, object]) -> None:
    with NodeUnderTest(mapped | {"relocalization.initialpose": True}) as node:
        heard = Listener(node)
        drive(node, range(5), 2000)
        wait_until(lambda: len(heard.initialposes) == 1, what=node.text)
        carried = np.linalg.inv(at(10.0))  # what odometry did not see
        drive(node, range(7, 12), 2000, carried)
        wait_until(lambda: len(heard.initialposes) == 2, what=node.text)
        np.testing.assert_allclose(pose_from_msg(heard.initialposes[-1].pose.pose), at(18.0), atol=0.05)
        assert "10.0 m from where odometry has the robot" in node.text


def test_relocalize_waits_until_the_robot_is_found(localizing: NodeUnderTest) -> None:
    """While images come, from another thread of this process."""
    ears, heard = localizing.ears, Listener(localizing)
    drive(localizing, range(4), 2000)
    client = ears.create_client(Relocalize, "/vpr/relocalize")
    assert client.wait_for_service(timeout_sec=60)
    asked = client.call_async(Relocalize.Request(timeout_s=500.0, publish_initialpose=True))
    wait_until(lambda: heard.states[-1].state == Localization.UNKNOWN, what=localizing.text)
    assert not asked.done()
    drive(localizing, range(5, 8), 2000)
    answer = wait_until(asked.done) and asked.result()
    assert answer.success, answer.message
    assert answer.localization.state == Localization.LOCALIZED
    np.testing.assert_allclose(pose_from_msg(answer.localization.map_from_body.pose), at(14.0), atol=0.05)
    wait_until(lambda: len(heard.initialposes) == 1, what=localizing.text)


def test_relocalize_that_finds_nothing(localizing: NodeUnderTest) -> None:
    call = localizing.ears.call
    begun = call(Relocalize, "/vpr/relocalize")
    assert begun.success
    assert "the search has begun" in begun.message
    late = call(Relocalize, "/vpr/relocalize", timeout_s=0.1)
    assert not late.success
    assert late.message == "not found within 0.1 s: no match yet"
    for timeout_s in (-1.0, float("nan"), float("inf"), 1e9):
        assert "must be in [0, 600] s" in call(Relocalize, "/vpr/relocalize", timeout_s=timeout_s).message


def test_relocalize_in_a_map_of_this_drive_alone(node: NodeUnderTest) -> None:
    drive(node, range(3), 100)
    answer = node.ears.call(Relocalize, "/vpr/relocalize", timeout_s=100.0)
    assert not answer.success
    assert "no keyframes of an earlier drive" in answer.message


def test_a_node_that_ends_answers_who_waits(localizing: NodeUnderTest) -> None:
    client = localizing.ears.create_client(Relocalize, "/vpr/relocalize")
    assert client.wait_for_service(timeout_sec=60)
    asked = client.call_async(Relocalize.Request(timeout_s=600.0))
    heard = Listener(localizing)
    wait_until(lambda: heard.states, what=localizing.text)
    localizing.process.terminate()
    assert localizing.process.wait(timeout=200) == 0, localizing.text
    if asked.done():
        assert not asked.result().success


def test_the_best_places_of_an_image(localizing: NodeUnderTest) -> None:
    """Raw or compressed, with the calibration of the request or that of the camera, and nothing is changed."""
    call = localizing.ears.call
    for fields in (
        {"image": image_msg(view(7), 0)},
        {"compressed": compressed_msg(view(7), 0), "camera_info": camera_info_msg(CAMERA), "max_places": 3},
    ):
        answer = call(QueryPlaces, "/vpr/query", **fields)
        assert answer.success, answer.message
        assert len(answer.places) == fields.get("max_places", 5)
        best = answer.places[0]
        assert best.is_verified
        assert not any(place.is_verified for place in answer.places[1:])
        assert best.keyframe.stamp.sec == 1007
        assert best.inliers >= 30
        np.testing.assert_allclose(pose_from_msg(best.map_from_body.pose), at(14.0), atol=0.05)
        similarities = [place.similarity for place in answer.places[1:]]
        assert similarities == sorted(similarities, reverse=True)
    assert not localizing.ears.matches


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "the request has no image"),
        ({"compressed": compressed_msg(view(0), 0, "jpg"), "camera": "rear"}, "there is no camera 'rear'"),
        ({"image": image_msg(view(0)[:10], 0)}, ""),
    ],
)
def test_queries_that_cannot_be_answered(localizing: NodeUnderTest, fields: dict[str, Any], text: str) -> None:
    if "image" in fields:
        fields["image"].height = 4000
    answer = localizing.ears.call(QueryPlaces, "/vpr/query", **fields)
    assert not answer.success
    assert text in answer.message
    assert answer.message
    assert not answer.places


def test_an_empty_map_has_no_places(node: NodeUnderTest) -> None:
    answer = node.ears.call(QueryPlaces, "/vpr/query", image=image_msg(view(0), 0))
    assert not answer.success
    assert answer.message == "the map holds no keyframes yet"


def test_a_node_that_is_not_active_says_so(parameters: dict[str, object]) -> None:
    with NodeUnderTest(parameters | {"node.autostart": False}) as node:
        for kind, service in ((QueryPlaces, "query"), (Relocalize, "relocalize")):
            answer = node.ears.call(kind, f"/vpr/{service}")
            assert not answer.success
            assert answer.message == "the node is not active: activate it first"
