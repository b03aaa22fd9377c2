"""Rays of worlds of which everything is known: no pose may be wrong by more than it claims."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vpr_ros.recognition import relative_pose as module
from vpr_ros.recognition.relative_pose import (
    RelativePose,
    arcs,
    beyond_arc,
    cayley,
    cross_matrix,
    motions_of_plane,
    relative_pose,
)
from vpr_ros.recognition.verification import essential_matrix
from vpr_ros.rotations import rotation_angle_deg

Floats = NDArray[np.float64]
FOCAL_PX = 400.0
MAX_ERROR = 1.5 / FOCAL_PX
SCALE_SIGMA_M = 5.0
CHI2_99_9 = 16.27
"""Of three degrees of freedom."""


def rotation_about(vector: object) -> Floats:
    return cv2.Rodrigues(np.asarray(vector, float))[0]


def unit(vectors: Floats) -> Floats:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def points_of(world: str, rng: np.random.Generator, count: int) -> Floats:
    """(count, 3) in the query camera's frame, within some 80 degrees."""
    rays = np.column_stack([rng.uniform(-0.8, 0.8, count), rng.uniform(-0.6, 0.6, count), np.ones(count)])
    depth = {
        "cloud": rng.uniform(4, 20, count),
        "two planes": np.where(rng.random(count) < 0.5, 4.0 / (1 - 0.4 * rays[:, 0]), 15.0),
        "plane": 8.0 / (1 - 0.5 * rays[:, 0] - 0.2 * rays[:, 1]),
        "corridor": np.minimum(2.0 / np.maximum(np.abs(rays[:, 0]), 0.05), 1.5 / np.maximum(np.abs(rays[:, 1]), 0.05)),
        "ground": np.full(count, 1.5),
        "mirror": rng.uniform(4, 20, count),
        "all round": rng.uniform(4, 20, count),
    }[world]
    if world == "mirror":
        half = count // 2
        rays[half : 2 * half] = rays[:half] * (-1, 1, 1)
        depth[half : 2 * half] = depth[:half]
    if world == "ground":  # 1.5 m below a camera that looks 30 degrees down, out to the sides
        rays = np.column_stack([rng.uniform(-1.5, 1.5, count), rng.uniform(-0.4, 1.2, count), np.ones(count)])
        depth = 1.5 / (rays @ (0.0, np.cos(np.pi / 6), np.sin(np.pi / 6)))
    if world == "all round":  # up to 110 degrees off the axis
        angle, turn = rng.uniform(0, np.radians(110), count), rng.uniform(0, 2 * np.pi, count)
        rays = np.column_stack([np.sin(angle) * np.cos(turn), np.sin(angle) * np.sin(turn), np.cos(angle)])
    return rays * depth[:, None]


def disturbed(rays: Floats, rng: np.random.Generator, noise_px: float) -> Floats:
    return unit(rays + rng.normal(0, noise_px / FOCAL_PX, rays.shape))


@dataclass(frozen=True, eq=False)
class Views:
    query: Floats
    match: Floats
    rotation: Floats
    translation: Floats

    def estimate(self) -> RelativePose | None:
        essential, likely = essential_matrix(self.query, self.match, MAX_ERROR)
        return relative_pose(self.query, self.match, essential, likely, MAX_ERROR / 2, SCALE_SIGMA_M)


def views(
    world: str = "cloud",
    translation: object = (0.6, 0.1, 0.8),
    seed: int = 0,
    count: int = 150,
    outliers: float = 0.3,
    noise_px: float = 0.5,
    turn: float = 0.08,
) -> Views:
    rng = np.random.default_rng(seed)
    points = points_of(world, rng, count)
    rotation, move = rotation_about(rng.normal(0, turn, 3)), np.asarray(translation, float)
    query, match = unit(points), unit(points @ rotation.T + move)
    wrong = rng.random(count) < outliers
    match[wrong] = unit(points_of(world, rng, int(wrong.sum())))
    return Views(disturbed(query, rng, noise_px), disturbed(match, rng, noise_px), rotation, move)


