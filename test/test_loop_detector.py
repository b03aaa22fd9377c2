"""Worlds of textured places, visited in a known order: every answer is known beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from masked_models import save_masked_grid_model
from small_worlds import texture

from vpr_ros.config import Config, EngineConfig
from vpr_ros.engines import Engine, describe_image, describe_image_with_mask, open_engine
from vpr_ros.errors import FrameOrderError, ModelError
from vpr_ros.loop_detector import LoopDetector
from vpr_ros.model import PlaceModel
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
    return open_engine(grid_model, EngineConfig(threads=1))


def detector(engine: Engine, **changes: object) -> LoopDetector:
    values = BASE | {name.replace("__", "."): value for name, value in changes.items()}
    return LoopDetector(Config.from_flat(values), engine)


def frame(place: int, second: float, shift: int = 0, odometry: tuple[float, float] | None = None) -> Frame:
    image = np.ascontiguousarray(texture(place, 360, 240)[:, shift : shift + 320])
    pose = None
    if odometry is not None:
        pose = np.eye(4)
        pose[:2, 3] = odometry
    return Frame(round(second * 1e9), image, CAMERA, pose, "camera")


def visit(loops: LoopDetector, places: Sequence[int], start_s: float = 0.0) -> list[PlaceMatch]:
    """One frame a second."""
    return [loops.process(frame(place, start_s + i)) for i, place in enumerate(places)]


def statuses(matches: Sequence[PlaceMatch]) -> list[str]:
    return [match.status.name for match in matches]


def test_a_revisit_is_found_and_everything_else_has_its_reason(engine: Engine) -> None:
    matches = visit(detector(engine), [0, 1, 2, 3, 4, 5, 6, 7, 1])
    assert statuses(matches) == ["NO_MAP", *["RECENT"] * 4, *["LOW_SCORE"] * 3, "ACCEPTED"]
    last = matches[-1]
    assert (last.match_id, last.match_stamp_ns, last.keyframe_id) == (1, 10**9, 8)
    assert last.similarity == pytest.approx(1.0, abs=1e-5)
    assert last.candidates[0].keyframe_id == 1
    assert last.runner_up is not None
    assert last.runner_up < 0.8


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=25))
def test_against_an_oracle_of_places(engine: Engine, places: list[int]) -> None:
    """Without consistency and geometry, a frame is accepted if and only if its place was seen at least 5 s before."""
    matches = visit(detector(engine, match__max_ambiguity=1.0), places)
    for i, match in enumerate(matches):
        seen = [j for j in range(i) if places[j] == places[i] and i - j >= 5]
        assert match.accepted == bool(seen), statuses(matches)
        if seen:
            assert match.match_id in seen


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
    assert seen.match_id == 1
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


def test_a_clock_that_jumps_back_starts_a_new_session(engine: Engine) -> None:
    loops = detector(engine)
    visit(loops, [0, 1, 2], start_s=100.0)
    again = visit(loops, [0, 1, 5], start_s=0.0)
    assert statuses(again) == ["ACCEPTED", "ACCEPTED", "LOW_SCORE"]
    assert loops.session == "+"
    assert [k.session for k in loops.map.keyframes] == [""] * 3 + ["+"] * 3


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


def test_an_answer_has_the_mask_if_asked_and_it_costs_no_second_inference(tmp_path: Path, engine: Engine) -> None:
    masked = open_engine(PlaceModel.open(save_masked_grid_model(tmp_path / "masked.onnx")), EngineConfig(threads=1))
    counted = Mock(wraps=masked, model=masked.model)
    loops = detector(counted)
    answers = [loops.process(frame(place, place), with_mask=place == 1) for place in range(3)]
    assert [call[0] for call in counted.method_calls] == ["describe", "describe_with_mask", "describe"]
    assert (answers[0].mask, answers[2].mask) == (None, None)
    _, mask = describe_image_with_mask(masked, frame(1, 1).image)
    np.testing.assert_array_equal(answers[1].mask, mask)
    np.testing.assert_array_equal(loops.map.keyframes[1].descriptor, describe_image(engine, frame(1, 1).image))


def test_a_mask_that_the_model_does_not_have(engine: Engine) -> None:
    with pytest.raises(ModelError, match="model grid has no mask"):
        detector(engine).process(frame(0, 0), with_mask=True)
