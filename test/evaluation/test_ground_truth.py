"""Revisits and correct matches against an oracle that asks every pair in plain Python."""

import math
from dataclasses import dataclass
from pathlib import Path
from random import Random

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vpr_ros.errors import ConfigError, SourceError
from vpr_ros.evaluation.ground_truth import NO_FRAME, GroundTruth, RevisitProtocol
from vpr_ros.types import FrameRef

KITTI = Path(__file__).resolve().parents[3] / "shared/data/kitti"
SECOND = 10**9


def pose(x: float, z: float = 0.0, yaw_deg: float = 0.0) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = cv2.Rodrigues(np.array([0.0, math.radians(yaw_deg), 0.0]))[0]
    matrix[:3, 3] = x, 0.0, z
    return matrix


def angle_deg(a: np.ndarray, b: np.ndarray) -> float:
    return math.degrees(float(np.linalg.norm(cv2.Rodrigues(a[:3, :3].T @ b[:3, :3])[0])))


def alike(a: np.ndarray, b: np.ndarray, radius_m: float, protocol: RevisitProtocol) -> bool:
    near = math.dist(a[:3, 3], b[:3, 3]) <= radius_m
    return near and angle_deg(a, b) <= protocol.max_angle_deg + 1e-6


@dataclass(frozen=True)
class World:
    """Frames in the order of their sessions and stamps, and poses that may be unknown."""

    frames: list[FrameRef]
    poses: np.ndarray

    def truth(self, protocol: RevisitProtocol | None = None) -> GroundTruth:
        return GroundTruth(self.frames, self.poses, protocol)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Stamps and poses on a small grid, so that every limit is met exactly now and then."""
    frames: list[FrameRef] = []
    for session in draw(st.sampled_from([("a",), ("a", "b")])):
        stamps = draw(st.lists(st.integers(0, 60), max_size=30, unique=True))
        frames += [FrameRef(session, stamp * SECOND) for stamp in sorted(stamps)]
    cells = st.tuples(st.integers(0, 9), st.integers(0, 9), st.sampled_from([0, 30, 45, 90, 180, 300]))
    known = st.integers(0, 9).map(bool)
    poses = [pose(*draw(cells)) * (1.0 if draw(known) else math.nan) for _ in frames]
    return World(frames, np.array(poses).reshape(-1, 4, 4))


PROTOCOLS = st.builds(
    RevisitProtocol,
    revisit_m=st.sampled_from([0.0, 2.0, 5.0]),
    match_m=st.sampled_from([5.0, 10.0]),
    max_angle_deg=st.sampled_from([0.0, 45.0, 180.0]),
    exclusion_s=st.sampled_from([0.0, 5.0, 10.0]),
)


class Oracle:
    """Asks every pair, and every frame in between."""

    def __init__(self, world: World, protocol: RevisitProtocol) -> None:
        self.world, self.protocol = world, protocol
        self.known = [bool(np.isfinite(p).all()) for p in world.poses]

    def old(self, i: int, j: int) -> bool:
        a, b = self.world.frames[i], self.world.frames[j]
        if a.session != b.session:
            return b.session < a.session
        return b.stamp_ns < a.stamp_ns - self.protocol.exclusion_s * 1e9

    def alike(self, i: int, j: int, radius_m: float) -> bool:
        return alike(self.world.poses[i], self.world.poses[j], radius_m, self.protocol)

    def left(self, i: int, j: int) -> bool:
        between = (k for k in range(j + 1, i) if self.known[k])
        return any(not self.alike(i, k, self.protocol.revisit_m) for k in between)

    def hole(self, i: int, j: int) -> bool:
        frames, longest = self.world.frames, max(self.protocol.exclusion_s, self.protocol.gap_s) * 1e9
        return any(
            not self.known[k]
            or frames[k].session != frames[k - 1].session
            or frames[k].stamp_ns - frames[k - 1].stamp_ns > longest
            for k in range(j + 1, i + 1)
        )

    def near_before(self, i: int) -> list[int]:
        revisit_m = self.protocol.revisit_m
        return [j for j in range(len(self.known)) if self.known[j] and self.old(i, j) and self.alike(i, j, revisit_m)]


def everything(truth: GroundTruth) -> np.ndarray:
    return truth.indices(truth.frames)


@settings(deadline=None)
@given(worlds(), PROTOCOLS)
def test_revisits_are_those_of_the_oracle(world: World, protocol: RevisitProtocol) -> None:
    oracle, truth = Oracle(world, protocol), world.truth(protocol)
    found = truth.revisits(everything(truth))
    assert truth.frames == world.frames
    assert found.has_pose.tolist() == oracle.known
    for i in range(len(world.frames)):
        near = oracle.near_before(i) if oracle.known[i] else []
        true = [j for j in near if oracle.left(i, j)]
        assert found.exist[i] == bool(true)
        assert found.undecided[i] == (not true and any(oracle.hole(i, j) for j in near))
        if true:
            distances = {j: math.dist(world.poses[i][:3, 3], world.poses[j][:3, 3]) for j in true}
            assert distances[int(found.frames[i])] == min(distances.values())


@settings(deadline=None)
@given(worlds(), PROTOCOLS)
def test_comparisons_are_those_of_the_oracle(world: World, protocol: RevisitProtocol) -> None:
    oracle, truth = Oracle(world, protocol), world.truth(protocol)
    i, j = (index.ravel() for index in np.indices((len(world.frames),) * 2))
    compared = truth.compare(everything(truth)[i], everything(truth)[j])
    for k, (a, b) in enumerate(zip(i.tolist(), j.tolist(), strict=True)):
        if not (oracle.known[a] and oracle.known[b]):
            assert not compared.known[k]
            assert not compared.correct[k]
            continue
        near = oracle.old(a, b) and oracle.alike(a, b, protocol.match_m)
        assert compared.correct[k] == (near and oracle.left(a, b))
        assert compared.known[k] == (not near or oracle.left(a, b) or not oracle.hole(a, b))
        assert compared.distance_m[k] == pytest.approx(math.dist(world.poses[a][:3, 3], world.poses[b][:3, 3]))
        assert compared.angle_deg[k] == pytest.approx(angle_deg(world.poses[a], world.poses[b]), abs=1e-4)


@settings(deadline=None)
@given(worlds(), PROTOCOLS)
def test_the_revisit_found_is_itself_a_correct_match(world: World, protocol: RevisitProtocol) -> None:
    truth = world.truth(protocol)
    queries = everything(truth)
    found = truth.revisits(queries)
    assert truth.compare(queries[found.exist], found.frames[found.exist]).correct.all()


@settings(deadline=None)
@given(worlds(), st.randoms())
def test_the_order_of_frames_in_a_session_does_not_matter(world: World, random: Random) -> None:
    order = sorted(range(len(world.frames)), key=lambda k: (world.frames[k].session, random.random()))
    shuffled = GroundTruth([world.frames[k] for k in order], world.poses[order])
    truth = world.truth()
    assert shuffled.frames == truth.frames
    np.testing.assert_array_equal(
        shuffled.revisits(everything(shuffled)).exist, truth.revisits(everything(truth)).exist
    )


def seconds(*stamps: int) -> list[FrameRef]:
    return [FrameRef("", stamp * SECOND) for stamp in stamps]


def test_blocks_join_without_a_seam() -> None:
    """Many laps of a circle of 100 frames: after the first lap every frame is a revisit, before it none."""
    angles = 2 * np.pi * np.arange(1000) / 100
    poses = np.array([pose(100 * math.sin(a), 100 * math.cos(a), math.degrees(a)) for a in angles])
    truth = GroundTruth(seconds(*range(1000)), poses)
    np.testing.assert_array_equal(truth.revisits(everything(truth)).exist, np.arange(1000) >= 100)


def test_a_robot_that_waits_does_not_revisit_until_it_left() -> None:
    """It comes, waits half a minute, leaves by 20 m and comes back: only then are the frames of the wait revisited."""
    x = [20, *[0] * 30, 10, 20, 10, *[0] * 30]
    truth = GroundTruth(seconds(*range(len(x))), np.array([pose(each) for each in x]))
    exist = truth.revisits(everything(truth)).exist
    assert not exist[:32].any()
    assert exist[34:].all()
    waiting, back = truth.indices(seconds(30)), truth.indices(seconds(40))
    assert not truth.compare(waiting, truth.indices(seconds(5))).correct.any()
    assert truth.compare(back, truth.indices(seconds(5))).correct.all()


def test_a_robot_that_turns_away_and_back_has_left_the_view() -> None:
    yaw = [0] * 20 + [90] + [0] * 20
    truth = GroundTruth(seconds(*range(41)), np.array([pose(0, 0, each) for each in yaw]))
    exist = truth.revisits(everything(truth)).exist
    assert not exist[:21].any()
    assert exist[22:].all()


def test_a_frame_without_a_pose_is_unknown_rather_than_without_a_loop() -> None:
    poses = np.array([pose(0), pose(100), pose(np.nan), pose(0)])
    truth = GroundTruth(seconds(0, 10, 20, 40), poses)
    found = truth.revisits(truth.indices(seconds(0, 20, 40, 99)))
    assert found.has_pose.tolist() == [True, False, True, False]
    assert found.frames.tolist() == [NO_FRAME, NO_FRAME, 0, NO_FRAME]
    compared = truth.compare(truth.indices(seconds(40, 40)), truth.indices([*seconds(20), None]))
    assert not compared.known.any()
    assert not compared.correct.any()


def test_only_frames_that_were_shown_can_be_revisited() -> None:
    truth = GroundTruth(seconds(0, 15, 30, 60, 90), np.array([pose(0), pose(100), pose(3), pose(100), pose(0)]))
    query = truth.indices(seconds(90))
    assert truth.revisits(query).frames.tolist() == [0]
    assert truth.revisits(query, truth.indices(seconds(30, 90))).frames.tolist() == [2]
    assert truth.revisits(query, query).frames.tolist() == [NO_FRAME]


def test_the_end_of_one_session_and_the_begin_of_the_next_cannot_be_told_from_waiting() -> None:
    frames = [FrameRef("a", 0), FrameRef("a", SECOND), FrameRef("b", 0), FrameRef("b", SECOND)]
    truth = GroundTruth(frames, np.array([pose(0), pose(20), pose(20), pose(0)]))
    found = truth.revisits(everything(truth))
    assert found.exist.tolist() == [False, False, False, True]
    assert found.undecided.tolist() == [False, False, True, False]
    same_place, other_place = truth.compare(np.array([2, 2]), np.array([1, 0])).known
    assert (same_place, other_place) == (False, True)


@pytest.mark.parametrize(
    "limits",
    [{"revisit_m": 11.0}, {"revisit_m": -1.0}, {"max_angle_deg": 181.0}, {"exclusion_s": -1.0}, {"match_m": np.nan}],
)
def test_a_protocol_that_makes_no_sense_is_refused(limits: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        RevisitProtocol(**limits)


def test_arrays_of_other_shapes_are_refused() -> None:
    with pytest.raises(SourceError, match="a pose"):
        GroundTruth(seconds(0, 1), np.zeros((2, 3, 4)))
    with pytest.raises(SourceError, match="1 frames"):
        GroundTruth(seconds(0), np.zeros((2, 4, 4)))


def test_the_protocol_names_every_limit() -> None:
    text = RevisitProtocol(1.5, 2.5, 33.0, 44.0, 0.125).describe()
    assert "\n" not in text
    for limit in ("1.5 m", "2.5 m", "33 deg", "44 s", "0.125 s"):
        assert limit in text
    assert "left in between" in text


def test_smaller_places_need_poses_closer_together() -> None:
    """By default an interpolated pose is off by at most a quarter of `revisit_m`: a T^2 / 8 with 4 m/s^2."""
    assert RevisitProtocol().gap_s == pytest.approx(1.58, abs=0.01)
    assert RevisitProtocol(revisit_m=0.5, match_m=1.0).gap_s == 0.5
    assert 4.0 * RevisitProtocol(revisit_m=2.0).gap_s ** 2 / 8 == pytest.approx(0.5)
    assert "0.5 s" in RevisitProtocol(revisit_m=0.5, match_m=1.0).describe()


@pytest.mark.skipif(not KITTI.is_dir(), reason=f"KITTI is not at {KITTI}")
def test_kitti_00_has_80_revisits() -> None:
    rows = np.loadtxt(KITTI / "poses/00.txt", max_rows=1700).reshape(-1, 3, 4)
    poses = np.concatenate([rows, np.tile([[[0.0, 0.0, 0.0, 1.0]]], (len(rows), 1, 1))], axis=1)
    stamps = np.round(np.loadtxt(KITTI / "sequences/00/times.txt", max_rows=1700) * 1e9).astype(np.int64)
    frames = [FrameRef("", int(stamp)) for stamp in stamps]
    for protocol, count in ((RevisitProtocol(), 80), (RevisitProtocol(max_angle_deg=180.0), 83)):
        truth = GroundTruth(frames, poses, protocol)
        found = truth.revisits(everything(truth))
        assert (int(found.exist.sum()), int(found.undecided.sum())) == (count, 0)