def rotation_error(found: RelativePose, truth: Floats) -> float:
    """Squared, in units of the covariance."""
    error = module.rotation_vector(found.match_from_query[:3, :3] @ truth.T)
    return float(error @ np.linalg.solve(found.covariance[3:, 3:] + 1e-14 * np.eye(3), error))


def direction_error_deg(found: RelativePose, translation: Floats) -> float:
    return float(np.degrees(np.arccos(np.clip(found.match_from_query[:3, 3] @ unit(translation), -1, 1))))


def check_honest(found: RelativePose, truth: Views) -> None:
    """The rotation within its covariance; the direction, if one is claimed, within 4 of its sigmas."""
    assert rotation_error(found, truth.rotation) < 2 * CHI2_99_9
    np.testing.assert_allclose(found.covariance, found.covariance.T)
    assert np.all(np.linalg.eigvalsh(found.covariance) > 0)
    pose = found.match_from_query
    np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-9)
    assert np.linalg.det(pose[:3, :3]) > 0
    if not found.direction_known:
        np.testing.assert_allclose(found.covariance[:3, :3], (1 + SCALE_SIGMA_M**2) * np.eye(3))
        return
    assert np.linalg.norm(pose[:3, 3]) == pytest.approx(1.0)
    if np.any(truth.translation):
        across = np.linalg.svd(pose[:3, 3][None])[2][1:]
        spread = across @ found.covariance[:3, :3] @ across.T / (1 + SCALE_SIGMA_M**2)
        gap = across @ unit(truth.translation)
        gap *= np.radians(direction_error_deg(found, truth.translation)) / max(np.linalg.norm(gap), 1e-12)
        assert gap @ np.linalg.solve(spread + 1e-14 * np.eye(2), gap) < 2 * CHI2_99_9


MOTIONS = {"sideways": (1.0, 0.0, 0.0), "forward": (0.0, 0.0, 1.0), "back": (0.2, 0.0, -0.9), "askew": (0.5, 0.3, 0.7)}


@pytest.mark.parametrize("world", ["cloud", "two planes", "corridor", "mirror", "all round"])
@pytest.mark.parametrize("move", MOTIONS)
@pytest.mark.parametrize("outliers", [0.0, 0.3, 0.5])
def test_the_motion_is_found_in_its_sense_and_within_its_covariance(world: str, move: str, outliers: float) -> None:
    for seed in range(4):
        truth = views(world, MOTIONS[move], seed, outliers=outliers)
        found = truth.estimate()
        assert found is not None
        assert found.direction_known
        assert rotation_angle_deg(found.match_from_query[:3, :3] @ truth.rotation.T) < 1.0
        assert direction_error_deg(found, truth.translation) < 10.0
        check_honest(found, truth)


@pytest.mark.parametrize("world", ["cloud", "two planes", "plane", "corridor"])
@pytest.mark.parametrize("length_m", [0.0, 1e-4, 1e-3, 1e-2, 0.03, 0.1, 0.3, 3.0])
@pytest.mark.parametrize("noise_px", [0.0, 0.3, 1.0, 2.0])
def test_whatever_the_baseline_no_pose_claims_too_much(world: str, length_m: float, noise_px: float) -> None:
    """From a camera that stood still to one that moved by the distance of the scene: never turned, never too sure."""
    for seed, move in enumerate(MOTIONS.values()):
        truth = views(world, length_m * unit(np.array(move)), seed, outliers=0.2, noise_px=noise_px)
        found = truth.estimate()
        if found is not None:
            check_honest(found, truth)
        else:
            assert length_m > 0 or noise_px == 2.0


@pytest.mark.parametrize("outliers", [0.0, 0.3, 0.6])
@pytest.mark.parametrize("noise_px", [0.0, 0.5])
@pytest.mark.parametrize("turn", [0.0, 0.08])
def test_without_parallax_the_rotation_is_known_and_no_direction(outliers: float, noise_px: float, turn: float) -> None:
    for seed in range(5):
        truth = views("cloud", (0, 0, 0), seed, outliers=outliers, noise_px=noise_px, turn=turn)
        found = truth.estimate()
        assert found is not None
        assert not found.direction_known
        np.testing.assert_array_equal(found.match_from_query[:3, 3], 0.0)
        check_honest(found, truth)
        assert rotation_angle_deg(found.match_from_query[:3, :3] @ truth.rotation.T) < 0.2


