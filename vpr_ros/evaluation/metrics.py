"""How good the answers were: recall@k, precision-recall curves and the accepted loop closures, against ground truth.

Common to all numbers: queries without a pose are left out and counted. A correct match of a query that has no true
revisit (it lies between `revisit_m` and `match_m`) is ignored: neither a success nor an error. A match whose keyframe
has no pose is ignored too.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vpr_ros.errors import VprError
from vpr_ros.evaluation.ground_truth import NO_STAMP, Comparison, GroundTruth, Protocol, Revisits
from vpr_ros.types import MatchStatus, PlaceMatch

_TOP_K = 5


class Verdict(Enum):
    """What an answer was worth. Its value is the reason for people."""

    TRUE = "accepted and correct"
    FALSE = "accepted and wrong"
    MISSED = "a true revisit, not accepted"
    BORDERLINE = "accepted and correct, but too far away to be asked for"
    QUIET = "no revisit, and none reported"
    UNKNOWN = "a pose is missing, so it cannot be judged"


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict on one query, with the nearest true revisit and how far off the match was, where known."""

    verdict: Verdict
    revisit_stamp_ns: int | None = None
    distance_m: float | None = None
    angle_deg: float | None = None


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

    `queries` have a pose, `without_pose` frames have none; `revisits` of the queries have a true revisit. `recall_at_1`
    and `recall_at_5` are shares of the revisits with a correct match among the first candidates. `descriptor` scores the
    first candidate by its similarity; `verified` scores the match by its inliers, where verification got that far.
    `accepted` counts all accepted matches; `accepted_true` and `accepted_false` those that count either way, of which
    `precision` and `recall` are. `statuses` counts all frames. `judgements` holds one per match, in order.
    """

    protocol: Protocol
    queries: int
    without_pose: int
    revisits: int
    recall_at_1: float | None
    recall_at_5: float | None
    descriptor: Curve
    verified: Curve
    accepted: int
    accepted_true: int
    accepted_false: int
    precision: float | None
    recall: float | None
    statuses: dict[MatchStatus, int]
    judgements: tuple[Judgement, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, without the judgements of single frames."""
        names = [field.name for field in dataclasses.fields(self) if field.name != "judgements"]
        return {name: _plain(getattr(self, name)) for name in names}


