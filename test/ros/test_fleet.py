"""Robots as processes of their own, which exchange keyframes over DDS."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from harness import Ears, NodeUnderTest, camera_info_msg, wait_until
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo
from small_fleets import a_keyframe
from small_worlds import texture
from std_srvs.srv import Trigger
from vpr_msgs.msg import KeyframeBatch, KeyframeOffer, KeyframePicture

from vpr_ros.fleet.protocol import NOTHING, Batch, Offer, Picture
from vpr_ros.map.place_map import PlaceMap
from vpr_ros.model import PlaceModel
from vpr_ros.ros.fleet import QOS
from vpr_ros.ros.fleet_messages import batch_msg, offer_msg, picture_msg
from vpr_ros.ros.messages import pose_from_msg
from vpr_ros.types import Camera, KeyframeRef, Thumbnail

S = 10**9
CAMERA = Camera(300.0, 300.0, 159.5, 119.5, 320, 240)
TURN = Rotation.from_euler("y", 3.0, degrees=True).as_matrix()
"""match_from_query of a query camera that looks further to the right (y is down)."""
SEATS = {"r1": "0.3 0 1.2 -0.5 0.5 -0.5 0.5", "r2": "0.1 0 0.4 -0.5 0.5 -0.5 0.5", "r3": "0.2 0 0.7 -0.5 0.5 -0.5 0.5"}


def view(place: int, is_turned: bool = False) -> np.ndarray:
    """Of a far wall, so that a turned camera sees it through a homography and nothing else."""
    wall = texture(place, 480, 360)
    to_view = np.array([[1.0, 0.0, -80.0], [0.0, 1.0, -60.0], [0.0, 0.0, 1.0]])
    if is_turned:  # x_query = K R^-1 K^-1 x_match
        to_view = CAMERA.matrix @ TURN.T @ np.linalg.inv(CAMERA.matrix) @ to_view
    return cv2.warpPerspective(wall, to_view, (320, 240), flags=cv2.INTER_CUBIC)


def robot(name: str, parameters: dict[str, object], **changes: object) -> NodeUnderTest:
    own = {
        "node.robot": name,
        "node.map": name,
        "fleet.namespace": "/vpr_fleet",
        "odometry.body_from_camera": SEATS[name],
    }
    return NodeUnderTest(parameters | own | changes, namespace=f"/{name}")


def calibrate(ears: Ears, name: str) -> None:
    ears.outlet(CameraInfo, f"/{name}/camera_info").publish(camera_info_msg(CAMERA))


def drive(ears: Ears, places: range, start_s: int) -> None:
    for i, place in enumerate(places):
        ears.send_and_wait(view(place), (start_s + i) * S)


def wait_for_keyframes(nodes: dict[str, NodeUnderTest], count: int) -> None:
    for name, node in nodes.items():
        wait_until(
            lambda node=node: node.ears.value_of("place recognition", "keyframes") == str(count),
            timeout_s=300,
            what=f"{count} keyframes on {name}: {node.ears.value_of('place recognition', 'keyframes')}\n{node.text}",
        )


def test_three_robots_one_of_them_killed_and_one_late(
    parameters: dict[str, object], tmp_path: Path, grid_model_path: Path
) -> None:
    with ExitStack() as stack:
        nodes = {name: stack.enter_context(robot(name, parameters)) for name in ("r1", "r2")}
        one, two = nodes["r1"].ears, nodes["r2"].ears
        for name, node in nodes.items():
            calibrate(node.ears, name)
        drive(one, range(5), 100)
        drive(two, range(10, 13), 5000)
        wait_until(lambda: (len(one.keyframes), len(two.keyframes)) == (5, 3))
        wait_for_keyframes(nodes, 8)

        # the other one's place: first without a picture to verify it with, which comes on demand
        stamps = iter(range(5010 * S, 5013 * S, S // 20))
        first = two.send_and_wait(view(2, is_turned=True), next(stamps))
        assert (first.match.robot, first.status.name) == ("r1", "GEOMETRY")
        wait_until(lambda: two.send_and_wait(view(2, is_turned=True), next(stamps)).accepted, what=nodes["r2"].text)
        closure = wait_until(lambda: two.loop_closures)[0]
        expected = next(keyframe for keyframe in one.keyframes if keyframe.header.stamp.sec == 102)
        assert closure.match == expected.ref
        assert (closure.match.robot, closure.query.robot) == ("r1", "r2")
        assert closure.query.session == two.matches[-1].session != closure.match.session
        assert closure.has_pose
        turned = pose_from_msg(closure.match_from_query.pose)[:3, :3] @ TURN.T
        assert np.degrees(np.arccos((np.trace(turned) - 1) / 2)) < 0.5
        assert closure.has_extrinsics
        heights = closure.match_body_from_camera.position.z, closure.query_body_from_camera.position.z
        assert heights == pytest.approx((1.2, 0.4))

        # killed, and what it made comes to the third one all the same
        nodes["r1"].process.send_signal(signal.SIGKILL)
        nodes["r1"].process.wait(timeout=120)
        made_by_one = {(ref.session, ref.id) for ref in (keyframe.ref for keyframe in one.keyframes)}
        nodes["r3"] = stack.enter_context(robot("r3", parameters))
        calibrate(nodes["r3"].ears, "r3")
        wait_for_keyframes({"r3": nodes["r3"]}, 5 + len(two.keyframes))

        # back on its map, all go on, and the third one closes a loop with what a dead robot's peer passed on
        nodes["r1"] = stack.enter_context(robot("r1", parameters))
        wait_until(lambda: nodes["r1"].ears.status_of("fleet"), what=nodes["r1"].text)
        wait_until(lambda: two.count_subscribers("/r1/image") == 1)  # DDS remembers the dead process for a while
        calibrate(nodes["r1"].ears, "r1")
        drive(nodes["r1"].ears, range(20, 23), 9000)
        drive(nodes["r3"].ears, range(30, 32), 9500)
        wait_until(lambda: len(nodes["r1"].ears.keyframes) == 3)
        wait_until(lambda: len(nodes["r3"].ears.keyframes) == 2)
        total = 5 + 3 + len(two.keyframes) + 2
        wait_for_keyframes(nodes, total)
        stamps = iter(range(9510 * S, 9513 * S, S // 20))
        wait_until(lambda: nodes["r3"].ears.send_and_wait(view(21), next(stamps)).accepted, what=nodes["r3"].text)
        assert nodes["r3"].ears.loop_closures[-1].match.robot == "r1"
        wait_until(lambda: "0" not in (nodes["r1"].ears.status_of("fleet") or "0"))
        assert nodes["r1"].ears.status_of("fleet") == "2 other robots"
        assert "keyframes, none missing; heard" in (nodes["r2"].ears.value_of("fleet", "r1") or "")
        total += len(nodes["r3"].ears.keyframes) - 2
        wait_until(lambda: len(nodes["r3"].ears.keyframes) == len(nodes["r3"].ears.matches))
        total = 5 + 3 + len(two.keyframes) + len(nodes["r3"].ears.keyframes)
        wait_for_keyframes(nodes, total)
        for name, node in nodes.items():
            assert {keyframe.ref.robot for keyframe in node.ears.keyframes} == {name}
            assert "have no picture" not in node.text
            assert "ignored" not in node.text
    model = PlaceModel.open(grid_model_path)
    maps = [PlaceMap.open(tmp_path / "maps" / f"{name}.vprmap", model.id, model.dim, recording=False) for name in nodes]
    names = [{(ref.robot, ref.session, ref.id) for ref in place_map.names} for place_map in maps]
    assert names[0] == names[1] == names[2]
    assert [len(place_map) for place_map in maps] == [total] * 3
    assert made_by_one <= {(session, id) for _, session, id in names[2]}


def test_a_place_that_two_robots_saw_is_one_place_for_a_third(parameters: dict[str, object]) -> None:
    """The second robot's closures travel with its keyframes; else the two views of one place would make it ambiguous."""
    parameters = parameters | {"verification.enabled": False}
    with ExitStack() as stack:
        nodes = {name: stack.enter_context(robot(name, parameters)) for name in ("r1", "r2", "r3")}
        drive(nodes["r1"].ears, range(4), 100)
        wait_for_keyframes(nodes, 4)
        drive(nodes["r2"].ears, range(4), 5000)
        assert [match.match.robot for match in nodes["r2"].ears.matches if match.accepted] == ["r1"] * 4
        wait_for_keyframes(nodes, 8)
        third = nodes["r3"].ears.send_and_wait(view(1), 9000 * S)
        best = {candidate.keyframe.robot for candidate in third.candidates if candidate.similarity > 0.99}
        assert (best, third.status.name) == ({"r1", "r2"}, "ACCEPTED")
        back = nodes["r1"].ears.send_and_wait(view(2), 120 * S)
        assert back.status.name == "ACCEPTED"


