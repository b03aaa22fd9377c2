"""How good the answers were: recall@k, precision-recall curves and the accepted loop closures, against ground truth.

Common to all numbers: what cannot be judged is left out on both sides, and counted. That are queries without a pose, or of
which the truth does not tell whether they revisit, and queries whose answer is a frame without a pose. A correct match of a
query that has no true revisit (it lies between `revisit_m` and `match_m`) is ignored: neither a success nor an error.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vpr_ros.evaluation.ground_truth import NO_FRAME, Comparison, GroundTruth, RevisitProtocol, Revisits
from vpr_ros.types import FrameRef, MatchStatus, PlaceMatch

_TOP_K = 5
LOW_COVERAGE = 0.9
"""With poses for a smaller share of the frames than this, figures are of a part of the drive, and say so."""


class Verdict(Enum):
    """What an answer was worth. Its value is the reason for people."""

    TRUE = "accepted and correct"
    FALSE = "accepted and wrong"
    MISSED = "a true revisit, not accepted"
    BORDERLINE = "accepted and correct, but too far away to count as a revisit"
    QUIET = "no revisit, and none reported"
    UNKNOWN = "a pose is missing, of the frame, its match or in between, so it cannot be judged"


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict on one query, with the nearest true revisit and how far off the match was, where known.

    `is_right`: whether its match, accepted or not, is of the same place; None where there is none, or it cannot be judged.
    """

    verdict: Verdict
    revisit: FrameRef | None = None
    distance_m: float | None = None
    angle_deg: float | None = None
    is_right: bool | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Precision and recall, (K,) float64 each, where everything that scores at least `thresholds[k]` is retrieved.

    Thresholds fall strictly, so equal scores are always taken together. `recall` is NaN, and the numbers below are
    None, if there is no true revisit. `average_precision` is sum_k (recall_k - recall_(k-1)) precision_k, without
    interpolation; what is never retrieved adds nothing. `max_recall_at_full_precision` is 0 where the best score is
    already wrong.
    """

    thresholds: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    average_precision: float | None
    max_recall_at_full_precision: float | None
    f1_max: float | None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; NaN becomes None."""
        return {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self)}