def evaluate(matches: Sequence[PlaceMatch], truth: GroundTruth, keyframe_stamps: Mapping[int, int]) -> Metrics:
    """Metrics of one run.

    `matches` holds one answer per frame, rejected ones too; `keyframe_stamps` gives the stamp in ns of each keyframe id
    that appears among the candidates. Revisits are looked for among these frames and keyframes, not among poses that
    the robot was never shown an image of. Raises VprError for a candidate whose keyframe has no stamp.
    """
    queries_ns = np.array([match.stamp_ns for match in matches], dtype=np.int64)
    keyframes_ns = np.fromiter(keyframe_stamps.values(), dtype=np.int64, count=len(keyframe_stamps))
    revisits = truth.revisits(queries_ns, np.concatenate([queries_ns, keyframes_ns]))
    count = int(revisits.exist.sum())

    candidates_ns = _candidate_stamps(matches, keyframe_stamps)
    hits = _hits(queries_ns, candidates_ns, truth)
    similarity = np.array([m.candidates[0].similarity if m.candidates else np.nan for m in matches], dtype=np.float64)
    descriptor = _outcomes(truth.compare(queries_ns, candidates_ns[:, 0]), revisits)

    matched_ns = np.array([_or(match.match_stamp_ns, NO_STAMP) for match in matches], dtype=np.int64)
    comparison = truth.compare(queries_ns, matched_ns)
    final = _outcomes(comparison, revisits)
    accepted = np.array([match.accepted for match in matches], dtype=bool)
    true, false = int((accepted & final.true).sum()), int((accepted & final.false).sum())
    return Metrics(
        protocol=truth.protocol,
        queries=len(matches) - revisits.without_pose,
        without_pose=revisits.without_pose,
        revisits=count,
        recall_at_1=_ratio(int((hits[:, :1].any(axis=1) & revisits.exist).sum()), count),
        recall_at_5=_ratio(int((hits.any(axis=1) & revisits.exist).sum()), count),
        descriptor=precision_recall(similarity, descriptor.true, descriptor.false, count),
        verified=precision_recall(_inliers(matches), final.true, final.false, count),
        accepted=int(accepted.sum()),
        accepted_true=true,
        accepted_false=false,
        precision=_ratio(true, true + false),
        recall=_ratio(true, count),
        statuses=count_statuses(matches),
        judgements=_judgements(accepted, comparison, final, revisits),
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


def _candidate_stamps(matches: Sequence[PlaceMatch], keyframe_stamps: Mapping[int, int]) -> NDArray[np.int64]:
    """(Q, 5) stamps of the first candidates, NO_STAMP where there are fewer."""
    stamps = np.full((len(matches), _TOP_K), NO_STAMP, dtype=np.int64)
    for row, match in zip(stamps, matches, strict=True):
        for k, candidate in enumerate(match.candidates[:_TOP_K]):
            if candidate.keyframe_id not in keyframe_stamps:
                raise VprError(f"candidate keyframe {candidate.keyframe_id} has no stamp in keyframe_stamps")
            row[k] = keyframe_stamps[candidate.keyframe_id]
    return stamps


def _hits(queries_ns: NDArray[np.int64], candidates_ns: NDArray[np.int64], truth: GroundTruth) -> NDArray[np.bool_]:
    repeated = np.repeat(queries_ns, candidates_ns.shape[1])
    return truth.compare(repeated, candidates_ns.ravel()).correct.reshape(candidates_ns.shape)


def _inliers(matches: Sequence[PlaceMatch]) -> NDArray[np.float64]:
    """(Q,) inliers; NaN where no geometry was found, which retrieves nothing."""
    inliers = [match.verification.inliers if match.verification else 0 for match in matches]
    return np.array([count or np.nan for count in inliers], dtype=np.float64)


def _judgements(
    accepted: NDArray[np.bool_], comparison: Comparison, final: _Outcomes, revisits: Revisits
) -> tuple[Judgement, ...]:
    facts = zip(accepted, revisits.has_pose, revisits.exist, comparison.known, final.true, final.false, strict=True)
    verdicts = (_verdict(*map(bool, row)) for row in facts)
    errors = zip(comparison.distance_m, comparison.angle_deg, strict=True)
    return tuple(
        Judgement(verdict, None if stamp == NO_STAMP else int(stamp), _plain(distance), _plain(angle))
        for verdict, stamp, (distance, angle) in zip(verdicts, revisits.stamps_ns, errors, strict=True)
    )


def _verdict(accepted: bool, has_pose: bool, revisit: bool, known: bool, true: bool, false: bool) -> Verdict:
    if not has_pose or (accepted and not known):
        return Verdict.UNKNOWN
    if not accepted:
        return Verdict.MISSED if revisit else Verdict.QUIET
    if true:
        return Verdict.TRUE
    return Verdict.FALSE if false else Verdict.BORDERLINE


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _or(value: int | None, default: int) -> int:
    return default if value is None else value


def _plain(value: Any) -> Any:
    """Python numbers, lists and dicts for JSON."""
    if isinstance(value, np.ndarray):
        return [_plain(item) for item in value.tolist()]
    if isinstance(value, float | np.floating):
        return None if np.isnan(value) else float(value)
    if isinstance(value, Curve):
        return value.to_dict()
    if isinstance(value, Protocol):
        return dataclasses.asdict(value) | {"text": value.describe()}
    if isinstance(value, dict):
        return {key.name.lower() if isinstance(key, MatchStatus) else key: _plain(item) for key, item in value.items()}
    return value