class Stranger:
    """A peer in this process: publishes what a test likes."""

    def __init__(self, ears: Ears) -> None:
        self._ears = ears

    def send(self, kind: type, topic: str, message: Any) -> None:
        self._ears.outlet(kind, f"/vpr_fleet/{topic}", QOS).publish(message)


def test_bad_messages_change_nothing_and_are_said_once(parameters: dict[str, object], grid_model: PlaceModel) -> None:
    with robot("r1", parameters) as node:
        stranger = Stranger(node.ears)
        keyframes = tuple(a_keyframe("r9", "s", id, grid_model.dim) for id in range(3))
        good = Batch("r9", grid_model.id, ("r9", "s"), NOTHING, 2, keyframes)
        for _ in range(3):
            bad = batch_msg(good)
            bad.keyframes[1].descriptor[5] = 0x7E00  # not a number
            stranger.send(KeyframeBatch, "keyframes", bad)
            bad = batch_msg(good)
            bad.keyframes[2].camera = 99
            stranger.send(KeyframeBatch, "keyframes", bad)
            offer = offer_msg(Offer("r9", grid_model.id, ((("r9", "s"), 2),)))
            offer.sessions = []
            stranger.send(KeyframeOffer, "offers", offer)
            picture = Picture("r9", KeyframeRef("r9", "s", 1), Thumbnail(b"no jpeg", 0.5))
            stranger.send(KeyframePicture, "pictures", picture_msg(picture))
        wait_until(lambda: "is ignored" in node.text, what=node.text)
        stranger.send(KeyframeBatch, "keyframes", batch_msg(good))
        wait_for_keyframes({"r1": node}, 3)
        drive(node.ears, range(2), 100)
        wait_for_keyframes({"r1": node}, 5)
        wait_until(lambda: len(node.ears.keyframes) == 2)
        stranger.send(KeyframeOffer, "offers", offer_msg(Offer("r8", "another model", ())))
        wait_until(lambda: "another model" in node.ears.status_of("fleet"), what=node.ears.status_of("fleet"))
        wait_until(lambda: node.text.count("r8 describes images with another model") == 1)
        session = node.ears.keyframes[0].ref.session
        stranger.send(
            KeyframeOffer, "offers", offer_msg(Offer("r1", grid_model.id, ((("r1", session + " of a twin"), 2),)))
        )
        wait_until(lambda: "is called 'r1', too" in node.ears.status_of("fleet"), what=node.ears.status_of("fleet"))


def test_another_map_is_filled_again_and_a_fleet_needs_names(
    parameters: dict[str, object], grid_model: PlaceModel
) -> None:
    with robot("r1", parameters) as one, robot("r2", parameters) as two:
        drive(one.ears, range(4), 100)
        wait_for_keyframes({"r2": two}, 4)
        assert two.ears.call(Trigger, "/r2/vpr/reset").success
        wait_for_keyframes({"r2": two}, 4)
        refused = two.ears.set_parameter("fleet.namespace", "/another")
        assert not refused.successful
        assert "deactivate and clean up first" in refused.reason
    with NodeUnderTest(parameters | {"fleet.namespace": "/vpr_fleet"}) as node:
        assert node.process.wait(timeout=200) == 1
        assert "fleet.namespace needs node.robot" in node.text
