"""Worlds of textured places, visited in a known order: every answer is known beforehand."""

from __future__ import annotations

import gc
import re
import weakref
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from unittest.mock import Mock

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from masked_models import save_masked_grid_model
from numpy.typing import NDArray
from small_worlds import texture

from vpr_ros.config import Config
from vpr_ros.engines.backend import Engine
from vpr_ros.engines.describe import describe_image, describe_image_with_mask
from vpr_ros.engines.open import open_reference
from vpr_ros.errors import ConfigError, FrameOrderError, ModelError
from vpr_ros.map.rows import DRIVE_MOMENTS
from vpr_ros.model import PlaceModel
from vpr_ros.recognition.loop_detector import LoopDetector
from vpr_ros.types import Camera, Frame, MatchStatus, PlaceMatch

BASE = {
    "keyframe.min_interval_s": 0.0,
    "keyframe.max_similarity": 1.0,
    "exclusion.time_s": 5.0,
    "exclusion.count": 0,
    "match.min_similarity": 0.8,
    "match.island_gap": 0,
    "consistency.window": 1,
    "consistency.min_hits": 1,
    "consistency.max_gap": 2,
    "verification.enabled": False,
}
CAMERA = Camera(300.0, 300.0, 160.0, 120.0, 320, 240)


@pytest.fixture(scope="module")
def engine(grid_model: PlaceModel) -> Engine:
    return open_reference(grid_model, threads=1)


def detector(engine: Engine, **changes: object) -> LoopDetector:
    values = BASE | {name.replace("__", "."): value for name, value in changes.items()}
    return LoopDetector(Config.from_flat(values), engine)


@lru_cache
def scene(place: int) -> NDArray[np.uint8]:
    return texture(place, 360, 240)


def frame(
    place: int, second: float, shift: int = 0, odometry: tuple[float, float] | None = None, camera_name: str = ""
) -> Frame:
    image = np.ascontiguousarray(scene(place)[:, shift : shift + 320])
    pose = None
    if odometry is not None:
        pose = np.eye(4)
        pose[:2, 3] = odometry
    return Frame(round(second * 1e9), image, CAMERA, pose, "camera", camera_name)


def visit(loops: LoopDetector, places: Sequence[int], start_s: float = 0.0) -> list[PlaceMatch]:
    """One frame a second."""
    return [loops.process(frame(place, start_s + i)) for i, place in enumerate(places)]


def statuses(matches: Sequence[PlaceMatch]) -> list[str]:
    return [match.status.name for match in matches]


def test_a_revisit_is_found_and_everything_else_has_its_reason(engine: Engine) -> None:
    matches = visit(detector(engine), [0, 1, 2, 3, 4, 5, 6, 7, 1])
    assert statuses(matches) == ["NO_MAP", *["RECENT"] * 4, *["LOW_SCORE"] * 3, "ACCEPTED"]
    last = matches[-1]
    assert (last.match.id, last.match.stamp_ns, last.keyframe_id) == (1, 10**9, 8)
    assert last.similarity == pytest.approx(1.0, abs=1e-5)
    assert last.candidates[0].keyframe.id == 1
    assert last.runner_up is not None
    assert last.runner_up < 0.8


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=25))
def test_against_an_oracle_of_places(engine: Engine, places: list[int]) -> None:
    """Without consistency and geometry, a frame is accepted if and only if its place was seen at least 5 s before, and the robot
    was elsewhere in between for two keyframes in a row."""
    matches = visit(detector(engine, match__max_ambiguity=1.0), places)
    for i, match in enumerate(matches):
        away = [j for j in range(i - 1) if places[i] not in places[j : j + 2]]
        seen = [j for j in range(i) if places[j] == places[i] and i - j >= 5 and j < max(away, default=0)]
        assert match.accepted == bool(seen), statuses(matches)
        if seen:
            assert match.match.id in seen


def test_two_places_that_look_alike_are_ambiguous(engine: Engine) -> None:
    matches = visit(detector(engine), [0, 1, 2, 0, 3, 4, 5, 6, 7, 8, 9, 0])
    assert matches[-1].status is MatchStatus.AMBIGUOUS
    assert matches[-1].runner_up == pytest.approx(matches[-1].similarity, abs=1e-5)


def test_a_third_lap_is_not_ambiguous_because_the_second_closed(engine: Engine) -> None:
    lap = [0, 1, 2, 3, 4, 5, 6]
    matches = visit(detector(engine), lap * 3)
    assert statuses(matches)[14:] == ["ACCEPTED"] * 7


