"""Revisits and correct matches against an oracle that asks every pair in plain Python."""

import math
from pathlib import Path
from random import Random

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vpr_ros.errors import ConfigError, SourceError
from vpr_ros.evaluation.ground_truth import NO_STAMP, GroundTruth, Protocol, nearest_indices

KITTI = Path(__file__).resolve().parents[3] / "shared/data/kitti"
SECOND = 10**9


def pose(x: float, z: float = 0.0, yaw_deg: float = 0.0) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = cv2.Rodrigues(np.array([0.0, math.radians(yaw_deg), 0.0]))[0]
    matrix[:3, 3] = x, 0.0, z
    return matrix


def angle_deg(a: np.ndarray, b: np.ndarray) -> float:
    return math.degrees(float(np.linalg.norm(cv2.Rodrigues(a[:3, :3].T @ b[:3, :3])[0])))


def alike(a: np.ndarray, b: np.ndarray, radius_m: float, protocol: Protocol) -> bool:
    near = math.dist(a[:3, 3], b[:3, 3]) <= radius_m
    return near and angle_deg(a, b) <= protocol.max_angle_deg + 1e-6


@st.composite
def worlds(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Stamps and poses on a small grid, so that every limit is met exactly now and then."""
    count = draw(st.integers(0, 40))
    stamps = draw(st.lists(st.integers(0, 60), min_size=count, max_size=count, unique=True))
    cells = st.tuples(st.integers(0, 9), st.integers(0, 9), st.sampled_from([0, 30, 45, 90, 180, 300]))
    poses = [pose(*draw(cells)) for _ in range(count)]
    return np.array(stamps, dtype=np.int64) * SECOND, np.array(poses).reshape(-1, 4, 4)


PROTOCOLS = st.builds(
    Protocol,
    revisit_m=st.sampled_from([0.0, 2.0, 5.0]),
    match_m=st.sampled_from([5.0, 10.0]),
    max_angle_deg=st.sampled_from([0.0, 45.0, 180.0]),
    exclusion_s=st.sampled_from([0.0, 5.0, 10.0]),
)


@settings(deadline=None)
@given(worlds(), PROTOCOLS)
def test_revisits_are_those_of_the_oracle(world: tuple[np.ndarray, np.ndarray], protocol: Protocol) -> None:
    stamps, poses = world
    found = GroundTruth(stamps, poses, protocol).revisits(stamps)
    assert found.has_pose.all()
    for i, stamp in enumerate(stamps):
        old = [j for j in range(len(stamps)) if stamps[j] < stamp - protocol.exclusion_s * 1e9]
        true = {stamps[j]: j for j in old if alike(poses[i], poses[j], protocol.revisit_m, protocol)}
        assert found.exist[i] == bool(true)
        if true:
            chosen = poses[true[found.stamps_ns[i]]]
            distances = [math.dist(poses[i][:3, 3], poses[j][:3, 3]) for j in true.values()]
            assert math.dist(poses[i][:3, 3], chosen[:3, 3]) == min(distances)


@settings(deadline=None)
@given(worlds(), PROTOCOLS)
def test_comparisons_are_those_of_the_oracle(world: tuple[np.ndarray, np.ndarray], protocol: Protocol) -> None:
    stamps, poses = world
    i, j = (index.ravel() for index in np.indices((len(stamps), len(stamps))))
    compared = GroundTruth(stamps, poses, protocol).compare(stamps[i], stamps[j])
    assert compared.known.all()
    for k, (a, b) in enumerate(zip(i, j, strict=True)):
        old = stamps[b] < stamps[a] - protocol.exclusion_s * 1e9
        assert compared.correct[k] == (old and alike(poses[a], poses[b], protocol.match_m, protocol))
        assert compared.distance_m[k] == pytest.approx(math.dist(poses[a][:3, 3], poses[b][:3, 3]))
        assert compared.angle_deg[k] == pytest.approx(angle_deg(poses[a], poses[b]), abs=1e-4)


@settings(deadline=None)
@given(worlds(), PROTOCOLS)
def test_the_revisit_found_is_itself_a_correct_match(world: tuple[np.ndarray, np.ndarray], protocol: Protocol) -> None:
    truth = GroundTruth(*world, protocol)
    found = truth.revisits(truth.stamps_ns)
    assert truth.compare(truth.stamps_ns[found.exist], found.stamps_ns[found.exist]).correct.all()


@settings(deadline=None)
@given(worlds(), st.randoms())
def test_the_order_of_poses_does_not_matter(world: tuple[np.ndarray, np.ndarray], random: Random) -> None:
    stamps, poses = world
    order = list(range(len(stamps)))
    random.shuffle(order)
    shuffled = GroundTruth(stamps[order], poses[order]).revisits(stamps)
    np.testing.assert_array_equal(shuffled.exist, GroundTruth(stamps, poses).revisits(stamps).exist)


def test_blocks_join_without_a_seam() -> None:
    """Many laps of a circle of 100 frames: after the first lap every frame is a revisit, before it none."""
    angles = 2 * np.pi * np.arange(1000) / 100
    poses = np.array([pose(100 * math.sin(a), 100 * math.cos(a), math.degrees(a)) for a in angles])
    stamps = np.arange(1000, dtype=np.int64) * SECOND
    exist = GroundTruth(stamps, poses).revisits(stamps).exist
    np.testing.assert_array_equal(exist, np.arange(1000) >= 100)


def test_a_frame_without_a_pose_is_unknown_rather_than_without_a_loop() -> None:
    poses = np.array([pose(0), pose(np.nan), pose(0)])
    truth = GroundTruth(np.array([0, 20, 40]) * SECOND, poses)
    found = truth.revisits(np.array([0, 20, 40, 99]) * SECOND)
    assert found.has_pose.tolist() == [True, False, True, False]
    assert found.without_pose == 2
    assert found.stamps_ns.tolist() == [NO_STAMP, NO_STAMP, 0, NO_STAMP]
    compared = truth.compare([40 * SECOND, 40 * SECOND], [20 * SECOND, NO_STAMP])
    assert not compared.known.any()
    assert not compared.correct.any()


def test_only_frames_that_were_shown_can_be_revisited() -> None:
    truth = GroundTruth(np.array([0, 30, 60]) * SECOND, np.array([pose(0), pose(3), pose(0)]))
    assert truth.revisits([60 * SECOND]).stamps_ns.tolist() == [0]
    assert truth.revisits([60 * SECOND], [30 * SECOND, 60 * SECOND]).stamps_ns.tolist() == [30 * SECOND]
    assert truth.revisits([60 * SECOND], [60 * SECOND]).stamps_ns.tolist() == [NO_STAMP]


def test_pose_at_takes_the_nearest_within_the_tolerance() -> None:
    truth = GroundTruth([SECOND, 2 * SECOND], np.array([pose(1), pose(2)]))
    assert truth.pose_at(2 * SECOND + 50_000_000)[0, 3] == 2  # type: ignore[index]
    assert truth.pose_at(2 * SECOND + 50_000_001) is None
    assert truth.pose_at(1_500_000_000, tolerance_s=1.0)[0, 3] == 1  # type: ignore[index]
    assert GroundTruth([], np.zeros((0, 4, 4))).pose_at(0) is None


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 50), max_size=20).map(sorted), st.lists(st.integers(-5, 60), max_size=20), st.integers(0, 9)
)
def test_nearest_indices(ascending: list[int], stamps: list[int], tolerance: int) -> None:
    found = nearest_indices(np.array(ascending, dtype=np.int64), np.array(stamps, dtype=np.int64), tolerance)
    for stamp, index in zip(stamps, found, strict=True):
        gaps = [abs(stamp - other) for other in ascending]
        if not gaps or min(gaps) > tolerance:
            assert index == -1
        else:
            assert gaps[index] == min(gaps)


@pytest.mark.parametrize(
    "limits",
    [{"revisit_m": 11.0}, {"revisit_m": -1.0}, {"max_angle_deg": 181.0}, {"exclusion_s": -1.0}, {"match_m": np.nan}],
)
def test_a_protocol_that_makes_no_sense_is_refused(limits: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        Protocol(**limits)


def test_arrays_of_other_shapes_are_refused() -> None:
    with pytest.raises(SourceError, match="poses"):
        GroundTruth([0, 1], np.zeros((2, 3, 4)))
    with pytest.raises(SourceError, match="stamps"):
        GroundTruth([0], np.zeros((2, 4, 4)))


def test_the_protocol_names_every_limit() -> None:
    text = Protocol(1.5, 2.5, 33.0, 44.0, 0.125).describe()
    assert "\n" not in text
    for limit in ("1.5 m", "2.5 m", "33 deg", "44 s", "0.125 s"):
        assert limit in text


@pytest.mark.skipif(not KITTI.is_dir(), reason=f"KITTI is not at {KITTI}")
def test_kitti_00_has_80_revisits() -> None:
    rows = np.loadtxt(KITTI / "poses/00.txt", max_rows=1700).reshape(-1, 3, 4)
    poses = np.concatenate([rows, np.tile([[[0.0, 0.0, 0.0, 1.0]]], (len(rows), 1, 1))], axis=1)
    stamps = np.round(np.loadtxt(KITTI / "sequences/00/times.txt", max_rows=1700) * 1e9).astype(np.int64)
    assert int(GroundTruth(stamps, poses).revisits(stamps).exist.sum()) == 80
    assert int(GroundTruth(stamps, poses, Protocol(max_angle_deg=180.0)).revisits(stamps).exist.sum()) == 83
