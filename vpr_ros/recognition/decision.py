"""Is it a loop closure? From the numbers behind an answer to its status: pure, so that a run's answers can be decided again."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from vpr_ros.config import Config, MatchConfig, OdometryConfig, VerificationConfig
from vpr_ros.recognition.matching import Now
from vpr_ros.types import Keyframe, MatchStatus, OdometryFix, PlaceMatch, Pose, Verification


def retrieval_status(match: PlaceMatch, config: Config) -> MatchStatus:
    """Decides by descriptors, for an answer that names a match."""
    if match.similarity is None or match.similarity < config.match.min_similarity:
        return MatchStatus.LOW_SCORE
    if is_ambiguous(match.similarity, match.runner_up, config.match.max_ambiguity):
        return MatchStatus.AMBIGUOUS
    return MatchStatus.ACCEPTED if match.consistent_count >= config.consistency.min_hits else MatchStatus.INCONSISTENT


def is_ambiguous(similarity: float, runner_up: float | None, max_ambiguity: float) -> bool:
    """Whether another place is about as similar. Cosines of whitened descriptors may be negative: those never compete."""
    return runner_up is not None and max_ambiguity < 1.0 and runner_up > 0 and runner_up > max_ambiguity * similarity


def rigid_status(found: Verification, needed: VerificationConfig) -> MatchStatus:
    """Decides by local features."""
    is_rigid = (
        found.inliers >= needed.min_inliers
        and found.inlier_ratio >= needed.min_inlier_ratio
        and found.coverage >= needed.min_coverage
    )
    return MatchStatus.ACCEPTED if is_rigid else MatchStatus.GEOMETRY


def motion_status(now: Now, around: Iterable[Keyframe], config: OdometryConfig) -> MatchStatus:
    """Decides by odometry; `around` holds the match and its neighbours, itself first, where it is of the running drive."""
    if not config.gate_enabled or now.odometry is None:
        return MatchStatus.ACCEPTED
    for keyframe in around:  # where the match's own pose was left out, that of a neighbour will do
        if keyframe.odom_from_body is not None and keyframe.odometry_segment == now.odometry.segment:
            apart = _is_out_of_reach(now.odometry, keyframe.odom_from_body, keyframe.travelled_m or 0.0, config)
            return MatchStatus.ODOMETRY if apart else MatchStatus.ACCEPTED
    return MatchStatus.ACCEPTED


def _is_out_of_reach(here: OdometryFix, there: Pose, travelled_m: float, config: OdometryConfig) -> bool:
    """Whether two poses are further apart than one view and the drift of the path between them allow."""
    distance = np.linalg.norm(here.latest[:3, 3] - there[:3, 3])
    return bool(distance > config.max_distance_m + config.drift_per_m * (here.travelled_m - travelled_m))


def cooldown_status(now: Now, accepted_ns: int | None, config: MatchConfig) -> MatchStatus:
    """Decides by the time since the last closure."""
    if accepted_ns is None:
        return MatchStatus.ACCEPTED
    passed_ns = max(0, now.elapsed_ns - accepted_ns)  # of a rig, another camera's frame may be newer
    return MatchStatus.COOLDOWN if passed_ns < config.cooldown_s * 1e9 else MatchStatus.ACCEPTED