def test_consistency_needs_two_answers_in_a_row(engine: Engine) -> None:
    loops = detector(
        engine, consistency__window=2, consistency__min_hits=2, match__island_gap=0, consistency__max_gap=1
    )
    matches = visit(loops, [*range(10), 30, 5, 6, 30, 7, 8])
    assert statuses(matches)[10:] == [
        "LOW_SCORE",
        "INCONSISTENT",
        "ACCEPTED",
        "RECENT",
        "INCONSISTENT",
        "ACCEPTED",
    ] or (statuses(matches)[11:13] == ["INCONSISTENT", "ACCEPTED"])
    assert [m.consistent_count for m in matches[11:13]] == [1, 2]


def test_cooldown(engine: Engine) -> None:
    matches = visit(detector(engine, match__cooldown_s=2.5), [*range(8), *range(8)])
    assert statuses(matches)[8:] == ["ACCEPTED", "COOLDOWN", "COOLDOWN"] * 2 + ["ACCEPTED", "COOLDOWN"]


def test_geometry_accepts_a_shifted_view_and_rejects_another_scene_of_the_same_colours(engine: Engine) -> None:
    loops = detector(engine, verification__enabled=True, match__min_similarity=-1.0, match__max_ambiguity=1.0)
    for i in range(7):
        loops.process(frame(i, i))
    seen = loops.process(frame(1, 10, shift=12))
    assert seen.accepted
    assert seen.match.id == 1
    assert seen.verification is not None
    assert seen.verification.inliers > 50
    assert seen.verification.match_from_query is not None
    other = loops.process(frame(99, 11))
    assert other.status is MatchStatus.GEOMETRY
    assert other.verification is not None
    assert other.verification.inliers < 20


def test_odometry_rules_out_what_it_can(engine: Engine) -> None:
    loops = detector(engine, odometry__max_distance_m=5.0, odometry__drift_per_m=0.1, exclusion__distance_m=0.0)
    path = [(20.0 * i, 0.0) for i in range(8)]
    for i, position in enumerate(path):
        loops.process(frame(i, i, odometry=position))
    far = loops.process(frame(0, 8, odometry=(160.0, 0.0)))  # 160 m away after 160 m: 5 + 16 m are allowed
    assert far.status is MatchStatus.ODOMETRY
    loops = detector(engine, odometry__max_distance_m=5.0, odometry__drift_per_m=0.1, exclusion__distance_m=0.0)
    back = [(abs(80.0 - 20.0 * i), 0.0) for i in range(9)]
    answers = [loops.process(frame(i % 8, i, odometry=position)) for i, position in enumerate(back)]
    assert answers[8].accepted  # 0 m away after 160 m


def test_a_robot_that_stands_still_closes_no_loop_with_itself(engine: Engine) -> None:
    loops = detector(engine, keyframe__max_similarity=0.95, exclusion__count=1)
    assert statuses(visit(loops, [3] * 30)) == ["NO_MAP"] + ["RECENT"] * 29
    assert len(loops.map) == 1


def test_a_frame_out_of_order_is_refused_without_a_trace(engine: Engine) -> None:
    loops = detector(engine)
    visit(loops, [0, 1, 2])
    for second in (2.0, 1.5):
        with pytest.raises(FrameOrderError):
            loops.process(frame(7, second))
    assert len(loops.map) == 3
    assert loops.process(frame(3, 3.0)).status is MatchStatus.RECENT


def try_visit(loops: LoopDetector, places: Sequence[int], start_s: float) -> list[str]:
    """Statuses of one frame a second, DROPPED among them."""
    result = []
    for i, place in enumerate(places):
        try:
            result.append(loops.process(frame(place, start_s + i)).status.name)
        except FrameOrderError:
            result.append("DROPPED")
    return result


def test_a_clock_that_jumps_back_starts_a_new_session(engine: Engine) -> None:
    events: list[tuple[str, str]] = []
    config = Config.from_flat(BASE)
    loops = LoopDetector(config, engine, session="day", report=lambda kind, text: events.append((kind, text)))
    visit(loops, range(8), start_s=100.0)
    again = try_visit(loops, [70, 71, 0, 1, 2, 50, 6], start_s=0.0)
    assert again == ["DROPPED", "DROPPED", "ACCEPTED", "ACCEPTED", "ACCEPTED", "LOW_SCORE", "ACCEPTED"]
    assert loops.session == "day+"
    assert [k.ref.session for k in loops.map] == ["day"] * 8 + ["day+"] * 5
    assert events == [("session", "the stamps of the images jumped back by 107.000 s: session 'day+' begins")]


