"""The node as a robot runs it: in its own process, fed over DDS."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cv_bridges import ABORTS, install
from geometry_msgs.msg import TransformStamped
from harness import NodeUnderTest, camera_info_msg, image_msg, lines_with, wait_until
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from masked_models import save_masked_grid_model
from nav_msgs.msg import Odometry
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from small_worlds import texture
from std_msgs.msg import Header
from std_srvs.srv import SetBool, Trigger
from visualization_msgs.msg import MarkerArray
from vpr_msgs.msg import KeyframeRef
from vpr_msgs.srv import LoadMap, SaveMap

from vpr_ros.bags.writer import BagWriter
from vpr_ros.config import Config
from vpr_ros.images import decode_compressed
from vpr_ros.replay import replay
from vpr_ros.ros.messages import time_msg
from vpr_ros.sources import BagSource
from vpr_ros.types import Camera, PlaceMatch

S = 10**9
CAMERA = Camera(300.0, 300.0, 160.0, 120.0, 320, 240)


def view(place: int, shift: int = 0) -> np.ndarray:
    return np.ascontiguousarray(texture(place, 360, 240)[:, shift : shift + 320])


@pytest.mark.parametrize("kind", ["raw", "compressed"])
def test_a_camera_process_and_the_node_process(parameters: dict[str, object], kind: str) -> None:
    """640x480 best effort between two processes: what Fast DDS loses without config/fastdds.xml."""
    places = [0, 1, 2, 3, 4, 0, 1, 2]
    with NodeUnderTest(parameters | {"node.image_transport": kind}) as node:
        script = Path(__file__).with_name("publisher.py")
        arguments = [sys.executable, str(script), ",".join(map(str, places)), kind]
        tests = Path(__file__).resolve().parents[1]
        path = [str(tests / "support"), str(tests / "ros"), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path)}
        assert subprocess.run(arguments, timeout=600, check=False, env=environment).returncode == 0
        wait_until(lambda: len(node.ears.matches) == len(places), what=f"answers: {node.ears.matches}")
        accepted = [m for m in node.ears.matches if m.accepted]
        assert len(accepted) == 3
        for match in accepted:
            assert match.stamp_ns - match.match.stamp_ns == 5 * S
        assert [m.stamp_ns % S for m in node.ears.matches] == [0] * len(node.ears.matches)
        wait_until(lambda: len(node.ears.loop_closures) == len(accepted))
        assert node.ears.loop_closures[0].header.stamp == node.ears.loop_closures[0].query.stamp
        assert node.ears.loop_closures[0].header.frame_id == "camera"


def test_a_bag_replayed_and_the_same_bag_through_the_node_agree_match_for_match(
    node: NodeUnderTest, parameters: dict[str, object], tmp_path: Path
) -> None:
    places = [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (0, 9), (1, 14), (77, 0), (2, 4), (3, 0), (3, 2), (0, 3)]
    with BagWriter(tmp_path / "bag") as bag:
        for i, (place, shift) in enumerate(places):
            bag.camera_info("/camera_info", (50 + i) * S, CAMERA)
            bag.image("/image", (50 + i) * S, view(place, shift), "camera")
    config = Config().with_values({k: v for k, v in parameters.items() if not k.startswith("node.")})
    expected = replay(BagSource(tmp_path / "bag"), config).matches
    info = node.ears.outlet(CameraInfo, "/camera_info")
    found = []
    for frame in BagSource(tmp_path / "bag"):
        if not found:  # the first image must not overtake the calibration
            info.publish(camera_info_msg(CAMERA))
            wait_until(lambda: node.ears.status_of("stream"))
        found.append(node.ears.send_and_wait(frame.image, frame.stamp_ns))
    assert sum(m.accepted for m in expected) >= 5
    assert {m.status.name for m in expected} > {"ACCEPTED", "RECENT", "NO_MAP"}
    for a, b in zip(expected, found, strict=True):
        assert _plain(a) == _plain(b)
        if a.verification is not None and a.verification.match_from_query is not None:
            assert b.verification is not None
            np.testing.assert_allclose(b.verification.match_from_query, a.verification.match_from_query, atol=1e-9)
            np.testing.assert_allclose(b.verification.covariance, a.verification.covariance)


def _plain(match: PlaceMatch) -> tuple[object, ...]:
    geometry = match.verification and (match.verification.inliers, round(match.verification.inlier_ratio, 5))
    similarity = None if match.similarity is None else round(match.similarity, 5)
    candidates = [(c.keyframe.id, round(c.similarity, 5)) for c in match.candidates]
    return (match.stamp_ns, match.status, match.keyframe_id, match.match and (match.match.id, match.match.stamp_ns, match.match.frame_id), similarity,
            match.consistent_count, geometry or None, candidates, match.frame_id)  # fmt: skip


def test_unreadable_images_are_counted_and_the_node_answers_on(node: NodeUnderTest) -> None:
    node.ears.send_and_wait(view(0), 10 * S)
    outlet = node.ears.outlet(Image, "/image")
    empty = image_msg(view(0), 11 * S)
    empty.height = empty.width = empty.step = 0
    empty.data = b""
    foreign = image_msg(view(0), 12 * S)
    foreign.encoding = "rgb7"
    short = image_msg(view(0), 13 * S)
    short.data = short.data[:1000]
    for i, bad in enumerate((empty, foreign, short)):
        outlet.publish(bad)
        wait_until(lambda i=i: _value(node, "skipped") == str(i + 1), what=node.text)
        assert ("0 x 0", "rgb7", "too few|bytes")[i].split("|")[-1] in (_value(node, "last skipped") or "")
    late = image_msg(view(1), 9 * S + S // 2)
    outlet.publish(late)
    wait_until(lambda: _value(node, "skipped") == "4", what="the late frame")
    assert node.ears.send_and_wait(view(1), 12 * S).status.name == "RECENT"


def _value(node: NodeUnderTest, key: str, name: str = "vpr: stream") -> str | None:
    status = node.ears.diagnostics.get(name)
    return next((v.value for v in status.values if v.key.startswith(key)), None) if status else None


def _engine(node: NodeUnderTest, key: str = "engine") -> str | None:
    status = node.ears.diagnostics.get("vpr: place recognition")
    return next((v.value for v in status.values if v.key == key), None) if status else None


def test_the_engine_takes_over_while_the_node_answers(parameters: dict[str, object], tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="another engine than the reference")
    changes = {"engine.backend": "openvino", "engine.cache": str(tmp_path / "engines")}
    with NodeUnderTest(parameters | changes) as node:
        answers = [node.ears.send_and_wait(view(i), (10 + i) * S) for i in range(4)]  # it does not wait for a compiler
        wait_until(lambda: _engine(node) == "openvino fp32", what=node.text)
        assert "building openvino fp32: there is none yet" in node.text
        assert "engine openvino fp32 describes from now on" in node.text
        assert _engine(node, "engine fault") == "none"
        again = node.ears.send_and_wait(view(1), 20 * S)
        assert (again.accepted, again.match.id) == (True, answers[1].keyframe_id)
    with NodeUnderTest(parameters | changes) as node:
        wait_until(lambda: _engine(node) == "openvino fp32", what=node.text)
        assert "building" not in node.text


def test_an_engine_that_cannot_run_here_is_said_and_the_node_answers(
    parameters: dict[str, object], tmp_path: Path
) -> None:
    pytest.importorskip("openvino")
    changes = {"engine.backend": "openvino_gpu", "engine.cache": str(tmp_path / "engines")}
    with NodeUnderTest(parameters | changes) as node:
        wait_until(lambda: "openvino_gpu cannot run here" in node.ears.status_of("place recognition"), what=node.text)
        assert node.text.count("going on with onnxruntime") == 1
        assert _engine(node) == "onnxruntime"
        node.ears.send_and_wait(view(0), 10 * S)


def test_silence_and_a_qos_that_cannot_match_become_diagnostics(parameters: dict[str, object]) -> None:
    changes = {"node.no_data_s": 1.0, "qos_overrides./front/image.subscription.reliability": "reliable"}
    with NodeUnderTest(parameters | changes, {"image": "/front/image"}) as node:
        wait_until(lambda: "no image on /front/image" in node.ears.status_of("stream"))
        assert "nobody publishes it" in node.ears.status_of("stream")
        assert node.ears.diagnostics["vpr: stream"].level == b"\x02"
        best_effort = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        node.ears.outlet(Image, "/front/image", best_effort, wait=False)
        wait_until(lambda: "incompatible QoS" in node.ears.status_of("stream"), what=node.text)


def test_maps_are_saved_loaded_reset_and_never_leave_their_folder(node: NodeUnderTest, tmp_path: Path) -> None:
    ears = node.ears
    for i in range(3):
        ears.send_and_wait(view(i), (100 + i) * S)
    assert ears.call(SaveMap, "/vpr/save_map", name="town").success
    assert [p.name for p in (tmp_path / "maps").iterdir()] == ["town.vprmap"]
    for name in ("../town", "/etc/town", "a/b", "", "..", ".hidden"):
        for kind, service in ((SaveMap, "/vpr/save_map"), (LoadMap, "/vpr/load_map")):
            refused = ears.call(kind, service, name=name)
            assert not refused.success
            assert "no map name" in refused.message
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["maps", "town.vprmap"]
    assert ears.call(Trigger, "/vpr/reset").message == "forgot 3 keyframes"
    assert ears.send_and_wait(view(0), 200 * S).status.name == "NO_MAP"
    missing = ears.call(LoadMap, "/vpr/load_map", name="village")
    assert not missing.success
    assert "there is no map" in missing.message
    (tmp_path / "maps" / "bad.vprmap").write_bytes(b"not a map")
    assert "corrupt" in ears.call(LoadMap, "/vpr/load_map", name="bad").message
    assert ears.call(LoadMap, "/vpr/load_map", name="town").success
    known = ears.send_and_wait(view(1), 201 * S)  # a map of another session is never too recent
    assert known.accepted
    assert known.match.stamp_ns == 101 * S


def test_parameters_are_checked_and_take_effect(node: NodeUnderTest, parameters: dict[str, object]) -> None:
    ears = node.ears
    for i in range(5):
        ears.send_and_wait(view(i), (100 + i) * S)
    for name, value, reason in (
        ("match.top_k", 0, "match.top_k"),
        ("verification.features", "surf", "must be one of sift, orb"),
        ("consistency.min_hits", 5, "must not be larger than consistency.window"),
        ("model.path", "/other.onnx", "read when the node is configured"),
    ):
        result = ears.set_parameter(name, value)
        assert not result.successful
        assert reason in result.reason
    assert ears.set_parameter("exclusion.time_s", 1000.0).successful
    assert ears.send_and_wait(view(0), 105 * S).status.name == "RECENT"
    assert ears.set_parameter("exclusion.time_s", 3.0).successful
    assert ears.send_and_wait(view(0), 106 * S).accepted


def test_lifecycle_goes_round_and_disabling_pauses(node: NodeUnderTest) -> None:
    ears = node.ears
    ears.send_and_wait(view(0), 100 * S)

    def change(transition: int) -> bool:
        return ears.call(ChangeState, "/vpr/change_state", transition=Transition(id=transition)).success

    assert ears.call(SetBool, "/vpr/set_enabled", data=False).success
    ears.send(view(1), 101 * S)
    wait_until(lambda: ears.status_of("stream"))
    assert ears.call(SetBool, "/vpr/set_enabled", data=True).success
    assert ears.send_and_wait(view(1), 102 * S).status.name == "RECENT"
    assert [m.stamp_ns // S for m in ears.matches] == [100, 102]
    for transition in (
        Transition.TRANSITION_DEACTIVATE,
        Transition.TRANSITION_ACTIVATE,
        Transition.TRANSITION_DEACTIVATE,
        Transition.TRANSITION_CLEANUP,
        Transition.TRANSITION_CONFIGURE,
        Transition.TRANSITION_ACTIVATE,
    ):
        assert change(transition), transition
    outlet = ears.outlet(Image, "/image")
    wait_until(lambda: outlet.get_subscription_count() > 0)
    assert ears.send_and_wait(view(0), 103 * S).status.name == "NO_MAP"  # cleanup forgot the map


def lap(node: NodeUnderTest, start_s: int, info: CameraInfo, topic: str = "/image") -> list[Any]:
    """Five places, then three of them again: the raw answers to those."""
    infos, images = node.ears.outlet(CameraInfo, "/camera_info"), node.ears.outlet(Image, topic)
    for i, (place, shift) in enumerate([(0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (0, 9), (1, 9), (2, 9)]):
        infos.publish(info)
        time.sleep(0.05)
        images.publish(image_msg(view(start_s + place, shift), (start_s + i) * S))
        node.ears.wait_for((start_s + i) * S)
    return node.ears.raw[-3:]


def test_a_calibration_of_another_size_gives_no_pose_and_is_said_until_it_is_right(node: NodeUnderTest) -> None:
    ears = node.ears
    wrong = lap(node, 100, camera_info_msg(Camera(500.0, 500.0, 320.0, 180.0, 640, 360)))
    assert [(m.status, m.has_pose) for m in wrong] == [(0, False)] * 3
    sizes = "camera_info is for 640 x 360 px, images are 320 x 240 px"
    wait_until(lambda: sizes in ears.status_of("stream"), what=node.text)
    status = ears.diagnostics["vpr: stream"]
    assert status.level == b"\x01"
    assert status.message.startswith("receiving; closures come without a relative pose: ")
    assert node.text.count(sizes) == 1, "not for every image"
    right = lap(node, 110, camera_info_msg(CAMERA))
    assert [(m.status, m.has_pose) for m in right] == [(0, True)] * 3
    wait_until(lambda: ears.status_of("stream") == "receiving")
    assert node.text.count("camera_info changed from 640 x 360 px") == 1


def test_a_calibration_of_twice_the_size_is_halved_and_said(node: NodeUnderTest) -> None:
    double = Camera(600.0, 600.0, 320.5, 240.5, 640, 480)
    answers = lap(node, 100, camera_info_msg(double))
    assert [(m.status, m.has_pose) for m in answers] == [(0, True)] * 3
    assert node.text.count("scaled by 1/2") == 1
    wait_until(lambda: node.ears.status_of("stream") == "receiving")
    assert "scaled by 1/2" in (_value(node, "calibration") or "")


def test_a_rectified_image_has_p(parameters: dict[str, object]) -> None:
    """K is nonsense, so a pose can come of P only."""
    info = camera_info_msg(Camera(1.0, 1.0, 0.0, 0.0, 320, 240))
    with NodeUnderTest(parameters, {"image": "/cam/image_rect"}) as node:
        assert [(m.status, m.has_pose) for m in lap(node, 100, info, "/cam/image_rect")] == [(0, False)] * 3
        info.p = np.hstack([CAMERA.matrix, np.zeros((3, 1))]).ravel()
        assert [(m.status, m.has_pose) for m in lap(node, 110, info, "/cam/image_rect")] == [(0, True)] * 3


def test_overriding_the_qos_of_the_images_leaves_that_of_camera_info(parameters: dict[str, object]) -> None:
    with NodeUnderTest(parameters | {"qos_overrides./image.subscription.reliability": "reliable"}) as node:

        def qos(topic: str) -> QoSProfile:
            found = wait_until(lambda: node.ears.get_subscriptions_info_by_topic(topic), what=topic)
            (endpoint,) = [each for each in found if each.node_name == "vpr"]
            return endpoint.qos_profile

        assert qos("/image").reliability == ReliabilityPolicy.RELIABLE
        assert qos("/camera_info").reliability == ReliabilityPolicy.BEST_EFFORT


def test_a_query_that_is_no_keyframe_has_no_id_in_a_closure(parameters: dict[str, object]) -> None:
    with NodeUnderTest(parameters | {"keyframe.max_similarity": 0.9}) as node:
        ears = node.ears
        for i, (place, shift) in enumerate([(0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (0, 9), (0, 10), (0, 11)]):
            ears.send_and_wait(view(place, shift), (100 + i) * S)
        wait_until(lambda: len(ears.loop_closures) == 3)
        assert {closure.query_is_keyframe for closure in ears.loop_closures} == {True, False}
        ids = {keyframe.ref.id for keyframe in ears.keyframes}
        for closure in ears.loop_closures:
            assert (closure.query.id in ids) == closure.query_is_keyframe
            assert (closure.query.id == KeyframeRef.NO_ID) == (not closure.query_is_keyframe)
            assert closure.match.id in ids


def test_sixteen_bit_images_of_ten_bits_are_said_once(node: NodeUnderTest) -> None:
    outlet = node.ears.outlet(Image, "/image")
    for i in range(3):
        message = image_msg(view(i), (100 + i) * S)
        counts = np.rint(view(i)[..., 0] * (1023 / 255)).astype(">u2")
        message.encoding, message.step, message.is_bigendian, message.data = "mono16", 640, 1, counts.tobytes()
        outlet.publish(message)
        node.ears.wait_for((100 + i) * S)
    said = "the 16-bit images hold 10 bits"
    wait_until(lambda: said in (_value(node, "16-bit images") or ""), what=node.text)
    assert node.text.count(said) == 1


def test_a_map_that_can_never_match_is_said_wherever_it_begins_to_count(
    parameters: dict[str, object], tmp_path: Path
) -> None:
    blind = {"verification.enabled": False}
    said = "all 3 keyframes of the map have no picture to verify with"
    with NodeUnderTest(parameters | blind) as node:
        for i in range(3):
            node.ears.send_and_wait(view(i), (100 + i) * S)
        assert node.ears.call(SaveMap, "/vpr/save_map", name="blind").success
        assert said not in node.ears.call(LoadMap, "/vpr/load_map", name="blind").message
        assert node.ears.set_parameter("verification.enabled", True).successful
        wait_until(lambda: said in node.ears.status_of("place recognition"), what=node.text)
        assert node.ears.diagnostics["vpr: place recognition"].level == b"\x01"
        assert said in node.ears.call(LoadMap, "/vpr/load_map", name="blind").message
        assert node.text.count(said) == 1
        assert node.ears.set_parameter("verification.enabled", False).successful
        wait_until(lambda: said not in node.ears.status_of("place recognition"))
    with NodeUnderTest(parameters | {"node.map": "blind"}) as node:
        wait_until(lambda: said in node.ears.status_of("place recognition"), what=node.text)
        assert node.text.count(said) == 1
        assert node.ears.call(Trigger, "/vpr/reset").success
        wait_until(lambda: said not in node.ears.status_of("place recognition"))


def test_a_map_without_intrinsics_is_said_once_the_camera_is_calibrated(parameters: dict[str, object]) -> None:
    with NodeUnderTest(parameters) as node:
        for i in range(3):
            node.ears.send_and_wait(view(i), (100 + i) * S)
        assert node.ears.call(SaveMap, "/vpr/save_map", name="bare").success
    with NodeUnderTest(parameters | {"node.map": "bare"}) as node:
        said = "3 of the map's 4 keyframes have no intrinsics"
        node.ears.send_and_wait(view(9), 200 * S)
        assert said not in node.text
        node.ears.outlet(CameraInfo, "/camera_info").publish(camera_info_msg(CAMERA))
        time.sleep(0.1)
        node.ears.send_and_wait(view(8), 201 * S)
        wait_until(lambda: said in node.ears.status_of("place recognition"), what=node.text)
        assert node.text.count(said) == 1


def test_odometry_reaches_the_detector_and_the_markers(node: NodeUnderTest) -> None:
    ears = node.ears
    drawn: list[MarkerArray] = []
    ears.create_subscription(MarkerArray, "/vpr/markers", drawn.append, 10)
    odom = ears.outlet(Odometry, "/odom")
    for i in range(6):
        message = Odometry()
        message.header.stamp = time_msg((100 + i) * S)
        message.header.frame_id = "odom"
        message.pose.pose.position.x = 100.0 * i
        message.pose.pose.orientation.w = 1.0
        odom.publish(message)
        time.sleep(0.02)
    broken = Odometry()
    broken.header.stamp = time_msg(104 * S)
    broken.pose.pose.orientation.w = 0.0
    odom.publish(broken)
    wait_until(lambda: "odometry is not used" in node.text, what="the broken quaternion")
    for i in range(5):
        ears.send_and_wait(view(i), (100 + i) * S)
    far = ears.send_and_wait(view(0), 105 * S)
    assert far.status.name == "ODOMETRY"
    dots, lines = wait_until(lambda: drawn and len(drawn[-1].markers[0].points) == 6 and drawn[-1].markers)
    assert [p.x for p in dots.points] == [100.0 * i for i in range(6)]
    assert (dots.header.frame_id, len(lines.points)) == ("odom", 0)


def test_attention_is_shown_while_somebody_watches(parameters: dict[str, object], tmp_path: Path) -> None:
    image = np.zeros((240, 320, 3), np.uint8)
    image[:, :160] = 255  # the mask of the model is brightness: it ignores the right half
    model = save_masked_grid_model(tmp_path / "masked.onnx")
    with NodeUnderTest(parameters | {"model.path": str(model)}) as node:
        ears = node.ears
        wait_until(lambda: ears.count_publishers("/vpr/attention/compressed"))
        ears.send_and_wait(image, 10 * S)
        wait_until(lambda: _latency_is_known(node, "describe"))
        assert not _latency_is_known(node, "attention")

        shown: list[CompressedImage] = []
        watching = ears.create_subscription(CompressedImage, "/vpr/attention/compressed", shown.append, 1)
        seconds = count(11)
        wait_until(lambda: ears.send_and_wait(image, next(seconds) * S) and shown, what="a picture")
        wait_until(lambda: _latency_is_known(node, "attention"))
        ears.destroy_subscription(watching)
    assert 10 < shown[0].header.stamp.sec < next(seconds)
    assert shown[0].header.frame_id == "camera"
    picture = decode_compressed(shown[0]).astype(int)
    assert picture.shape == image.shape
    assert np.abs(picture[:, :130] - 255).max() <= 3
    assert np.abs(picture[:, 190:] - (153, 0, 0)).max() <= 3


def test_a_model_without_a_mask_has_no_attention_topic(node: NodeUnderTest) -> None:
    assert node.ears.count_publishers("/vpr/markers") == 1
    assert node.ears.count_publishers("/vpr/attention/compressed") == 0


REAR = 1000
"""What the rear camera sees at a place is another texture than what the front camera sees."""


def test_a_rig_of_two_cameras(parameters: dict[str, object], tmp_path: Path) -> None:
    model = save_masked_grid_model(tmp_path / "masked.onnx")
    changes = {"model.path": str(model), "node.cameras": "front,rear", "node.no_data_s": 2.0}
    with NodeUnderTest(parameters | changes) as node:
        ears = node.ears
        shown: list[CompressedImage] = []
        ears.create_subscription(CompressedImage, "/vpr/attention/rear/compressed", shown.append, 10)
        for camera in ("front", "rear"):
            ears.outlet(Image, f"/{camera}/image")
        info = ears.outlet(CameraInfo, "/front/camera_info")  # the rear camera is not calibrated
        for i, place in enumerate([0, 1, 2, 3, 4, 0, 1]):
            info.publish(camera_info_msg(CAMERA))
            shift = 9 if i >= 5 else 0
            ears.send(view(place, shift), (100 + i) * S, "front")
            ears.send(view(REAR + place, shift), (100 + i) * S + (i % 3 - 1) * S // 10, "rear")
            ears.wait_for((100 + i) * S, "front")
            ears.wait_for((100 + i) * S + (i % 3 - 1) * S // 10, "rear")
        wait_until(lambda: len(ears.loop_closures) == 4, what=f"closures: {ears.matches}")
        for match in [m for m in ears.matches if m.accepted]:
            assert match.match is not None
            assert match.camera_name == match.match.camera_name
            assert match.match.stamp_ns is not None
            assert round((match.stamp_ns - match.match.stamp_ns) / S) == 5
        for closure in ears.loop_closures:
            assert closure.query.camera == closure.match.camera == closure.header.frame_id
        with_pose = {closure.query.camera: closure.has_pose for closure in ears.loop_closures[-2:]}
        assert with_pose == {"front": True, "rear": False}
        wait_until(lambda: len(ears.keyframes) == 14)
        assert sorted(keyframe.ref.camera for keyframe in ears.keyframes) == ["front"] * 7 + ["rear"] * 7
        assert {message.query.session for message in ears.raw} == {ears.raw[0].query.session}
        assert "vpr: stream" not in ears.diagnostics
        wait_until(lambda: shown and _latency_is_known(node, "attention"))
        assert {picture.header.frame_id for picture in shown} == {"rear"}

        seconds = count(107)  # the rear camera falls silent, and the front camera is answered as before
        wait_until(
            lambda: (
                ears.send_and_wait(view(7), next(seconds) * S, "front")
                and "no image on /rear/image" in ears.status_of("stream rear")
                and ears.status_of("stream front") == "receiving"
            )
        )
        assert (_value(node, "received", "vpr: stream rear"), _value(node, "topic", "vpr: stream rear")) == (
            "7",
            "/rear/image",
        )
        ears.outlet(Image, "/rear/image").publish(image_msg(view(0)[:0], next(seconds) * S))
        wait_until(lambda: _value(node, "skipped", "vpr: stream rear") == "1", what=node.text)
        assert _value(node, "skipped", "vpr: stream front") == "0"


def _latency_is_known(node: NodeUnderTest, stage: str) -> bool:
    return _value(node, f"{stage} p50", "vpr: place recognition") is not None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.path": "/nowhere/model.onnx"}, "cannot read model /nowhere/model.onnx"),
        ({"model.path": __file__}, "corrupt or no ONNX model"),
        ({"node.map": "village", "map.mode": "localization"}, "there is no map"),
        ({"node.cameras": "front,2nd"}, "node.cameras: '2nd' is no name for a camera"),
        ({"match.top_k": "many"}, "match.top_k"),
        ({"match.top_k": 0}, "match.top_k"),
        ({"engine.backend": "abacus"}, "engine.backend must be one of auto, onnxruntime"),
    ],
)
def test_what_cannot_start_says_why_and_ends(
    parameters: dict[str, object], changes: dict[str, object], message: str
) -> None:
    with NodeUnderTest(parameters | changes) as node:
        assert node.process.wait(timeout=200) == 1
        wait_until(lambda: message in node.text, what=node.text)
        assert "Traceback" not in node.text


@pytest.mark.parametrize(
    ("fault", "choice", "by"),
    [
        ("", "auto", "cv_bridge 9.8.7 "),
        ("", "own", "vpr_ros (node.image_decoder"),
        (ABORTS, "auto", "vpr_ros (cv_bridge"),
    ],
)
def test_the_decoder_is_chosen_logged_once_and_on_diagnostics(
    parameters: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, choice: str, by: str
) -> None:
    bridge = install(tmp_path / "bridge", at_import=fault)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(bridge), os.environ.get("PYTHONPATH", ""))).strip(os.pathsep))
    with NodeUnderTest(parameters | {"node.image_decoder": choice}) as node:
        answers = [node.ears.send_and_wait(view(place), (10 + i) * S) for i, place in enumerate((0, 1, 2, 3, 0))]
        assert answers[-1].accepted
        short = image_msg(view(0), 20 * S)
        short.data = short.data[:1000]
        node.ears.outlet(Image, "/image").publish(short)
        wait_until(lambda: _value(node, "skipped") == "1", what=node.text)
        wait_until(lambda: (_engine(node, "image decoder") or "").startswith(by), what=node.text)
        assert len(lines_with(node.text, [f"images are decoded by {by}"])) == 1
        assert node.process.poll() is None


def test_a_cv_bridge_that_crashes_and_was_asked_for_ends_the_start_with_one_line(
    parameters: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bridge = install(tmp_path / "bridge", at_import=ABORTS)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(bridge), os.environ.get("PYTHONPATH", ""))).strip(os.pathsep))
    with NodeUnderTest(parameters | {"node.image_decoder": "cv_bridge"}) as node:
        assert node.process.wait(timeout=200) == 1
        wait_until(lambda: "pip install 'numpy<2'" in node.text, what=node.text)
        assert len(lines_with(node.text, ["node.image_decoder is cv_bridge", "SIGABRT", "numpy<2"])) == 1
        assert "Traceback" not in node.text


def test_sigint_ends_the_node_cleanly(node: NodeUnderTest) -> None:
    import signal

    node.ears.send_and_wait(view(0), 100 * S)
    node.process.send_signal(signal.SIGINT)
    assert node.process.wait(timeout=120) == 0
    assert "Traceback" not in node.text


def drive_a_loop(node: NodeUnderTest) -> None:
    """Five places and the first two again, along x with odometry of base_link."""
    places = [0, 1, 2, 3, 4, 0, 1]
    odom = node.ears.outlet(Odometry, "/odom")
    for i, place in enumerate(places):
        message = Odometry(header=Header(stamp=time_msg((100 + i) * S), frame_id="odom"), child_frame_id="base_link")
        message.pose.pose.position.x = float(place)
        message.pose.pose.orientation.w = 1.0
        odom.publish(message)
    broken = Odometry()
    broken.pose.pose.orientation.w = 0.0
    odom.publish(broken)  # once this one is reported, the others have arrived: no image overtakes its odometry
    wait_until(lambda: "odometry is not used" in node.text, what="the broken quaternion")
    for i, place in enumerate(places):
        node.ears.send_and_wait(view(place), (100 + i) * S)


def test_a_closure_names_its_robot_and_where_the_camera_sits(parameters: dict[str, object]) -> None:
    changes = {"node.robot": "anna", "odometry.body_from_camera": "0.3 0 1.2 -0.5 0.5 -0.5 0.5"}
    with NodeUnderTest(parameters | changes) as node:
        drive_a_loop(node)
        wait_until(lambda: node.ears.loop_closures, what=f"closures: {node.ears.matches}")
        closure = node.ears.loop_closures[0]
        assert (closure.query.robot, closure.match.robot) == ("anna", "anna")
        assert closure.has_extrinsics
        for sits in (closure.query_body_from_camera, closure.match_body_from_camera):
            assert (sits.position.x, sits.position.z, sits.orientation.x) == (0.3, 1.2, -0.5)
        refused = node.ears.set_parameter("odometry.body_from_camera", "somewhere")
        assert not refused.successful
        assert "like 0.3 0 1.2" in refused.reason


def test_where_the_camera_sits_is_known_from_static_transforms(parameters: dict[str, object]) -> None:
    tf2_msgs = pytest.importorskip("tf2_msgs.msg", reason="no tf2_msgs: pip install ./test/support/tf2_msgs")
    with NodeUnderTest(parameters) as node:
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        transform = TransformStamped(header=Header(frame_id="base_link"), child_frame_id="camera")
        transform.transform.translation.z, transform.transform.rotation.w = 1.5, 1.0
        node.ears.outlet(tf2_msgs.TFMessage, "/tf_static", latched).publish(tf2_msgs.TFMessage(transforms=[transform]))
        drive_a_loop(node)
        wait_until(lambda: node.ears.loop_closures, what=f"closures: {node.ears.matches}")
        assert node.ears.loop_closures[0].has_extrinsics
        assert node.ears.loop_closures[0].match_body_from_camera.position.z == 1.5
        assert node.ears.keyframes[0].body_from_camera.position.z == 1.5


def test_a_misspelt_parameter_is_named(parameters: dict[str, object]) -> None:
    with NodeUnderTest(parameters | {"match.min_similarty": 0.9}) as node:
        wait_until(lambda: "did you mean 'match.min_similarity'?" in node.text, what=node.text)


def test_services_of_a_node_that_is_not_configured(parameters: dict[str, object]) -> None:
    with NodeUnderTest(parameters | {"node.autostart": False}) as node:
        for kind, service in ((Trigger, "reset"), (SaveMap, "save_map"), (LoadMap, "load_map")):
            answer = node.ears.call(kind, f"/vpr/{service}")
            assert (answer.success, answer.message) == (False, "the node is not configured")


def test_a_terminal_that_goes_away_ends_the_node_and_nothing_fails(parameters: dict[str, object]) -> None:
    heeded = "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL)"  # these tests may run under nohup
    with NodeUnderTest(parameters, before=heeded) as node:
        for i in range(3):
            node.ears.send_and_wait(view(i), (100 + i) * S)
        node.process.send_signal(signal.SIGHUP)
        assert node.process.wait(120) == 0
    assert "3 keyframes of a map in memory are forgotten" in node.text
    assert "Failed to publish log message" not in node.text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_images_come_is_no_fault(parameters: dict[str, object], number: signal.Signals) -> None:
    """A frame is always in work, and what it wants to publish then is for want of ROS."""
    with NodeUnderTest(parameters) as node:
        node.ears.send_and_wait(view(0), 100 * S)
        for i in range(400):
            node.ears.send(view(i % 7), (101 + i) * S)
            if i == 200:
                node.process.send_signal(number)
            if node.process.poll() is not None:
                break
            time.sleep(0.005)
        assert node.process.wait(timeout=200) == 0, node.text
    assert "context is invalid" not in node.text
    assert "a frame failed" not in node.text
