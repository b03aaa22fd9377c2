"""Metrics of small worlds worked out by hand, and the laws that hold in all of them."""

import json
import math
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vpr_ros.evaluation.ground_truth import GroundTruth
from vpr_ros.evaluation.metrics import Curve, Metrics, Verdict, evaluate, precision_recall
from vpr_ros.types import Candidate, FrameRef, KeyframeRef, MatchStatus, PlaceMatch, Verification

SECOND = 10**9


def frame(stamp: int, session: str = "") -> FrameRef:
    return FrameRef(session, stamp * SECOND)


def truth(places: dict[int, float]) -> GroundTruth:
    """A world on a line: stamp in s -> place in m. The robot is elsewhere in between."""
    poses = np.tile(np.eye(4), (len(places), 1, 1))
    poses[:, 0, 3] = list(places.values())
    return GroundTruth([frame(stamp) for stamp in places], poses)


def keyframe(second: int, session: str = "") -> KeyframeRef:
    return KeyframeRef("", session, 3 * second + 1, second * SECOND)


def answer(
    stamp: int, status: MatchStatus, candidates: dict[int, float] | None = None, inliers: int | None = None
) -> PlaceMatch:
    """An answer whose keyframes are named by their stamps in s; the first candidate is the match."""
    first = next(iter(candidates or {}), None)
    return PlaceMatch(
        stamp * SECOND,
        status,
        match=None if first is None else keyframe(first),
        similarity=None if first is None else (candidates or {})[first],
        verification=None if inliers is None else Verification(inliers, 0.5, 0.5),
        candidates=tuple(Candidate(keyframe(s), similarity) for s, similarity in (candidates or {}).items()),
    )


def measure(world: GroundTruth, answers: list[PlaceMatch]) -> Metrics:
    return evaluate(answers, world, [frame(s) for s in range(200)])


A, LOW, GEO, NO_MAP = MatchStatus.ACCEPTED, MatchStatus.LOW_SCORE, MatchStatus.GEOMETRY, MatchStatus.NO_MAP

# Places 0, 100, 200 and 300 m are seen once, then: 100 (right), 200 (wrong first, right second), 0 (low score),
# 308 (8 m off: not asked for, yet correct), 400 (never seen), 0 (no pose).
WORLD = truth({0: 0, 1: 100, 2: 200, 3: 300, 50: 100, 51: 200, 52: 0, 53: 308, 54: 400, 56: 2})
ANSWERS = [
    answer(0, NO_MAP),
    *(answer(s, MatchStatus.RECENT) for s in (1, 2, 3)),
    answer(50, A, {1: 0.9, 0: 0.2}, inliers=40),
    answer(51, A, {0: 0.8, 2: 0.7}, inliers=25),
    answer(52, LOW, {0: 0.3}),
    answer(53, A, {3: 0.95}, inliers=50),
    answer(54, GEO, {3: 0.8}, inliers=5),
    answer(55, A, {0: 0.99}, inliers=90),
]


# There, elsewhere and back.
LAP = truth({0: 0, 25: 100, 50: 0})


def test_counts_of_a_world_worked_out_by_hand() -> None:
    m = measure(WORLD, ANSWERS)
    assert (m.queries, m.without_pose, m.revisits) == (9, 1, 3)
    assert (m.recall_at_1, m.recall_at_5) == (2 / 3, 1.0)
    assert (m.accepted, m.accepted_true, m.accepted_false) == (4, 1, 1)
    assert (m.precision, m.recall) == (1 / 2, 1 / 3)
    assert m.statuses[A] == 4
    assert m.statuses[MatchStatus.RECENT] == 3
    assert m.statuses[MatchStatus.COOLDOWN] == 0


def test_curves_of_a_world_worked_out_by_hand() -> None:
    m = measure(WORLD, ANSWERS)
    # the two wrong answers of 0.8 come together; 0.95 counts neither way and 0.99 has no pose
    assert m.descriptor.thresholds.tolist() == [0.9, 0.8, 0.3]
    assert m.descriptor.precision.tolist() == [1.0, 1 / 3, 1 / 2]
    assert m.descriptor.recall.tolist() == [1 / 3, 1 / 3, 2 / 3]
    assert m.descriptor.average_precision == pytest.approx(1 / 3 + 1 / 3 * 1 / 2)
    assert m.descriptor.max_recall_at_full_precision == 1 / 3
    assert m.descriptor.f1_max == pytest.approx(2 * 2 / (2 * 2 + 2 + 1))
    assert m.verified is not None
    assert m.verified.thresholds.tolist() == [40, 25, 5]
    assert m.verified.precision.tolist() == [1.0, 1 / 2, 1 / 3]
    assert m.verified.recall.tolist() == [1 / 3] * 3


