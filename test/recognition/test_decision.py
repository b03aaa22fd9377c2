from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpr_ros.config import Config, MatchConfig, OdometryConfig, VerificationConfig
from vpr_ros.recognition.decision import cooldown_status, is_ambiguous, motion_status, retrieval_status, rigid_status
from vpr_ros.recognition.matching import Now
from vpr_ros.types import Keyframe, KeyframeRef, MatchStatus, OdometryFix, PlaceMatch, Pose, Verification

ACCEPTED = MatchStatus.ACCEPTED
S = 10**9


def at(x_m: float) -> Pose:
    pose = np.eye(4)
    pose[0, 3] = x_m
    return pose


def keyframe(x_m: float | None, segment: int = 0, travelled_m: float | None = None) -> Keyframe:
    ref = KeyframeRef("", "s", 0)
    pose = None if x_m is None else at(x_m)
    return Keyframe(ref, np.ones(1, np.float32), odom_from_body=pose, travelled_m=travelled_m, odometry_segment=segment)


def now(x_m: float, travelled_m: float, segment: int = 0) -> Now:
    return Now(0, odometry=OdometryFix(segment, travelled_m, at(x_m), at(x_m)))


def test_ambiguity() -> None:
    assert is_ambiguous(0.8, 0.79, 0.95)
    assert not is_ambiguous(0.8, 0.7, 0.95)
    assert not is_ambiguous(0.8, None, 0.95)
    assert not is_ambiguous(0.8, 0.8, 1.0)
    assert not is_ambiguous(-0.1, -0.2, 0.95)


@pytest.mark.parametrize(
    ("similarity", "runner_up", "hits", "expected"),
    [
        (0.8, 0.5, 2, ACCEPTED),
        (0.5, 0.1, 2, ACCEPTED),  # the bar itself is enough
        (0.49, 0.1, 2, MatchStatus.LOW_SCORE),
        (0.49, 0.48, 1, MatchStatus.LOW_SCORE),  # the first reason is the one
        (0.8, 0.79, 2, MatchStatus.AMBIGUOUS),
        (0.8, None, 1, MatchStatus.INCONSISTENT),
    ],
)
def test_retrieval(similarity: float, runner_up: float | None, hits: int, expected: MatchStatus) -> None:
    config = Config().with_values({"match.min_similarity": 0.5, "match.max_ambiguity": 0.9, "consistency.min_hits": 2})
    match = PlaceMatch(0, MatchStatus.NO_MAP, similarity=similarity, runner_up=runner_up, consistent_count=hits)
    assert retrieval_status(match, config) is expected


@given(st.integers(0, 40), st.floats(0, 1), st.floats(0, 1))
def test_geometry_needs_all_three(inliers: int, ratio: float, coverage: float) -> None:
    needed = VerificationConfig(min_inliers=20, min_inlier_ratio=0.3, min_coverage=0.2)
    is_enough = inliers >= 20 and ratio >= 0.3 and coverage >= 0.2
    expected = ACCEPTED if is_enough else MatchStatus.GEOMETRY
    assert rigid_status(Verification(inliers, ratio, coverage), needed) is expected


def test_a_match_out_of_reach_contradicts_odometry() -> None:
    config = OdometryConfig(max_distance_m=10.0, drift_per_m=0.1)
    assert motion_status(now(20.0, 100.0), [keyframe(0.0, travelled_m=0.0)], config) is ACCEPTED  # drift allows 20 m
    assert motion_status(now(20.5, 100.0), [keyframe(0.0, travelled_m=0.0)], config) is MatchStatus.ODOMETRY
    assert motion_status(now(20.5, 100.0), [keyframe(0.0, travelled_m=50.0)], config) is MatchStatus.ODOMETRY
    assert motion_status(now(99.0, 0.0), [keyframe(0.0)], OdometryConfig(gate_enabled=False)) is ACCEPTED


def test_odometry_that_is_not_known_contradicts_nothing() -> None:
    config = OdometryConfig(max_distance_m=1.0, drift_per_m=0.0)
    assert motion_status(Now(0), [keyframe(0.0)], config) is ACCEPTED
    assert motion_status(now(99.0, 99.0), [], config) is ACCEPTED, "of another drive"
    assert motion_status(now(99.0, 99.0, segment=1), [keyframe(0.0, segment=0)], config) is ACCEPTED
    assert motion_status(now(99.0, 99.0), [keyframe(None)], config) is ACCEPTED


def test_a_neighbour_stands_in_for_a_match_without_pose() -> None:
    config = OdometryConfig(max_distance_m=1.0, drift_per_m=0.0)
    around = [keyframe(None), keyframe(0.0, segment=7), keyframe(50.0)]
    assert motion_status(now(50.5, 99.0), around, config) is ACCEPTED
    assert motion_status(now(0.0, 99.0), around, config) is MatchStatus.ODOMETRY


def test_cooldown_begins_with_a_closure_and_is_over_after_its_time() -> None:
    config = MatchConfig(cooldown_s=2.0)
    assert cooldown_status(Now(5 * S), None, config) is ACCEPTED
    assert cooldown_status(Now(5 * S), 3 * S, config) is ACCEPTED
    assert cooldown_status(Now(5 * S - 1), 3 * S, config) is MatchStatus.COOLDOWN
    assert cooldown_status(Now(2 * S), 3 * S, config) is MatchStatus.COOLDOWN, "another camera's frame, a little late"