def test_the_same_picture_twice_is_no_motion() -> None:
    for seed in range(10):
        query = views(seed=seed, noise_px=0.0, outliers=0.0).query
        found = Views(query, query, np.eye(3), np.zeros(3)).estimate()
        assert found is not None
        np.testing.assert_allclose(found.match_from_query, np.eye(4), atol=1e-9)
        assert found.inlier.all()
        assert np.all(np.diag(found.covariance)[3:] > 0)


def test_claims_are_honest_on_the_whole() -> None:
    """Normalised squared errors of rotations (3) and directions (2 degrees of freedom) are not above chi square."""
    squares = []
    for seed in range(120):
        rng = np.random.default_rng(seed)
        truth = views(
            "cloud", rng.normal(0, 0.4, 3), seed, noise_px=rng.uniform(0.1, 1.2), outliers=rng.uniform(0, 0.5)
        )
        found = truth.estimate()
        assert found is not None
        squares.append(rotation_error(found, truth.rotation))
    assert np.median(squares) < 2.37
    assert np.median(squares) > 2.37 / 30
    assert np.mean(np.array(squares) < 8.02) > 0.93


def test_a_plane_with_two_motions_has_none() -> None:
    """Both leave every point in front of both cameras: rays cannot tell them apart."""
    rotation, move, normal = (
        rotation_about([0.02, 0.15, 0.0]),
        np.array([0.35, 0.0, 0.25]),
        unit(np.array([0.3, 0.1, 1.0])),
    )
    rays = points_of("cloud", np.random.default_rng(0), 150)
    rays /= rays[:, 2:]
    points = rays * (1.0 / (rays @ normal))[:, None]
    homography = rotation + np.outer(move, normal)
    candidates = motions_of_plane(homography)
    assert len(candidates) == 2
    np.testing.assert_allclose(min(np.abs(r - rotation).max() for r, _ in candidates), 0.0, atol=1e-9)
    apart = rotation_angle_deg(candidates[0][0] @ candidates[1][0].T)
    assert apart > 5.0
    truth = Views(unit(points), unit(points @ rotation.T + move), rotation, move)
    for guess, _ in [(cross_matrix(t) @ r, r) for r, t in candidates]:
        found = relative_pose(truth.query, truth.match, guess, np.ones(150, bool), MAX_ERROR / 2, SCALE_SIGMA_M)
        in_front = [
            beyond_arc(*arcs(r[None, None], np.array([[t, -t]]), truth.query, truth.match)).max(axis=-1).min()
            for r, t in candidates
        ]
        if max(in_front) < 1e-6:
            assert found is None
        else:
            assert found is not None
            check_honest(found, truth)


@pytest.mark.parametrize("world", ["plane", "ground"])
@pytest.mark.parametrize(("move", "is_told"), [((0.8, 0.0, 0.2), True), ((0.1, 0.1, 0.8), False)])
def test_a_plane_s_second_motion_is_ruled_out_by_what_it_puts_behind_or_there_is_no_answer(
    world: str, move: tuple[float, float, float], is_told: bool
) -> None:
    """Along a plane the second motion moves through it; towards it both are possible.

    A few of a plane's poses are wrong by more than their covariances: its two motions are neighbours, and noise tips the choice.
    """
    found = {seed: views(world, move, seed, outliers=0.1, noise_px=0.3).estimate() for seed in range(40)}
    told = {seed: pose for seed, pose in found.items() if pose is not None}
    assert len(told) == 40 if is_told else len(told) <= 4
    wrong = 0
    for seed, pose in told.items():
        try:
            check_honest(pose, views(world, move, seed, outliers=0.1, noise_px=0.3))
        except AssertionError:
            wrong += 1
    assert wrong <= 2