def test_verdicts_of_a_world_worked_out_by_hand() -> None:
    judgements = measure(WORLD, ANSWERS).judgements
    assert [j.verdict for j in judgements] == [Verdict.QUIET] * 4 + [
        Verdict.TRUE,
        Verdict.FALSE,
        Verdict.MISSED,
        Verdict.BORDERLINE,
        Verdict.QUIET,
        Verdict.UNKNOWN,
    ]
    assert judgements[5].revisit == frame(2)
    assert judgements[5].distance_m == 200.0
    assert judgements[6].revisit == frame(0)
    assert judgements[9].revisit is None
    assert [j.is_right for j in judgements] == [None] * 4 + [True, False, True, True, False, None]


def test_a_match_too_recent_is_wrong() -> None:
    m = measure(truth({0: 0, 10: 0}), [answer(10, A, {0: 0.9})])
    assert (m.revisits, m.accepted_false, m.precision) == (0, 1, 0.0)


def test_a_closure_with_a_frame_without_a_pose_is_left_out_of_both_sides() -> None:
    m = measure(LAP, [answer(0, NO_MAP), answer(50, A, {7: 0.9}, inliers=30)])
    assert (m.queries, m.undecided, m.revisits, m.accepted) == (1, 1, 0, 1)
    assert (m.precision, m.recall, m.recall_at_1, m.recall_at_5) == (None,) * 4
    assert m.descriptor.average_precision is None
    assert m.verified is not None
    assert m.verified.average_precision is None
    assert m.judgements[1].verdict is Verdict.UNKNOWN


def test_a_candidate_without_a_pose_leaves_open_whether_it_was_the_place() -> None:
    rejected = [answer(0, NO_MAP), answer(50, LOW, {7: 0.9, 0: 0.8})]
    assert measure(LAP, rejected).recall_at_1 is None
    assert measure(LAP, rejected).recall_at_5 == 1.0
    assert measure(LAP, rejected).recall == 0.0


def test_a_robot_that_waits_gets_no_credit_for_closing_with_itself() -> None:
    waits = truth({0: 100, **dict.fromkeys(range(1, 60), 0)})
    m = measure(waits, [answer(0, NO_MAP), answer(5, LOW), answer(50, A, {5: 0.99}, inliers=900)])
    assert (m.revisits, m.accepted_true, m.accepted_false) == (0, 0, 1)
    assert m.judgements[2].verdict is Verdict.FALSE


def test_where_no_pose_tells_whether_the_robot_left_nothing_is_judged() -> None:
    unknown = truth({0: 0, 5: 0, **dict.fromkeys(range(6, 40), math.nan), **dict.fromkeys(range(40, 60), 0)})
    m = measure(unknown, [answer(5, NO_MAP), answer(20, LOW), answer(50, A, {5: 0.99})])
    assert (m.queries, m.without_pose, m.undecided, m.revisits) == (1, 1, 1, 0)
    assert m.precision is None
    # but a closure with another place is wrong whatever happened in between
    far = truth({0: 300, 5: 0, **dict.fromkeys(range(6, 40), math.nan), **dict.fromkeys(range(40, 60), 0)})
    m = measure(far, [answer(0, NO_MAP), answer(5, NO_MAP), answer(50, A, {0: 0.99})])
    assert (m.queries, m.accepted_false, m.precision) == (3, 1, 0.0)


