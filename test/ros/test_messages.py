"""Matches to messages and back, and the directions of the poses in them."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vpr_msgs.msg import KeyframeRef as KeyframeRefMsg

from vpr_ros.ros.messages import (
    keyframe_msg,
    loop_closure_msg,
    match_from_msg,
    match_msg,
    pose_from_msg,
    ref_from_msg,
    ref_msg,
)
from vpr_ros.rotations import pose_from_quaternion
from vpr_ros.types import Candidate, Keyframe, KeyframeRef, MatchStatus, PlaceMatch, Pose, Verification

S = 10**9
REF = KeyframeRef("robot", "monday", 0, 3 * S + 5, "front", "lens")
MATCH = PlaceMatch(
    stamp_ns=70 * S + 7,
    status=MatchStatus.ACCEPTED,
    frame_id="lens",
    match=REF,
    similarity=0.5,
    probability=0.75,
    consistent_count=2,
    verification=Verification(30, 0.5, 0.25, np.eye(4), np.eye(6), scale_known=True),
    candidates=(Candidate(REF, 0.5), Candidate(replace(REF, robot="other", id=2**64 - 2), 0.25)),
    session="tuesday",
    robot="robot",
    camera_name="rear",
)


def pose(*numbers: float) -> Pose:
    return pose_from_quaternion(np.array(numbers[:3]), np.array(numbers[3:]))


def test_a_match_comes_back_as_it_was() -> None:
    back = match_from_msg(match_msg(MATCH, "model"))
    assert _fields(back) == _fields(MATCH)
    assert back.match is not None
    assert asdict(back.match) == asdict(REF)
    assert [asdict(c.keyframe) for c in back.candidates] == [asdict(c.keyframe) for c in MATCH.candidates]
    assert back.verification is not None
    assert (back.verification.inliers, back.verification.scale_known) == (30, True)


def _fields(match: PlaceMatch) -> list[object]:
    names = ("stamp_ns", "status", "frame_id", "keyframe_id", "match", "similarity", "runner_up", "probability")
    return [
        getattr(match, name) for name in (*names, "consistent_count", "candidates", "session", "robot", "camera_name")
    ]


names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)


@given(names, names, st.integers(0, 2**64 - 2), st.integers(0, 2**31 * S - 1), names, names)
def test_a_name_comes_back_as_it_was(
    robot: str, session: str, number: int, stamp: int, camera: str, frame_id: str
) -> None:
    ref = KeyframeRef(robot, session, number, stamp, camera, frame_id)
    assert asdict(ref_from_msg(ref_msg(ref))) == asdict(ref)


@pytest.mark.parametrize("keyframe_id", [None, 0, 1, 2**64 - 2])
def test_a_query_that_is_no_keyframe_has_no_id(keyframe_id: int | None) -> None:
    message = match_msg(replace(MATCH, keyframe_id=keyframe_id), "model")
    for each in (message, loop_closure_msg(message)):
        assert each.query_is_keyframe == (keyframe_id is not None)
        assert (each.query.id == KeyframeRefMsg.NO_ID) == (keyframe_id is None)
        assert each.query.id == (2**64 - 1 if keyframe_id is None else keyframe_id)
        assert each.match.id == 0
    assert match_from_msg(message).keyframe_id == keyframe_id


def test_without_a_match_there_is_no_id_of_one() -> None:
    message = match_msg(PlaceMatch(S, MatchStatus.NO_MAP, keyframe_id=0), "model")
    assert not message.has_match
    assert message.match.id == KeyframeRefMsg.NO_ID
    assert np.isnan(message.probability)
    assert (message.query.id, message.query_is_keyframe) == (0, True)
    back = match_from_msg(message)
    assert (back.match, back.probability) == (None, None)


def test_a_closure_holds_what_its_match_holds() -> None:
    message = match_msg(MATCH, "model")
    closure = loop_closure_msg(message)
    for name in closure.get_fields_and_field_types().keys() & message.get_fields_and_field_types().keys():
        assert getattr(closure, name) == getattr(message, name)
    assert not closure.has_extrinsics


def test_where_both_cameras_sit_is_in_a_closure() -> None:
    front, rear = pose(0.3, 0, 1.2, -0.5, 0.5, -0.5, 0.5), pose(-0.3, 0, 1.2, 0.5, -0.5, -0.5, 0.5)
    closure = loop_closure_msg(match_msg(MATCH, "model"), front, rear)
    assert closure.has_extrinsics
    np.testing.assert_allclose(pose_from_msg(closure.query_body_from_camera), front, atol=1e-12)
    np.testing.assert_allclose(pose_from_msg(closure.match_body_from_camera), rear, atol=1e-12)
    assert not loop_closure_msg(match_msg(MATCH, "model"), front, None).has_extrinsics


def test_the_body_s_motion_follows_from_a_closure_as_its_message_says() -> None:
    """An exact world: two body poses, a front and a rear camera, and what the match camera sees of the query camera."""
    front, rear = pose(0.3, 0, 1.2, -0.5, 0.5, -0.5, 0.5), pose(-0.3, 0, 1.2, 0.5, -0.5, -0.5, 0.5)
    query_body, match_body = pose(10, 3, 0, 0, 0, 0.38, 0.92), pose(11, 2, 0, 0, 0, -0.6, 0.8)  # map_from_body
    match_from_query = np.linalg.inv(match_body @ rear) @ (query_body @ front)
    verification = Verification(30, 0.5, 0.25, match_from_query, np.eye(6), scale_known=True)
    closure = loop_closure_msg(match_msg(replace(MATCH, verification=verification), "model"), front, rear)
    a, b = (pose_from_msg(p) for p in (closure.match_body_from_camera, closure.query_body_from_camera))
    body_match_from_body_query = a @ pose_from_msg(closure.match_from_query.pose) @ np.linalg.inv(b)
    np.testing.assert_allclose(body_match_from_body_query, np.linalg.inv(match_body) @ query_body, atol=1e-9)
    point_on_query_axis = np.array([0, 0, 2.0, 1])  # 2 m ahead of the query camera
    in_map = query_body @ front @ point_on_query_axis
    np.testing.assert_allclose(match_body @ rear @ match_from_query @ point_on_query_axis, in_map, atol=1e-9)


def test_a_keyframe_with_and_without_its_place_on_the_body() -> None:
    bare = Keyframe(REF, np.float32([0.6, 0.8]))
    message = keyframe_msg(bare, "model")
    assert not message.has_extrinsics
    assert asdict(ref_from_msg(message.ref)) == asdict(REF)
    assert message.header.frame_id == "lens"
    assert (
        keyframe_msg(replace(bare, body_from_camera=pose(1, 2, 3, 0, 0, 0, 1)), "model").body_from_camera.position.y
        == 2
    )
