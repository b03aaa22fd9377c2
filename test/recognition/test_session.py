from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vpr_ros.config import SessionConfig
from vpr_ros.errors import FrameOrderError
from vpr_ros.recognition.matching import Now
from vpr_ros.recognition.session import Session
from vpr_ros.types import Descriptor, Frame, KeyframeRef, Thumbnail

S = 10**9
CONFIG = SessionConfig()
A, B = np.float32([1, 0]), np.float32([0, 1])


def frame(second: float, camera_name: str = "", x_m: float | None = None) -> Frame:
    pose = None if x_m is None else np.eye(4) + np.pad([[x_m]], ((0, 3), (3, 0)))
    return Frame(round(second * S), np.zeros((2, 2, 3), np.uint8), odom_from_body=pose, camera_name=camera_name)


def started() -> tuple[Session, list[tuple[str, str]]]:
    events: list[tuple[str, str]] = []
    return Session("day", lambda kind, text: events.append((kind, text))), events


def follow(
    session: Session, second: float, view: Descriptor = A, camera_name: str = "", x_m: float | None = None
) -> Now:
    return session.follow(frame(second, camera_name, x_m), view, CONFIG)


def remember(session: Session, number: int, now: Now, view: Descriptor = A) -> KeyframeRef:
    ref = KeyframeRef("", session.name, number, camera_name=now.camera_name)
    session.remember(now.keyframe(ref, frame(0), view, None), 0.5)
    return ref


def test_the_time_of_a_drive_starts_at_0_and_each_camera_has_its_view() -> None:
    session, _ = started()
    assert follow(session, 100.0, A, "front").elapsed_ns == 0
    assert follow(session, 101.5, B, "rear").elapsed_ns == 1.5 * S
    follow(session, 102.0, B, "front")
    assert {name: view.tolist() for name, view in session.views.items()} == {"front": [0, 1], "rear": [0, 1]}


def test_a_dropped_frame_leaves_no_trace() -> None:
    session, _ = started()
    follow(session, 5.0, A)
    with pytest.raises(FrameOrderError):
        follow(session, 4.0, B)
    np.testing.assert_array_equal(session.views[""], A)


def test_the_path_is_that_of_odometry() -> None:
    session, _ = started()
    assert follow(session, 0.0).travelled_m is None
    assert [follow(session, 1.0 + i, x_m=2.0 * i).travelled_m for i in range(3)] == [0.0, 2.0, 4.0]
    assert follow(session, 3.5).odom_from_body is None
    assert follow(session, 4.0).travelled_m == 4.0


def test_where_the_clock_jumps_another_session_of_the_same_drive_begins() -> None:
    session, events = started()
    ref = remember(session, 4, follow(session, 100.0))
    session.camera("").bests.append(7)
    session.accepted_ns = 0
    for second in (10.0, 11.0):
        with pytest.raises(FrameOrderError):
            follow(session, second)
    assert follow(session, 12.0).elapsed_ns >= 0
    assert session.name == "day+"
    assert [kind for kind, _ in events] == ["session"]
    assert [k.ref for k in session.keyframes] == [ref], "what is recent stays recent"
    assert session.accepted_ns == 0
    assert not session.camera("").bests


def test_best_places_of_one_window() -> None:
    session, _ = started()
    follow(session, 0.0)
    camera = session.camera("")
    for moment in (1, None, 3):
        camera.bests.append(moment)
    assert list(camera.recent_bests(3)) == [None, 3]
    assert list(camera.recent_bests(1)) == []
    assert list(camera.recent_bests(100)) == [1, None, 3]


def test_a_keyframe_and_its_neighbours_whatever_their_ids() -> None:
    session, _ = started()
    refs = [remember(session, number, follow(session, float(i))) for i, number in enumerate((90, 3, 40, 7))]
    assert [k.ref.id for k in session.around(refs[1])] == [3, 90, 3, 40]
    assert [k.ref.id for k in session.around(refs[0])] == [90, 90, 3]
    assert [k.ref.id for k in session.around(refs[3])] == [7, 40, 7]
    assert session.around(replace(refs[0], session="yesterday")) == []
    assert session.around(replace(refs[0], robot="other")) == []


def test_a_long_drive_keeps_its_newest_keyframes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without their pictures: a day's drive would fill the memory."""
    monkeypatch.setattr("vpr_ros.recognition.session.KEPT_KEYFRAMES", 10)
    session, _ = started()
    refs = []
    for i in range(95):
        ref, now = KeyframeRef("", "day", i), follow(session, float(i))
        session.remember(now.keyframe(ref, frame(i), A, Thumbnail(b"jpeg", 1.0)), 0.5)
        refs.append(ref)
        assert min(len(refs), 10) <= len(session.keyframes) <= 20
        assert [keyframe.ref for keyframe in session.keyframes] == refs[-len(session.keyframes) :]
    assert all(keyframe.thumbnail is None for keyframe in session.keyframes)
    assert [keyframe.ref for keyframe in session.around(refs[-2])] == [refs[-2], *refs[-3:]]
    assert session.around(refs[0]) == []