def test_frames_of_two_sessions_with_one_stamp_are_two_frames() -> None:
    """The clock restarts: second 3 of the second drive is at the place of second 1 of the first, not of its second 3."""
    first = {s: 100.0 * s for s in range(10)}
    second = {s: 100.0 * s - 200 for s in range(3, 10)}
    frames = [frame(s, "a") for s in first] + [frame(s, "a+") for s in second]
    poses = np.tile(np.eye(4), (len(frames), 1, 1))
    poses[:, 0, 3] = [*first.values(), *second.values()]
    keyframes = frames[:10]

    def closure(s: int, match: int) -> PlaceMatch:
        return PlaceMatch(
            s * SECOND, A, match=keyframe(match, "a"), session="a+", similarity=0.9,
            candidates=(Candidate(keyframe(match, "a"), 0.9),), verification=Verification(30, 0.5, 0.5),
        )  # fmt: skip

    answers = [PlaceMatch(f.stamp_ns, NO_MAP, session="a") for f in frames[:10]]
    m = evaluate([*answers, closure(3, 1), closure(4, 2), closure(5, 5)], GroundTruth(frames, poses), keyframes)
    assert (m.revisits, m.accepted_true, m.accepted_false) == (3, 2, 1)
    assert m.recall_at_1 == 2 / 3
    assert m.judgements[-1].revisit == frame(3, "a")


def test_without_verification_there_are_no_figures_of_it() -> None:
    keyframes = [frame(s) for s in range(200)]
    m = evaluate(ANSWERS, WORLD, keyframes, verification=False)
    assert m.verified is None
    assert m.to_dict()["verified"] is None


def test_a_truth_of_few_frames_is_warned_of() -> None:
    assert measure(WORLD, ANSWERS).coverage == 0.9
    assert measure(WORLD, ANSWERS).warning is None
    few = measure(truth({0: 0}), ANSWERS)
    assert few.coverage == 0.1
    assert few.warning is not None
    assert "1 of 10 frames (10 %)" in few.warning
    assert "none of 10 frames" in (measure(truth({}), ANSWERS).warning or "")
    assert measure(WORLD, []).warning is None


def test_keyframes_of_a_loaded_map_can_be_revisited() -> None:
    assert evaluate([answer(50, LOW)], LAP, []).revisits == 0
    assert evaluate([answer(50, LOW)], LAP, [frame(0)]).revisits == 1


def test_no_queries() -> None:
    m = measure(WORLD, [])
    assert (m.queries, m.revisits, m.accepted) == (0, 0, 0)
    assert (m.precision, m.recall, m.recall_at_1, m.recall_at_5) == (None,) * 4
    assert m.judgements == ()
    assert len(m.descriptor.thresholds) == 0


def test_no_loops() -> None:
    m = measure(truth({0: 0, 50: 100}), [answer(0, NO_MAP), answer(50, A, {0: 0.4}, inliers=9)])
    assert (m.revisits, m.precision, m.recall) == (0, 0.0, None)
    assert m.descriptor.average_precision is None
    assert m.descriptor.to_dict()["recall"] == [None]


def test_all_rejected() -> None:
    m = measure(LAP, [answer(0, NO_MAP), answer(50, LOW)])
    assert (m.revisits, m.accepted, m.precision, m.recall) == (1, 0, None, 0.0)
    assert m.descriptor.average_precision == m.descriptor.max_recall_at_full_precision == m.descriptor.f1_max == 0.0


def test_zero_inliers_retrieve_nothing() -> None:
    m = measure(LAP, [answer(0, NO_MAP), answer(50, GEO, {0: 0.9}, inliers=0)])
    assert m.verified is not None
    assert len(m.verified.thresholds) == 0
    assert m.descriptor.average_precision == 1.0


def test_metrics_become_json() -> None:
    data = json.loads(json.dumps(measure(WORLD, ANSWERS).to_dict(), allow_nan=False))
    assert data["statuses"]["accepted"] == 4
    assert data["descriptor"]["thresholds"] == [0.9, 0.8, 0.3]
    assert data["protocol"]["revisit_m"] == 5.0
    assert "judgements" not in data


ANSWER_SETS = st.lists(
    st.tuples(st.sampled_from([math.nan, 0.1, 0.2, 0.3, 0.5, 0.9]), st.sampled_from(["true", "false", "ignored"])),
    max_size=40,
)


def curve_of(answers: list[tuple[float, str]], unanswered: int) -> Curve:
    scores = np.array([score for score, _ in answers], dtype=np.float64)
    true = np.array([kind == "true" for _, kind in answers], dtype=bool)
    false = np.array([kind == "false" for _, kind in answers], dtype=bool)
    return precision_recall(scores, true, false, int(true.sum()) + unanswered)