@dataclass(frozen=True, slots=True, eq=False)
class Metrics:
    """All numbers of one run. Ratios are in [0, 1], and None where their denominator is 0.

    `queries` are judged, of which `revisits` have a true revisit. `without_pose` frames have no pose, and `undecided` ones are
    not judged for other reasons: of their match, or of the time in between, no pose is known. `recall_at_1` and
    `recall_at_5` are shares of the revisits with a correct match among the first candidates; those without one, but with
    a candidate that cannot be judged, are left out. `descriptor` scores the first candidate by its similarity; `verified`
    scores the match by its inliers, where verification got that far, and is None where it was off. `accepted` counts all accepted matches; `accepted_true` and `accepted_false` those that count either way, of which
    `precision` and `recall` are. `statuses` counts all frames. `judgements` holds one per match, in order.
    """

    protocol: RevisitProtocol
    queries: int
    without_pose: int
    undecided: int
    revisits: int
    recall_at_1: float | None
    recall_at_5: float | None
    descriptor: Curve
    verified: Curve | None
    accepted: int
    accepted_true: int
    accepted_false: int
    precision: float | None
    recall: float | None
    statuses: dict[MatchStatus, int]
    judgements: tuple[Judgement, ...]

    @property
    def frames(self) -> int:
        """All that were answered."""
        return self.queries + self.without_pose + self.undecided

    @property
    def coverage(self) -> float | None:
        """The share of the frames that have a pose."""
        return _ratio(self.frames - self.without_pose, self.frames)

    @property
    def warning(self) -> str | None:
        """What to know before one of these numbers is believed."""
        if self.coverage is None or self.coverage >= LOW_COVERAGE:
            return None
        covered = self.frames - self.without_pose
        if not covered:
            return f"the ground truth covers none of {self.frames} frames: nothing is judged"
        return (
            f"the ground truth covers {covered} of {self.frames} frames ({100 * self.coverage:.0f} %): "
            "precision and recall are of these alone"
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, without the judgements of single frames."""
        names = [field.name for field in dataclasses.fields(self) if field.name != "judgements"]
        return {name: _plain(getattr(self, name)) for name in [*names, "coverage", "warning"]}


def evaluate(
    matches: Sequence[PlaceMatch], truth: GroundTruth, keyframes: Collection[FrameRef], *, verification: bool = True
) -> Metrics:
    """Metrics of one run.

    `matches` holds one answer per frame, rejected ones too; `keyframes` are the frames of the map. Revisits are looked for among
    both, not among poses that the robot was never shown an image of. `verification` tells whether there was any.
    """
    queries = truth.indices(match.frame for match in matches)
    revisits = truth.revisits(queries, np.concatenate([queries, truth.indices(keyframes)]))

    candidates, exists = _candidates(matches, truth)
    ranked = _compare_all(queries, candidates, truth)
    similarity = np.array([m.candidates[0].similarity if m.candidates else np.nan for m in matches], dtype=np.float64)
    unknown = exists & ~ranked.known.reshape(exists.shape)
    hits = ranked.correct.reshape(exists.shape)
    first = _rows(ranked, np.arange(len(matches)) * _TOP_K)

    comparison = truth.compare(queries, truth.indices(match.match_frame for match in matches))
    has_match = np.array([match.match is not None for match in matches], dtype=bool)
    accepted = np.array([match.accepted for match in matches], dtype=bool)
    wrong = comparison.known & ~comparison.correct
    judged = np.where(accepted, comparison.known & (wrong | ~revisits.undecided), revisits.judged)
    asked = revisits.exist & judged
    count = int(asked.sum())
    final = _outcomes(comparison, revisits)
    true, false = int((accepted & judged & final.true).sum()), int((accepted & judged & final.false).sum())
    descriptor = _outcomes(first, revisits)
    without_pose = int((~revisits.has_pose).sum())
    return Metrics(
        protocol=truth.protocol,
        queries=int(judged.sum()),
        without_pose=without_pose,
        undecided=len(matches) - without_pose - int(judged.sum()),
        revisits=count,
        recall_at_1=_recall_at(1, hits, unknown, revisits),
        recall_at_5=_recall_at(5, hits, unknown, revisits),
        descriptor=precision_recall(
            similarity, descriptor.true, descriptor.false, int((revisits.exist & ~unknown[:, 0]).sum())
        ),
        verified=precision_recall(
            _inliers(matches), final.true, final.false, int((revisits.exist & ~(has_match & ~comparison.known)).sum())
        )
        if verification
        else None,
        accepted=int(accepted.sum()),
        accepted_true=true,
        accepted_false=false,
        precision=_ratio(true, true + false),
        recall=_ratio(true, count),
        statuses=count_statuses(matches),
        judgements=_judgements(truth, accepted, judged, comparison, final, revisits),
    )


def precision_recall(
    scores: NDArray[np.float64], true: NDArray[np.bool_], false: NDArray[np.bool_], revisits: int
) -> Curve:
    """The curve of answers (Q,) with `scores` (higher is better, NaN: no answer), right where `true`, wrong where `false`.

    Answers that are neither are ignored. Recall is of `revisits`, of which some may have no answer at all.
    """
    counted = np.flatnonzero((true | false) & ~np.isnan(scores))
    order = counted[np.argsort(-scores[counted], kind="stable")]
    descending = scores[order]
    last_of_tie = np.flatnonzero(np.append(descending[1:] != descending[:-1], True)[: len(order)])
    right = np.cumsum(true[order])[last_of_tie]
    wrong = np.cumsum(false[order])[last_of_tie]
    precision = right / (right + wrong)
    thresholds = descending[last_of_tie]
    if revisits == 0:
        return Curve(thresholds, precision, np.full(len(precision), np.nan), None, None, None)
    recall = right / revisits
    return Curve(
        thresholds,
        precision,
        recall,
        average_precision=float(np.sum(np.diff(recall, prepend=0.0) * precision)),
        max_recall_at_full_precision=float(recall[wrong == 0].max(initial=0.0)),
        # F1 = 2 TP / (2 TP + FP + FN), and TP + FN are the revisits
        f1_max=float((2 * right / (right + wrong + revisits)).max(initial=0.0)),
    )


def count_statuses(matches: Sequence[PlaceMatch]) -> dict[MatchStatus, int]:
    """How often each status occurred, in the order of MatchStatus, zeros included."""
    counts = Counter(match.status for match in matches)
    return {status: counts[status] for status in MatchStatus}


@dataclass(frozen=True, slots=True, eq=False)
class _Outcomes:
    """(Q,) bool: right and wrong matches; those that are neither count neither way."""

    true: NDArray[np.bool_]
    false: NDArray[np.bool_]


def _outcomes(comparison: Comparison, revisits: Revisits) -> _Outcomes:
    return _Outcomes(comparison.correct & revisits.exist, comparison.known & ~comparison.correct)


def _candidates(matches: Sequence[PlaceMatch], truth: GroundTruth) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """(Q, 5) indices of the first candidates, NO_FRAME where there are fewer or no pose is known; and which there are."""
    frames: list[FrameRef | None] = []
    for match in matches:
        first = [candidate.keyframe.frame for candidate in match.candidates[:_TOP_K]]
        frames += [*first, *[None] * (_TOP_K - len(first))]
    exists = np.array([frame is not None for frame in frames], dtype=bool)
    return truth.indices(frames).reshape(-1, _TOP_K), exists.reshape(-1, _TOP_K)


def _compare_all(queries: NDArray[np.intp], candidates: NDArray[np.intp], truth: GroundTruth) -> Comparison:
    """Each query with each of its candidates, (Q K,)."""
    return truth.compare(np.repeat(queries, candidates.shape[1]), candidates.ravel())


def _rows(comparison: Comparison, rows: NDArray[np.intp]) -> Comparison:
    return Comparison(*(getattr(comparison, field.name)[rows] for field in dataclasses.fields(comparison)))


def _recall_at(k: int, hits: NDArray[np.bool_], unknown: NDArray[np.bool_], revisits: Revisits) -> float | None:
    """Of the queries with a true revisit, those with a hit among the first `k`; without one but with unknown ones: no query."""
    hit = hits[:, :k].any(axis=1)
    asked = revisits.exist & (hit | ~unknown[:, :k].any(axis=1))
    return _ratio(int((hit & asked).sum()), int(asked.sum()))


def _inliers(matches: Sequence[PlaceMatch]) -> NDArray[np.float64]:
    """(Q,) inliers; NaN where no geometry was found, which retrieves nothing."""
    inliers = [match.verification.inliers if match.verification else 0 for match in matches]
    return np.array([count or np.nan for count in inliers], dtype=np.float64)


def _judgements(
    truth: GroundTruth,
    accepted: NDArray[np.bool_],
    judged: NDArray[np.bool_],
    comparison: Comparison,
    final: _Outcomes,
    revisits: Revisits,
) -> tuple[Judgement, ...]:
    facts = zip(accepted, judged, revisits.exist, final.true, final.false, strict=True)
    verdicts = (_verdict(*map(bool, row)) for row in facts)
    errors = zip(comparison.distance_m, comparison.angle_deg, strict=True)
    right = (
        bool(is_right) if is_known else None
        for is_right, is_known in zip(comparison.correct, comparison.known, strict=True)
    )
    return tuple(
        Judgement(
            verdict, None if frame == NO_FRAME else truth.frames[frame], _plain(distance), _plain(angle), is_right
        )
        for verdict, frame, (distance, angle), is_right in zip(verdicts, revisits.frames, errors, right, strict=True)
    )


def _verdict(accepted: bool, judged: bool, revisit: bool, true: bool, false: bool) -> Verdict:
    if not judged:
        return Verdict.UNKNOWN
    if not accepted:
        return Verdict.MISSED if revisit else Verdict.QUIET
    if true:
        return Verdict.TRUE
    return Verdict.FALSE if false else Verdict.BORDERLINE


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _plain(value: Any) -> Any:
    """Python numbers, lists and dicts for JSON."""
    if isinstance(value, np.ndarray):
        return [_plain(item) for item in value.tolist()]
    if isinstance(value, float | np.floating):
        return None if np.isnan(value) else float(value)
    if isinstance(value, Curve):
        return value.to_dict()
    if isinstance(value, RevisitProtocol):
        return dataclasses.asdict(value) | {"max_gap_s": value.gap_s, "text": value.describe()}
    if isinstance(value, dict):
        return {key.name.lower() if isinstance(key, MatchStatus) else key: _plain(item) for key, item in value.items()}
    return value