def test_after_a_jump_of_the_clock_what_was_just_seen_is_still_recent(engine: Engine) -> None:
    """5 s of exclusion, whatever the stamps do: place 7 was seen one second before the jump."""
    loops = detector(engine)
    visit(loops, range(8), start_s=100.0)
    assert try_visit(loops, [60, 61, 7, 7, 7, 4], 0.0) == [
        "DROPPED",
        "DROPPED",
        "LOW_SCORE",
        "LOW_SCORE",
        "LOW_SCORE",
        "ACCEPTED",
    ]


@pytest.mark.parametrize("odd_s", [0.0, 1004.0, 2.0])
def test_one_odd_stamp_starts_no_session_and_closes_no_loop(engine: Engine, odd_s: float) -> None:
    loops = detector(engine)
    places = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    visit(loops, places, start_s=100.0)
    assert try_visit(loops, [4], odd_s) == ["LOW_SCORE" if odd_s > 110 else "DROPPED"]  # it may have been a pause
    again = visit(loops, [5, 6, 7], start_s=110.0)
    assert {match.session for match in again} == {""}
    assert statuses(again) == ["LOW_SCORE"] * 3


def test_a_robot_that_waits_closes_no_loop_with_itself_though_passers_by_make_keyframes(engine: Engine) -> None:
    loops = detector(engine, exclusion__time_s=2.0, keyframe__max_similarity=0.95, match__max_ambiguity=1.0)
    waiting = visit(loops, [0, 1, 2, *([3, 40] * 20), 3])
    assert not any(match.accepted for match in waiting)
    after = visit(loops, [4, 5, 6, 3], start_s=200.0)
    assert statuses(after)[-1] == "ACCEPTED"  # it left, and came back


@pytest.mark.parametrize("odd", [np.nan, np.inf, 1e300, 1e9, 400.0])
def test_one_odd_pose_does_not_switch_the_odometry_gate_off(engine: Engine, odd: float) -> None:
    """The same ten views a second time, 50 m further on: two streets that look alike."""
    loops = detector(engine, exclusion__time_s=3.0)
    answers = [loops.process(frame(i % 10, i, odometry=(odd if i == 3 else 5.0 * i, 0.0))) for i in range(20)]
    assert statuses(answers[10:]) == ["ODOMETRY"] * 10


@pytest.mark.parametrize("shift", [-300.0, 5e5])
def test_true_revisits_close_although_odometry_was_reset_in_between(engine: Engine, shift: float) -> None:
    events: list[str] = []
    config = Config.from_flat(BASE | {"exclusion.time_s": 3.0})
    loops = LoopDetector(config, engine, report=lambda kind, text: events.append(kind))
    for i in range(10):
        loops.process(frame(i, i, odometry=(5.0 * i, 0.0)))
    again = [loops.process(frame(i, 10 + i, odometry=(5.0 * i + shift, 1.0))) for i in range(10)]
    assert (
        statuses(again) == ["ODOMETRY"] * 2 + ["ACCEPTED"] * 8
    )  # the first two may be odd poses of a robot that drives on
    assert events == ["odometry jump"]


def test_odometry_that_stands_still_does_not_make_everything_recent(engine: Engine) -> None:
    loops = detector(engine, exclusion__time_s=3.0)
    answers = [loops.process(frame(i % 12, i, odometry=(7.0, 7.0))) for i in range(24)]
    assert statuses(answers[12:]) == ["ACCEPTED"] * 12


def test_parameters_can_change_between_frames(engine: Engine) -> None:
    loops = detector(engine)
    visit(loops, range(8))
    loops.reconfigure(loops.config.with_values({"exclusion.time_s": 1000.0}))
    assert loops.process(frame(0, 8)).status is MatchStatus.RECENT
    loops.reconfigure(loops.config.with_values({"exclusion.time_s": 5.0}))
    assert loops.process(frame(0, 9)).accepted


def test_every_stage_is_announced(engine: Engine) -> None:
    seen: list[str] = []

    def stage(name: str) -> nullcontext[None]:
        seen.append(name)
        return nullcontext()

    loops = LoopDetector(Config.from_flat(BASE | {"verification.enabled": True}), engine, stage=stage)
    visit(loops, [0, 1, 2, 3, 4, 5, 0])
    assert set(seen) == {"describe", "search", "match", "verify", "remember"}