def test_a_wrong_guess_is_left_behind() -> None:
    """A guess that twists the motion, moves back or is anything: the rays decide."""
    for seed in range(10):
        truth = views(seed=seed, outliers=0.0)
        guess = cross_matrix(unit(np.random.default_rng(seed).normal(size=3)))
        found = relative_pose(truth.query, truth.match, guess, np.ones(150, bool), MAX_ERROR / 2, SCALE_SIGMA_M)
        assert found is not None
        check_honest(found, truth)


@pytest.mark.parametrize("count", [0, 1, 5, 7])
def test_few_pairs_have_no_pose(count: int) -> None:
    assert views(count=count, outliers=0.0).estimate() is None


@pytest.mark.parametrize("count", [8, 10, 15, 30])
def test_no_more_is_claimed_of_few_pairs(count: int) -> None:
    far_off = 0
    for seed in range(20):
        truth = views(count=count, seed=seed, outliers=0.0)
        found = truth.estimate()
        far_off += found is not None and rotation_error(found, truth.rotation) > 2 * CHI2_99_9
    assert far_off <= (3 if count < 15 else 0)


def test_pairs_of_nothing_leave_no_sure_pose() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        query, match = unit(points_of("cloud", rng, 60)), unit(points_of("cloud", rng, 60))
        found = Views(query, match, np.eye(3), np.zeros(3)).estimate()
        assert found is None or found.inlier.sum() < 40


@pytest.mark.parametrize("shape", ["one point", "two points", "a line", "a line in both", "axis"])
@pytest.mark.parametrize("move", [(0.0, 0.0, 0.0), (0.5, 0.0, 0.2)])
def test_degenerate_scenes_neither_fail_nor_claim_much(shape: str, move: tuple[float, float, float]) -> None:
    rng = np.random.default_rng(0)
    points = points_of("cloud", rng, 60)
    points = {
        "one point": np.tile(points[:1], (60, 1)),
        "two points": points[rng.integers(0, 2, 60)],
        "a line": points[:1] + rng.uniform(0, 1, (60, 1)) * (points[1:2] - points[:1]),
        "a line in both": points * (1.0, 0.0, 1.0),
        "axis": np.tile([0.0, 0.0, 5.0], (60, 1)),
    }[shape]
    truth = Views(unit(points), unit(points + move), np.eye(3), np.array(move))
    for views_ in (truth, Views(truth.query, disturbed(truth.match, rng, 0.3), truth.rotation, truth.translation)):
        found = views_.estimate()
        if found is not None:
            assert np.isfinite(found.covariance).all()
            assert np.all(np.linalg.eigvalsh(found.covariance) > 0)
            assert np.isfinite(found.match_from_query).all()


def mahalanobis(a: RelativePose, b: Floats, spread: Floats) -> float:
    error = module.rotation_vector(a.match_from_query[:3, :3] @ b.T)
    return float(error @ np.linalg.solve(spread + 1e-14 * np.eye(3), error))


seeds = st.integers(0, 10_000)


@settings(deadline=None, max_examples=25)
@given(seeds, st.sampled_from(["cloud", "two planes", "corridor"]))
def test_swapping_the_cameras_inverts_the_pose(seed: int, world: str) -> None:
    truth = views(world, seed=seed)
    there, back = truth.estimate(), Views(truth.match, truth.query, truth.rotation.T, truth.translation).estimate()
    assert there is not None
    assert back is not None
    inverse = back.match_from_query[:3, :3].T
    turned = inverse @ back.covariance[3:, 3:] @ inverse.T
    assert mahalanobis(there, inverse, there.covariance[3:, 3:] + turned) < CHI2_99_9
    assert there.match_from_query[:3, 3] @ (-inverse @ back.match_from_query[:3, 3]) > np.cos(np.radians(5.0))


