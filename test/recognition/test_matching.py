from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from vpr_ros.config import ExclusionConfig
from vpr_ros.recognition.matching import (
    AWAY_KEYFRAMES,
    Links,
    Now,
    consistent_count,
    islands,
    recent,
    recent_start,
    stay_start,
)
from vpr_ros.types import Candidate, Keyframe, KeyframeRef, OdometryFix

NO_LINKS = Links(5)


def ref(i: int, camera_name: str = "") -> KeyframeRef:
    return KeyframeRef("", "s", i, -7 * i, camera_name)


ONE_CAMERA = {ref(i): i for i in range(1000)}.__getitem__
"""Every keyframe is a moment of its own."""


def keyframe(i: int, stamp_s: float, travelled_m: float | None = None, camera_name: str = "") -> Keyframe:
    """Its stamps are of a clock of their own: only the drive's time counts."""
    elapsed_ns = round(stamp_s * 1e9)
    return Keyframe(ref(i, camera_name), np.ones(1, np.float32), travelled_m=travelled_m, elapsed_ns=elapsed_ns)


def now_at(elapsed_ns: int, travelled_m: float | None = None, segment: int = 0, camera_name: str = "") -> Now:
    odometry = None if travelled_m is None else OdometryFix(segment, travelled_m, None, np.eye(4))
    return Now(elapsed_ns, camera_name, odometry)


drives = st.lists(st.tuples(st.floats(0.1, 5), st.floats(0, 5)), min_size=0, max_size=30)


@given(drives, st.booleans(), st.floats(0, 60), st.floats(0, 60), st.integers(0, 10))
def test_what_is_recent_by_three_rules(
    steps: list[tuple[float, float]], has_odometry: bool, time_s: float, distance_m: float, count: int
) -> None:
    """Against the obvious: ask every rule of every keyframe."""
    stamp, path, drive = 0.0, 0.0, []
    for i, (dt, dx) in enumerate(steps):
        stamp, path = stamp + dt, path + dx
        drive.append(keyframe(i, stamp, path if has_odometry else None))
    now_ns, now_m = round((stamp + 0.5) * 1e9), path + 0.25 if has_odometry else None
    config = ExclusionConfig(time_s, distance_m, count)
    allowed = [
        i
        for i, k in enumerate(drive)
        if now_ns - k.elapsed_ns >= time_s * 1e9
        and (now_m is None or k.travelled_m is None or now_m - k.travelled_m >= distance_m)
        and i < len(drive) - count
    ]
    assert list(range(recent_start(drive, now_at(now_ns, now_m), config))) == allowed


late_drives = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 20), st.integers(0, 30), st.booleans()), min_size=1, max_size=40
)


@example([("a", 0, 0, True), ("b", 0, 10, False), ("a", 20, 0, False)], 0, 1, 0)
@given(late_drives, st.integers(0, 60), st.integers(0, 40), st.integers(0, 6))
def test_no_excluded_keyframe_is_eligible_however_late_the_cameras_of_a_rig_are(
    drive: list[tuple[str, int, int, bool]], time_s: int, distance_m: int, count: int
) -> None:
    """Against the obvious, and nothing is lost that lies before all that is excluded; stamps are up to 30 s late."""
    clock, path, session, last_of = 0, 0.0, [], {}
    *steps, (query_camera, query_dt, query_late, _) = drive
    for camera, dt, late, has_odometry in steps:
        clock, path = clock + dt, path + dt
        stamp = clock - late
        if stamp > last_of.get(camera, -1000):
            travelled_m = path if has_odometry else None
            session.append(keyframe(len(session), stamp, travelled_m, camera))
            last_of[camera] = stamp
    now_s, config = clock + query_dt - query_late, ExclusionConfig(time_s, distance_m, count)
    own = [k.ref.id for k in session if k.ref.camera_name == query_camera]
    excluded = [
        k.ref.id
        for k in session
        if now_s * 10**9 - k.elapsed_ns < time_s * 10**9
        or (k.travelled_m is not None and path - k.travelled_m < distance_m)
        or (count > 0 and k.ref.id >= (own[-count] if len(own) >= count else 0))
    ]
    start = recent_start(session, now_at(now_s * 10**9, path, camera_name=query_camera), config, jitter_s=30.0)
    assert start == min(excluded, default=len(session))
    by_time_alone = ExclusionConfig(time_s, 0.0, 0)
    start = recent_start(session, now_at(now_s * 10**9, camera_name="a"), by_time_alone, jitter_s=30.0)
    for lost in session[start:]:
        assert now_s - lost.elapsed_ns / 10**9 < time_s + 30


def test_a_drive_without_keyframes_excludes_none() -> None:
    assert recent([], now_at(0), {"": np.ones(1, np.float32)}, ExclusionConfig(1000.0, 1000.0, 1000)) == []