@settings(deadline=None)
@given(ANSWER_SETS, st.integers(0, 5))
def test_a_curve_is_that_of_the_oracle(answers: list[tuple[float, str]], unanswered: int) -> None:
    """The oracle counts again at every threshold."""
    curve = curve_of(answers, unanswered)
    revisits = sum(kind == "true" for _, kind in answers) + unanswered
    points, last_recall, average, full, f1 = [], 0.0, 0.0, 0.0, 0.0
    for threshold in sorted({score for score, _ in answers if score == score}, reverse=True):
        retrieved = [kind for score, kind in answers if score >= threshold and kind != "ignored"]
        if not any(score == threshold and kind != "ignored" for score, kind in answers):
            continue
        right = retrieved.count("true")
        precision = right / len(retrieved)
        recall = right / revisits if revisits else math.nan
        points.append((threshold, precision, recall))
        average += (recall - last_recall) * precision
        last_recall = recall
        full = recall if precision == 1.0 else full
        f1 = max(f1, 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0)
    actual = np.column_stack([curve.thresholds, curve.precision, curve.recall])
    np.testing.assert_allclose(actual, np.array(points).reshape(-1, 3))
    if revisits == 0:
        assert (curve.average_precision, curve.max_recall_at_full_precision, curve.f1_max) == (None, None, None)
    else:
        assert curve.average_precision == pytest.approx(average)
        assert curve.max_recall_at_full_precision == pytest.approx(full)
        assert curve.f1_max == pytest.approx(f1)


@settings(deadline=None)
@given(ANSWER_SETS, st.integers(1, 5))
def test_laws_of_curves(answers: list[tuple[float, str]], unanswered: int) -> None:
    curve = curve_of(answers, unanswered)
    assert (np.diff(curve.thresholds) < 0).all()
    assert (np.diff(curve.recall) >= 0).all()
    assert ((curve.precision >= 0) & (curve.precision <= 1)).all()
    highest = curve.recall.max(initial=0.0)
    assert curve.max_recall_at_full_precision is not None
    assert curve.average_precision is not None
    assert curve.max_recall_at_full_precision <= curve.average_precision + 1e-12 <= highest + 2e-12
    assert highest < 1.0  # some revisits have no answer


@settings(deadline=None)
@given(ANSWER_SETS, st.integers(0, 5), st.randoms())
def test_the_order_of_answers_does_not_matter(
    answers: list[tuple[float, str]], unanswered: int, random: Random
) -> None:
    shuffled = list(answers)
    random.shuffle(shuffled)
    assert curve_of(shuffled, unanswered).to_dict() == curve_of(answers, unanswered).to_dict()


@settings(deadline=None)
@given(st.data())
def test_laws_of_metrics(data: st.DataObject) -> None:
    count = data.draw(st.integers(0, 25))
    cells = st.sampled_from([0, 4, 8, 100])
    places = {s: data.draw(cells) for s in range(count) if data.draw(st.booleans()) or s % 3}
    answers = []
    for s in range(count):
        shown = data.draw(st.lists(st.integers(0, s), max_size=6, unique=True))
        candidates = {k: round(1 - 0.1 * rank, 1) for rank, k in enumerate(shown)}
        status = data.draw(st.sampled_from([A, GEO])) if shown else NO_MAP
        answers.append(answer(s, status, candidates, data.draw(st.none() | st.integers(0, 3)) if shown else None))
    m = measure(truth(places), answers)
    assert m.queries + m.without_pose + m.undecided == m.frames == count
    assert m.verified is not None
    assert m.accepted_true + m.accepted_false <= m.accepted
    assert m.accepted_true <= m.revisits <= m.queries
    assert sum(m.statuses.values()) == len(m.judgements) == count
    verdicts = [j.verdict for j in m.judgements]
    assert (verdicts.count(Verdict.TRUE), verdicts.count(Verdict.FALSE)) == (m.accepted_true, m.accepted_false)
    if m.revisits:
        assert all(0 <= recall <= 1 for recall in (m.recall, m.recall_at_1, m.recall_at_5) if recall is not None)
    if m.recall_at_1 is not None:
        assert m.descriptor.recall.max(initial=0.0) == m.recall_at_1
    json.dumps(m.to_dict(), allow_nan=False)