def test_all_evidence_is_there_where_all_is_verified(engine: Engine) -> None:
    """Also of what the descriptors refuse, and the answers are the same."""
    config = Config.from_flat(BASE | {"verification.enabled": True, "match.min_similarity": 0.99})
    places = [0, 1, 2, 3, 4, 5, 0, 1, 77]
    usual, all_of_them = LoopDetector(config, engine), LoopDetector(config, engine, verifies_all=True)
    few, every = ([d.process(frame(p, i, 7 * (i > 5))) for i, p in enumerate(places)] for d in (usual, all_of_them))
    assert [m.status for m in few] == [m.status for m in every]
    refused = [(a, b) for a, b in zip(few, every, strict=True) if a.status is MatchStatus.LOW_SCORE]
    assert refused
    assert all(a.verification is None and b.verification is not None for a, b in refused)
    revisit, stranger = every[6].verification, every[8].verification
    assert revisit is not None
    assert stranger is not None
    assert revisit.inliers > 30 > stranger.inliers


def test_an_answer_has_the_mask_if_asked_and_it_costs_no_second_inference(tmp_path: Path, engine: Engine) -> None:
    masked = open_reference(PlaceModel.open(save_masked_grid_model(tmp_path / "masked.onnx")), threads=1)
    counted = Mock(wraps=masked, model=masked.model)
    loops = detector(counted)
    answers = [loops.process(frame(place, place), with_mask=place == 1) for place in range(3)]
    assert [call[0] for call in counted.method_calls] == ["describe", "describe_with_mask", "describe"]
    assert (answers[0].mask, answers[2].mask) == (None, None)
    _, mask = describe_image_with_mask(masked, frame(1, 1).image)
    np.testing.assert_array_equal(answers[1].mask, mask)
    np.testing.assert_array_equal(list(loops.map)[1].descriptor, describe_image(engine, frame(1, 1).image))


def test_a_mask_that_the_model_does_not_have(engine: Engine) -> None:
    with pytest.raises(ModelError, match="model grid has no mask"):
        detector(engine).process(frame(0, 0), with_mask=True)


REAR = 1000
"""What the rear camera sees at a place is another texture than what the front camera sees."""


def rig(place: int, second: float, jitter_s: float = 0.0) -> list[Frame]:
    """The rig at a place; the rear camera's stamp is `jitter_s` older."""
    return [frame(place, second, camera_name="front"), frame(REAR + place, second - jitter_s, camera_name="rear")]


def answered(answers: Sequence[PlaceMatch | FrameOrderError]) -> list[PlaceMatch]:
    assert all(isinstance(answer, PlaceMatch) for answer in answers), answers
    return [answer for answer in answers if isinstance(answer, PlaceMatch)]


def facts(match: PlaceMatch) -> tuple[object, ...]:
    return (match.stamp_ns, match.status, match.camera_name, match.session, match.keyframe_id, match.match and match.match.id,
            match.match and match.match.camera_name, match.consistent_count, [c.keyframe.id for c in match.candidates])  # fmt: skip