def test_both_kinds_of_rule_exclude() -> None:
    """The last two are new; of the others the robot has seen nothing else since the fifth."""
    drive = [replace(keyframe(i, i), descriptor=np.array([float(i > 5)], np.float32)) for i in range(10)]
    view = {"": np.ones(1, np.float32)}
    by_time = ExclusionConfig(2.0, 0.0, 0, away_similarity=1.0)
    assert recent(drive, now_at(10 * 10**9), view, by_time) == [ref(9)]
    assert recent(drive, now_at(10 * 10**9), view, ExclusionConfig(2.0, 0.0, 0)) == [ref(i) for i in range(4, 10)]


def test_paths_of_different_segments_of_odometry_do_not_compare() -> None:
    config = ExclusionConfig(0.0, 50.0, 0)
    known = [replace(keyframe(i, i, 10.0 * i), odometry_segment=int(i >= 5)) for i in range(10)]
    assert recent_start(known, now_at(10 * 10**9, 95.0, 1), config) == 5
    assert recent_start(known, now_at(10 * 10**9, 0.0, 2), config) == 10


views = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([0.0, 0.4, 0.6, 1.0])), max_size=25)


@given(views, st.sampled_from([("a",), ("a", "b"), ()]))
def test_a_stay_starts_with_the_last_keyframes_that_show_another_place(
    seen: list[tuple[str, float]], cameras: tuple[str, ...]
) -> None:
    """Against the obvious: look at every pair of neighbours of every camera. Similarities are the descriptors themselves."""
    known = [
        replace(keyframe(i, i, camera_name=name), descriptor=np.array([similarity], np.float32))
        for i, (name, similarity) in enumerate(seen)
    ]
    present = {name: np.ones(1, np.float32) for name in cameras}
    pairs = []
    for name in cameras:
        own = [k for k in known if k.ref.camera_name == name]
        pairs += [(a.ref.id, b.ref.id) for a, b in pairwise(own) if max(a.descriptor, b.descriptor) < 0.5]
    assert AWAY_KEYFRAMES == 2
    assert stay_start(known, present, 0.5) == max((a for a, _ in pairs), default=0)
    assert stay_start(known, present, 1.0) == len(known)


candidate_lists = st.lists(st.tuples(st.integers(0, 60), st.floats(-1, 1)), max_size=15, unique_by=lambda c: c[0]).map(
    lambda pairs: sorted((Candidate(ref(i), s) for i, s in pairs), key=lambda c: -c.similarity)
)


@given(candidate_lists, st.integers(0, 8))
def test_a_place_begins_where_no_better_candidate_is_near(candidates: list[Candidate], gap: int) -> None:
    found = islands(candidates, ONE_CAMERA, gap, NO_LINKS)
    alone = [
        c for i, c in enumerate(candidates) if all(abs(c.keyframe.id - b.keyframe.id) > gap for b in candidates[:i])
    ]
    assert [island.best for island in found] == alone
    assert sorted(c.keyframe.id for i in found for c in i.candidates) == sorted(c.keyframe.id for c in candidates)
    for island in found:
        assert list(island.candidates) == [c for c in candidates if c in island.candidates]
        for i, c in enumerate(island.candidates[1:], start=1):
            assert any(abs(c.keyframe.id - b.keyframe.id) <= gap for b in island.candidates[:i])


def test_weak_candidates_do_not_bridge_two_places() -> None:
    strong_at_0_and_6 = [
        Candidate(ref(0), 0.9),
        Candidate(ref(6), 0.89),
        Candidate(ref(2), 0.3),
        Candidate(ref(4), 0.2),
    ]
    assert [island.best.keyframe.id for island in islands(strong_at_0_and_6, ONE_CAMERA, 2, NO_LINKS)] == [0, 6]


def test_an_accepted_closure_makes_two_laps_one_place() -> None:
    candidates = [Candidate(ref(100), 0.9), Candidate(ref(10), 0.89), Candidate(ref(300), 0.2)]
    assert len(islands(candidates, ONE_CAMERA, 5, NO_LINKS)) == 3
    linked = islands(candidates, ONE_CAMERA, 5, Links(5, [(12, 98)]))
    assert [sorted(c.keyframe.id for c in island.candidates) for island in linked] == [[10, 100], [300]]


@given(st.integers(1, 20), st.integers(0, 200), st.integers(0, 200), st.integers(-500, 500), st.integers(-500, 500))
def test_links_join_everything_within_the_gap_and_nothing_beyond_two(gap: int, a: int, b: int, i: int, j: int) -> None:
    links = Links(gap, [(a, b)])
    first, second = a + i, b + j
    if abs(i) <= gap and abs(j) <= gap:
        assert links.join(first, second)
        assert links.join(second, first)
    far = min(max(abs(first - a), abs(second - b)), max(abs(first - b), abs(second - a)))
    if far >= 2 * gap:
        assert not links.join(first, second)


def test_consistency_counts_the_queries_that_agree() -> None:
    assert consistent_count([], 50, 10, NO_LINKS) == 1
    assert consistent_count([45, None, 61], 50, 10, NO_LINKS) == 2
    assert consistent_count([45, 300], 50, 10, Links(10, [(302, 52)])) == 3
