"""Matches to messages and back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from vpr_msgs.msg import KeyframeRef

from vpr_ros.ros.messages import loop_closure_msg, match_from_msg, match_msg
from vpr_ros.types import Candidate, Keyframe, MatchStatus, PlaceMatch, Verification

S = 10**9
MATCHED = Keyframe(0, "monday", 3 * S, np.ones(1, np.float32), frame_id="lens")
MATCH = PlaceMatch(
    stamp_ns=70 * S + 7,
    status=MatchStatus.ACCEPTED,
    frame_id="lens",
    match_id=0,
    match_stamp_ns=3 * S,
    match_session="monday",
    match_camera_name="",
    similarity=0.5,
    consistent_count=2,
    verification=Verification(30, 0.5, 0.25, np.eye(4), np.eye(6)),
    candidates=(Candidate(0, 0.5),),
    session="tuesday",
)


@pytest.mark.parametrize("keyframe_id", [None, 0, 1, 2**64 - 2])
def test_a_query_that_is_no_keyframe_has_no_id(keyframe_id: int | None) -> None:
    match = replace(MATCH, keyframe_id=keyframe_id)
    message = match_msg(match, MATCHED, "model")
    closure = loop_closure_msg(message)
    for each in (message, closure):
        assert each.query_is_keyframe == (keyframe_id is not None)
        assert (each.query.id == KeyframeRef.NO_ID) == (keyframe_id is None)
        assert each.query.id == (2**64 - 1 if keyframe_id is None else keyframe_id)
        assert each.match.id == 0
    back = match_from_msg(message)
    assert (back.keyframe_id, back.match_id) == (keyframe_id, 0)


def test_without_a_match_there_is_no_id_of_one() -> None:
    message = match_msg(PlaceMatch(S, MatchStatus.NO_MAP, keyframe_id=0), None, "model")
    assert not message.has_match
    assert message.match.id == KeyframeRef.NO_ID
    assert (message.query.id, message.query_is_keyframe) == (0, True)
    assert match_from_msg(message).match_id is None


def test_a_closure_says_what_its_match_says() -> None:
    message = match_msg(MATCH, MATCHED, "model")
    closure = loop_closure_msg(message)
    for name in closure.get_fields_and_field_types():
        assert (
            getattr(closure, name) == pytest.approx(getattr(message, name), nan_ok=True)
            if name == "probability"
            else (getattr(closure, name) == getattr(message, name))
        )