@pytest.mark.parametrize("jitter_s", [0.0, 0.3])
def test_each_camera_of_a_rig_finds_its_own_views_again(engine: Engine, jitter_s: float) -> None:
    loops = detector(engine)
    first = [answered(loops.process_batch(rig(i, 10 + i, jitter_s))) for i in range(8)]
    assert statuses([rear for _, rear in first])[:5] == ["RECENT"] * 5
    assert statuses([rear for _, rear in first])[6:] == ["LOW_SCORE"] * 2
    for place in (1, 4):
        front, rear = answered(loops.process_batch(rig(place, 20 + place, jitter_s)))
        assert (front.status, rear.status) == (MatchStatus.ACCEPTED, MatchStatus.ACCEPTED)
        assert (front.camera_name, front.match.camera_name, front.match.id) == ("front", "front", 2 * place)
        assert (rear.camera_name, rear.match.camera_name, rear.match.id) == ("rear", "rear", 2 * place + 1)
    first = DRIVE_MOMENTS
    assert [loops.map.moment(ref) - first for ref in loops.map.names] == [i // 2 for i in range(len(loops.map))]
    assert [k.ref.camera_name for k in loops.map] == ["front", "rear"] * 10
    assert {k.ref.session for k in loops.map} == {""}


def test_a_camera_may_find_what_another_one_saw(engine: Engine) -> None:
    """The way back along a street: what the front camera sees now, the rear camera saw."""
    loops = detector(engine)
    for i in range(8):
        loops.process_batch(rig(i, i))
    match = loops.process(frame(REAR + 1, 9.0, camera_name="front"))
    assert match.accepted
    assert (match.camera_name, match.match.camera_name, match.match.id) == ("front", "rear", 3)


events = st.lists(
    st.tuples(
        st.sampled_from(["front", "rear", "left"]),
        st.integers(0, 4),
        st.integers(1, 4),
        st.sampled_from([0, 0, 0, -1, -2, -3, -4, -5, -20, 4]),
    ),
    max_size=30,
)
"""Camera, place, half seconds passed, and by how many quarters of a second the stamp is off."""


@settings(deadline=None, max_examples=40)
@given(events, st.lists(st.integers(1, 4), min_size=30, max_size=30))
def test_batches_are_answered_as_the_same_frames_one_by_one(
    engine: Engine, events: list[tuple[str, int, int, int]], sizes: list[int]
) -> None:
    """Late frames and clocks that jump back included."""
    seconds = accumulate(step for _, _, step, _ in events)
    frames = [
        frame(place, 100.0 + second / 2 + late / 4, camera_name=camera)
        for (camera, place, _, late), second in zip(events, seconds, strict=True)
    ]
    values = {"consistency__window": 3, "consistency__min_hits": 2, "exclusion__time_s": 2.0, "exclusion__count": 1}
    alone, together = detector(engine, **values), detector(engine, **values)
    one_by_one: list[object] = []
    for one in frames:
        try:
            one_by_one.append(facts(alone.process(one)))
        except FrameOrderError as error:
            one_by_one.append(str(error))
    batched: list[object] = []
    ends = list(accumulate(sizes))
    for start, end in zip([0, *ends], ends, strict=False):
        answers = together.process_batch(frames[start:end])
        batched += [facts(a) if isinstance(a, PlaceMatch) else str(a) for a in answers]
    assert batched == one_by_one
    assert [together.map.moment(ref) for ref in together.map.names] == [
        alone.map.moment(ref) for ref in alone.map.names
    ]
    assert together.map.links == alone.map.links


def test_the_engine_is_called_once_for_a_batch_and_not_for_none(tmp_path: Path) -> None:
    masked = open_reference(PlaceModel.open(save_masked_grid_model(tmp_path / "masked.onnx")), threads=1)
    counted = Mock(wraps=masked, model=masked.model)
    loops = detector(counted)
    assert loops.process_batch([]) == []
    assert counted.method_calls == []
    loops.process_batch([frame(i, 1, camera_name=str(i)) for i in range(3)])
    answers = answered(loops.process_batch([frame(i, 2, camera_name=str(i)) for i in range(2)], with_mask=True))
    calls = [(call[0], call.args[0].shape[0]) for call in counted.method_calls]
    assert calls == [("describe", 3), ("describe_with_mask", 2)]
    for place, answer in enumerate(answers):
        np.testing.assert_allclose(answer.mask, describe_image_with_mask(masked, frame(place, 0).image)[1], atol=1e-6)


def test_a_frame_out_of_order_does_not_harm_the_other_cameras(engine: Engine) -> None:
    loops = detector(engine)
    loops.process_batch(rig(0, 10.0))
    late, good = loops.process_batch([frame(1, 9.9, camera_name="front"), frame(REAR + 1, 10.5, camera_name="rear")])
    assert isinstance(late, FrameOrderError)
    assert isinstance(good, PlaceMatch)
    assert len(loops.map) == 3
    assert loops.process(frame(1, 10.1, camera_name="front")).keyframe_id == 3  # older than the rear camera's last


def test_a_camera_whose_clock_is_behind_is_refused_and_says_so(engine: Engine) -> None:
    loops = detector(engine)
    for i in range(3):
        loops.process_batch(rig(i, 10.0 + i))
    front = answered(loops.process_batch([frame(3, 20.0, camera_name="front")]))
    with pytest.raises(FrameOrderError, match=r"of camera rear is 1\.500 s behind the other cameras"):
        loops.process(frame(REAR + 3, 18.5, camera_name="rear"))
    assert loops.process(frame(REAR + 3, 19.0, camera_name="rear")).session == front[0].session == ""


def test_a_clock_that_jumps_back_starts_one_session_for_the_whole_rig(engine: Engine) -> None:
    loops = detector(engine)
    for i in range(3):
        loops.process_batch(rig(i, 100.0 + i, jitter_s=0.2))
    for i in range(3, 8):
        loops.process_batch(rig(i, 100.0 + i, jitter_s=0.2))
    lost = [one for i in range(2) for one in loops.process_batch(rig(50 + i, 5.0 + i, jitter_s=0.2))]
    assert [type(one) for one in lost] == [FrameOrderError] * 2 + [PlaceMatch] * 2
    again = [answered(loops.process_batch(rig(i, 7.0 + i, jitter_s=0.2))) for i in range(3)]
    assert [statuses(pair) for pair in again] == [["ACCEPTED", "ACCEPTED"]] * 3
    assert {match.session for pair in again for match in pair} == {"+"}


def test_a_camera_first_heard_far_behind_starts_no_session_while_another_is_heard(engine: Engine) -> None:
    loops = detector(engine)
    for i in range(5):
        loops.process(rig(i, 100.0 + i)[0])
        with pytest.raises(FrameOrderError, match="do their clocks agree"):
            loops.process(rig(i, 50.0 + i)[1])
    assert loops.session == ""


def test_a_silent_camera_holds_nothing_up(engine: Engine) -> None:
    loops = detector(engine)
    loops.process_batch(rig(0, 0.0))
    for i in range(1, 8):
        loops.process(frame(i, i, camera_name="front"))
    assert loops.process(frame(2, 8.0, camera_name="front")).match.id == 3
    back = loops.process(frame(REAR, 9.0, camera_name="rear"))
    assert back.accepted
    assert (back.match.id, back.match.camera_name) == (1, "rear")


def test_cameras_space_their_keyframes_each_by_its_own_last_one(engine: Engine) -> None:
    """Views of the two cameras differ, but a rig that stands still adds nothing; nor is either a revisit of itself."""
    loops = detector(engine, keyframe__max_similarity=0.95, exclusion__count=1, exclusion__time_s=2.0)
    answers = [match for i in range(10) for match in answered(loops.process_batch(rig(0, i)))]
    assert [k.ref.camera_name for k in loops.map] == ["front", "rear"]
    assert not any(match.accepted for match in answers)
    # the front camera sees something new all the time; the rear camera still stands
    more = [loops.process_batch([frame(i, i, camera_name="front"), rig(0, i)[1]])[1] for i in range(10, 15)]
    found = [(match.status.name, match.match and match.match.id) for match in answered(more)]
    assert (
        found == [("RECENT", None)] * 2 + [("LOW_SCORE", 0)] * 3
    )  # it takes two other views of the front to have left


def test_consistency_is_of_the_queries_of_one_camera(engine: Engine) -> None:
    loops = detector(engine, consistency__window=2, consistency__min_hits=2, exclusion__time_s=10.0)
    for i in range(8):
        loops.process_batch(rig(i, i))  # all recent: they point nowhere
    first = answered(loops.process_batch(rig(1, 20.0)))
    assert statuses(first) == ["INCONSISTENT", "INCONSISTENT"]  # the front camera's answer does not count for the rear
    assert statuses(answered(loops.process_batch(rig(2, 21.0)))) == ["ACCEPTED", "ACCEPTED"]


def test_islands_and_links_count_the_keyframes_of_one_camera(engine: Engine) -> None:
    """Two alike views three places apart are one place with a gap of 3, although six keyframes of a rig lie between."""
    lap = [0, 1, 2, 0, 4, 5, 6, 7, 8, 9, 0]
    for gap, status in ((2, "AMBIGUOUS"), (3, "ACCEPTED")):
        single = visit(detector(engine, match__island_gap=gap), lap)
        loops = detector(engine, match__island_gap=gap)
        pairs = [answered(loops.process_batch(rig(place, i))) for i, place in enumerate(lap)]
        assert [single[-1].status.name, *statuses(pairs[-1])] == [status] * 3


@pytest.mark.parametrize("between", ["nothing", "new parameters", "a map file"])
def test_a_third_lap_of_a_rig_is_not_ambiguous_because_the_second_closed(engine: Engine, between: str) -> None:
    loops = detector(engine)
    for i, place in enumerate([*range(7), *range(7)]):
        loops.process_batch(rig(place, i))
    assert len(loops.map.links) == 14
    if between == "new parameters":
        loops.reconfigure(loops.config)
    elif between == "a map file":
        loops = LoopDetector(loops.config, engine, loops.map, "next day")
    third = [answered(loops.process_batch(rig(place, 14.0 + place))) for place in range(7)]
    assert [statuses(pair) for pair in third] == [["ACCEPTED", "ACCEPTED"]] * 7


def test_a_step_of_odometry_is_counted_once_for_the_rig(engine: Engine) -> None:
    """Whichever camera brings it, and although the rear camera's frames come a little late."""
    path: list[float | None] = []
    loops = detector(engine)
    for i in range(5):
        for name, second in (("front", i), ("rear", i - 0.4)):
            loops.process(frame(i, second, odometry=(2.0 * second, 0.0), camera_name=name))
        path += [k.travelled_m for k in list(loops.map)[-2:]]
    assert path == pytest.approx([0.0, 0.0, 2.0, 2.0, 4.0, 4.0, 6.0, 6.0, 8.0, 8.0])
    loops = detector(engine)
    for i in range(5):  # a camera without odometry does not interrupt the path of the other
        loops.process(frame(i, i, odometry=(2.0 * i, 0.0), camera_name="front"))
        loops.process(frame(i, i + 0.5, camera_name="rear"))
    assert list(loops.map)[-1].travelled_m == pytest.approx(8.0)


def test_the_path_has_no_step_across_a_gap_in_the_odometry_that_no_robot_could_make(engine: Engine) -> None:
    loops = detector(engine)
    for i, position in enumerate(
        [(0.0, 0.0), (1.0, 0.0), None, (3.0, 0.0), None, (80.0, 0.0), (81.0, 0.0), (82.0, 0.0)]
    ):
        loops.process(frame(i, i, odometry=position))
    path = [(k.odometry_segment, k.travelled_m) for k in loops.map if k.odom_from_body is not None]
    assert path == [(0, 0.0), (0, 1.0), (0, 3.0), (1, 0.0)]


def test_without_a_cooldown_a_late_camera_has_none(engine: Engine) -> None:
    for cooldown, rear in ((0.0, "ACCEPTED"), (2.0, "COOLDOWN")):
        loops = detector(engine, match__cooldown_s=cooldown)
        for i in range(8):
            loops.process_batch(rig(i, i))
        assert statuses(answered(loops.process_batch(rig(1, 10.0, jitter_s=0.5)))) == ["ACCEPTED", rear]


def test_behind_a_late_frame_of_another_camera_nothing_recent_is_eligible(engine: Engine) -> None:
    loops = detector(engine, exclusion__time_s=3.0, exclusion__away_similarity=1.0)
    loops.process_batch(rig(0, 10.0, jitter_s=0.5))
    assert loops.process(frame(0, 12.75, camera_name="front")).status is MatchStatus.RECENT  # the rear's is 3.25 s old
    assert loops.process(frame(0, 13.0, camera_name="front")).accepted


@settings(deadline=None, max_examples=40)
@given(events, st.sampled_from([0.0, 1.0, 3.0]), st.sampled_from([0, 0, 1, 3]))
def test_no_camera_of_a_rig_is_ever_matched_with_the_recent_past(
    engine: Engine, events: list[tuple[str, int, int, int]], time_s: float, count: int
) -> None:
    """Exactly, however the cameras' frames are late: of all candidates, none is younger or among the last `count`."""
    loops = detector(engine, exclusion__time_s=time_s, exclusion__count=count, match__top_k=1000)
    seconds = accumulate(step for _, _, step, _ in events)
    for (camera, place, _, late), second in zip(events, seconds, strict=True):
        before = list(loops.map)
        (match,) = loops.process_batch([frame(place, 100.0 + second / 2 + late / 4, camera_name=camera)])
        if isinstance(match, FrameOrderError):
            continue
        own = [k.ref.id for k in before if k.ref.camera_name == camera and k.ref.session == match.session]
        last_own = own[max(0, len(own) - count) :] if count else []
        for candidate in match.candidates:
            seen = candidate.keyframe
            if seen.session == match.session:
                assert match.stamp_ns - seen.stamp_ns >= time_s * 1e9
                assert seen.id not in last_own


BODY = {
    "verification.enabled": True,
    "match.min_similarity": -1.0,  # however well the descriptor knows places, geometry alone has to tell them apart
    "match.max_ambiguity": 1.0,
}


def on_robot(place: int, second: float, shift: int = 0, camera_name: str = "", body: int = 500) -> Frame:
    """As `frame`, with the robot's textured bumper in the lowest quarter."""
    seen = frame(place, second, shift, camera_name=camera_name)
    image = seen.image.copy()
    image[180:] = texture(body, 320, 240)[180:]
    return replace(seen, image=image, camera=None)


@pytest.mark.parametrize("learn_static", [True, False])
def test_a_bumper_closes_no_loops_and_hinders_none(engine: Engine, learn_static: bool) -> None:
    loops = detector(engine, **BODY, verification__learn_static=learn_static)
    away = [loops.process(on_robot(place, place)) for place in range(30)]
    assert not any(match.accepted for match in away)
    back = [loops.process(on_robot(place, 40 + place, shift=12)) for place in range(10, 20)]
    assert [match.match.id for match in back if match.accepted] == list(range(10, 20))
    assert loops.verifier.static_shares.get("", 0.0) == pytest.approx(0.25 if learn_static else 0.0, abs=0.04)


def test_on_the_first_frame_after_a_map_was_loaded(engine: Engine) -> None:
    """Nothing is learnt yet: the two pictures alone decide."""
    loops = detector(engine, **BODY)
    for place in range(12):
        loops.process(on_robot(place, place))
    for place, shift, expected in ((3, 0, True), (3, 12, True), (40, 0, False)):
        later = LoopDetector(loops.config, engine, loops.map, session="later")
        later.verifier._static_regions.clear()
        assert later.process(on_robot(place, 1000, shift)).accepted is expected


@pytest.mark.parametrize("take", [frame, on_robot])
def test_the_same_recording_twice_closes_all_along(engine: Engine, take: Callable[[int, float], Frame]) -> None:
    """Every picture of the second lap is one of the first: nothing in it moved."""
    loops = detector(engine, **BODY)
    first = [loops.process(take(place, place)) for place in range(25)]
    second = [loops.process(take(place, 100 + place)) for place in range(25)]
    assert not any(match.accepted for match in first)
    assert [match.match.id for match in second if match.accepted] == list(range(25))


def test_each_camera_of_a_rig_has_its_own_body(engine: Engine) -> None:
    loops = detector(engine, **BODY)
    for place in range(16):
        loops.process(on_robot(place, place, camera_name="front"))
        loops.process(frame(100 + place, place + 0.1, camera_name="rear"))
    assert loops.verifier.static_shares["front"] == pytest.approx(0.25, abs=0.04)
    assert loops.verifier.static_shares["rear"] < 0.01
    (note,) = loops.verifier.notes
    assert re.match(r"2\d% of the picture of camera front does not change while the robot moves", note)


def test_what_the_user_ignores_takes_no_part(engine: Engine) -> None:
    loops = detector(engine, **BODY, verification__learn_static=False, verification__ignore="0 0.75 1 0.25")
    for place in range(8):
        loops.process(on_robot(place, place))
    found = loops.process(on_robot(3, 20, shift=12))
    assert found.accepted
    assert found.verification is not None
    assert found.verification.still == 0, "the bumper was not even looked at"


def test_an_ignored_region_that_does_not_fit_is_refused_and_leaves_no_trace(engine: Engine, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "mask.png"), np.full((100, 400), 255, np.uint8))
    loops = detector(engine, **BODY, verification__ignore=str(tmp_path / "mask.png"))
    with pytest.raises(ConfigError, match=r"verification\.ignore: the mask image has 400 x 100 px"):
        loops.process(frame(0, 0))
    assert len(loops.map) == 0
    with pytest.raises(ConfigError, match="is not within the picture"):
        detector(engine, verification__ignore="0 0 2 2")
    with pytest.raises(ConfigError, match="is not within the picture"):
        loops.reconfigure(loops.config.with_values({"verification.ignore": "0 0 2 2"}))
    assert loops.config.verification.ignore.endswith("mask.png"), "what is refused changes nothing"


def test_a_map_that_was_replaced_is_given_back_at_once(engine: Engine) -> None:
    """Without the garbage collector, which a robot's large maps would wait for."""
    loops = detector(engine, verification__enabled=True)
    visit(loops, [0, 1, 2, 3, 4, 5, 0])
    old = weakref.ref(loops.map)
    gc.collect()
    gc.disable()
    try:
        loops = detector(engine)
        assert old() is None
    finally:
        gc.enable()