@settings(deadline=None, max_examples=25)
@given(seeds)
def test_cameras_that_are_both_turned_turn_the_pose(seed: int) -> None:
    """With one first guess, turned as they are: OpenCV's, on z = 1, depends on where z points."""
    truth = views(seed=seed)
    essential, likely = essential_matrix(truth.query, truth.match, MAX_ERROR)
    assert essential is not None
    axes = rotation_about(np.random.default_rng(seed).normal(0, 1, 3))
    plain = relative_pose(truth.query, truth.match, essential, likely, MAX_ERROR / 2, SCALE_SIGMA_M)
    turned = relative_pose(
        truth.query @ axes.T, truth.match @ axes.T, axes @ essential @ axes.T, likely, MAX_ERROR / 2, SCALE_SIGMA_M
    )
    assert plain is not None
    assert turned is not None
    expected = axes @ plain.match_from_query[:3, :3] @ axes.T
    assert mahalanobis(turned, expected, turned.covariance[3:, 3:]) < 1.0
    sizes = [np.trace(found.covariance[3:, 3:]) for found in (plain, turned)]
    assert max(sizes) < 4 * min(sizes)


@settings(deadline=None, max_examples=25)
@given(seeds)
def test_the_order_of_pairs_does_not_matter(seed: int) -> None:
    truth = views(seed=seed)
    essential, likely = essential_matrix(truth.query, truth.match, MAX_ERROR)
    order = np.random.default_rng(seed).permutation(len(truth.query))
    first = relative_pose(truth.query, truth.match, essential, likely, MAX_ERROR / 2, SCALE_SIGMA_M)
    second = relative_pose(
        truth.query[order], truth.match[order], essential, likely[order], MAX_ERROR / 2, SCALE_SIGMA_M
    )
    assert first is not None
    assert second is not None
    np.testing.assert_allclose(second.match_from_query, first.match_from_query, atol=1e-6)
    np.testing.assert_array_equal(second.inlier, first.inlier[order])


@settings(deadline=None, max_examples=50)
@given(seeds)
def test_the_arc_holds_what_both_cameras_see_in_front(seed: int) -> None:
    """Against the slow oracle: the nearest of many points along the ray, and of points behind a camera."""
    rng = np.random.default_rng(seed)
    rotation, move = rotation_about(rng.normal(0, 1, 3)), unit(rng.normal(size=3))
    ray = unit(rng.normal(size=3))
    depths = rng.choice([-1.0, 1.0], 20) * 10 ** rng.uniform(-2, 2, 20)
    match = unit((depths[:, None] * ray) @ rotation.T + move) * rng.choice([-1.0, 1.0], (20, 1))
    (over,) = beyond_arc(*arcs(rotation[None, None], move[None, None], np.tile(ray, (20, 1)), match))[0, 0]

    def angles(to: NDArray[np.float64], depth: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.arccos(np.clip(unit((depth[:, None] * ray) @ rotation.T + move) @ to, -1, 1))

    dense = np.concatenate([[0.0], 10 ** np.linspace(-5, 5, 20001)])
    expected = []
    for each in match:
        nearest = int(
            angles(each, dense).argmin()
        )  # and once more about it: past the camera a little depth is a large angle
        finer = np.linspace(dense[max(nearest - 1, 0)], dense[min(nearest + 1, len(dense) - 1)], 2001)
        expected.append(min(angles(each, finer).min(), np.arccos(np.clip(each @ (rotation @ ray), -1, 1))))
    np.testing.assert_allclose(over, expected, atol=2e-3)


def test_the_derivatives_are_those_of_the_errors() -> None:
    truth = views(outliers=0.3)
    pairs = module._Pairs(truth.query, truth.match)
    frames = cayley(np.random.default_rng(0).normal(0, 1, (3, 2, 3)))
    jacobian = module._epipolar_jacobian(frames, pairs, *module._epipolar_errors(frames, pairs))
    for k in range(5):
        step = np.zeros((3, 6))
        step[:, k] = 1e-6
        ahead, behind = (
            module._epipolar_errors(frames @ cayley(sign * step.reshape(3, 2, 3)), pairs)[0] for sign in (1, -1)
        )
        np.testing.assert_allclose(jacobian[:, k], (ahead - behind) / 2e-6, atol=1e-8)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-3, 3), min_size=3, max_size=3))
def test_small_turns_are_rotations_by_the_vector(vector: list[float]) -> None:
    turn = cayley(np.array(vector))
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    small = 1e-3 * np.array(vector)
    np.testing.assert_allclose(module.rotation_vector(cayley(small)), small, atol=1e-8)
