"""A scene of known points seen by two known cameras: everything the verifier says can be checked."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from small_worlds import texture

from vpr_ros.config import VerificationConfig
from vpr_ros.recognition.relative_pose import OVERDISPERSION
from vpr_ros.recognition.verification import GeometricVerifier, _normalised, coverage, mask_at
from vpr_ros.types import Camera, LocalFeatures, Pose, Thumbnail

CAMERA = Camera(500.0, 505.0, 320.0, 240.0, 640, 480)
DISTORTED = Camera(500.0, 505.0, 320.0, 240.0, 640, 480, distortion=(-0.2, 0.05, 0.001, -0.001, 0.0))
FISHEYE = Camera(300.0, 300.0, 320.0, 240.0, 640, 480, distortion=(0.01, -0.005, 0.001, 0.0), fisheye=True)


def motion(rotation_vector: list[float], translation: list[float]) -> Pose:
    pose = np.eye(4)
    pose[:3, :3] = cv2.Rodrigues(np.array(rotation_vector))[0]
    pose[:3, 3] = translation
    return pose


MATCH_FROM_QUERY = motion([0.03, -0.12, 0.02], [0.5, 0.05, 0.9])


def project(points: np.ndarray, camera: Camera) -> np.ndarray:
    """(N, 3) in the camera's frame -> (N, 2) px, by OpenCV's own projection."""
    if len(points) == 0:
        return np.zeros((0, 2))
    zero, distortion = np.zeros(3), np.array(camera.distortion or (0.0,) * 4)
    if camera.fisheye:
        return cv2.fisheye.projectPoints(points[None], zero, zero, camera.matrix, distortion)[0][0]
    return cv2.projectPoints(points, zero, zero, camera.matrix, distortion)[0][:, 0]


# MAGSAC of OpenCV 4.5 and 4.6 (Ubuntu 22.04, 24.04) finds a tenth fewer of the same 150 than that of 4.10 and 5.0
FEWEST_OF_150 = 130 if tuple(map(int, cv2.__version__.split(".")[:2])) >= (4, 7) else 115


def two_views(
    inliers: int,
    outliers: int,
    query_camera: Camera = CAMERA,
    match_camera: Camera = CAMERA,
    noise_px: float = 0.3,
    seed: int = 0,
) -> tuple[LocalFeatures, LocalFeatures]:
    """Features whose descriptors match one to one; `outliers` of them lie anywhere."""
    rng = np.random.default_rng(seed)
    points = np.column_stack(
        [rng.uniform(-4, 4, inliers), rng.uniform(-2.5, 2.5, inliers), rng.uniform(6, 20, inliers)]
    )
    seen = points @ MATCH_FROM_QUERY[:3, :3].T + MATCH_FROM_QUERY[:3, 3]
    query = np.vstack([project(points, query_camera), rng.uniform([0, 0], [640, 480], (outliers, 2))])
    match = np.vstack([project(seen, match_camera), rng.uniform([0, 0], [640, 480], (outliers, 2))])
    descriptors = rng.integers(0, 256, (inliers + outliers, 128), dtype=np.uint8)
    noise = rng.normal(0, noise_px, (2, inliers + outliers, 2))
    order = rng.permutation(inliers + outliers)
    return (
        LocalFeatures((query + noise[0]).astype(np.float32), descriptors),
        LocalFeatures((match + noise[1]).astype(np.float32)[order], descriptors[order]),
    )


@pytest.mark.parametrize(
    ("query_camera", "match_camera"),
    [(CAMERA, CAMERA), (DISTORTED, DISTORTED), (FISHEYE, FISHEYE), (CAMERA, DISTORTED)],
)
def test_the_motion_is_found_in_its_direction(query_camera: Camera, match_camera: Camera) -> None:
    query, match = two_views(150, 60, query_camera, match_camera)
    found = GeometricVerifier(VerificationConfig()).verify(query, query_camera, match, match_camera)
    assert FEWEST_OF_150 <= found.inliers <= 165
    assert found.inlier_ratio == pytest.approx(found.inliers / 210)
    assert found.coverage >= (0.25 if query_camera.fisheye else 0.7)  # a fisheye's image is wider than the scene
    assert found.match_from_query is not None
    turn = found.match_from_query[:3, :3].T @ MATCH_FROM_QUERY[:3, :3]
    assert np.degrees(np.linalg.norm(cv2.Rodrigues(turn)[0])) < 1.0
    direction = MATCH_FROM_QUERY[:3, 3] / np.linalg.norm(MATCH_FROM_QUERY[:3, 3])
    assert np.linalg.norm(found.match_from_query[:3, 3]) == pytest.approx(1.0)
    assert found.match_from_query[:3, 3] @ direction > np.cos(np.radians(8.0))


def test_without_intrinsics_inliers_but_no_motion() -> None:
    found = GeometricVerifier(VerificationConfig()).verify(*_interleave(two_views(150, 60), None))
    assert 130 <= found.inliers <= 170
    assert found.match_from_query is None
    assert found.covariance is None


@pytest.mark.parametrize("camera", [CAMERA, None])
def test_a_camera_that_did_not_move_is_at_the_same_place(camera: Camera | None) -> None:
    """Nothing determines a fundamental matrix here."""
    for seed in range(12):
        view, _ = two_views(100, 0, noise_px=0.0, seed=seed)
        assert GeometricVerifier(VerificationConfig()).verify(view, camera, view, camera).inliers == 100


@pytest.mark.parametrize("camera", [CAMERA, None])
def test_chance_matches_find_no_motion(camera: Camera | None) -> None:
    default = VerificationConfig()
    for seed in range(20):
        found = GeometricVerifier(default).verify(*_interleave(two_views(0, 60, seed=seed), camera))
        assert found.inliers < default.min_inliers


def test_points_on_which_opencv_gives_up_with_an_exception_find_nothing() -> None:
    """Thirteen matches between two corridors: MAGSAC's fundamental matrix asserts on them (OpenCV 5.0.0)."""
    query = [[298.6, 40.1], [299.6, 36.9], [240.5, 38.9], [236.8, 36.9], [234.8, 34.6], [235.2, 39.0], [240.6, 34.8],
             [240.6, 34.8], [242.0, 72.6], [280.9, 77.6], [248.0, 72.7], [295.4, 78.7], [255.9, 86.4]]  # fmt: skip
    match = [[302.6, 212.2], [299.0, 32.1], [234.9, 38.0], [230.9, 35.9], [229.6, 33.4], [229.7, 38.0], [235.0, 33.9],
             [235.0, 33.9], [237.7, 71.4], [278.0, 77.9], [243.5, 71.5], [282.1, 82.5], [251.9, 87.2]]  # fmt: skip
    descriptors = np.random.default_rng(0).integers(0, 256, (13, 128), dtype=np.uint8)
    views = [LocalFeatures(np.array(points, np.float32), descriptors) for points in (query, match)]
    for camera in (None, CAMERA):
        found = GeometricVerifier(VerificationConfig()).verify(views[0], camera, views[1], camera)
        assert found.inliers < VerificationConfig().min_inliers


@pytest.mark.parametrize("count", [0, 1, 7])
def test_too_few_features(count: int) -> None:
    found = GeometricVerifier(VerificationConfig()).verify(*_interleave(two_views(count, 0), CAMERA))
    assert (found.inliers, found.inlier_ratio, found.coverage) == (0, 0.0, 0.0)


def test_the_same_answer_every_time() -> None:
    arguments = _interleave(two_views(80, 80), CAMERA)
    first, second = (GeometricVerifier(VerificationConfig()).verify(*arguments) for _ in range(2))
    assert first.inliers == second.inliers
    np.testing.assert_array_equal(first.match_from_query, second.match_from_query)
    np.testing.assert_array_equal(first.covariance, second.covariance)


@pytest.mark.parametrize(("features", "size", "norm"), [("sift", 128, cv2.NORM_L2), ("orb", 32, cv2.NORM_HAMMING)])
def test_matching_is_what_opencv_s_matcher_finds(features: str, size: int, norm: int) -> None:
    rng = np.random.default_rng(1)
    base = rng.integers(0, 256, (60, size), dtype=np.uint8)
    flips = (rng.random((60, size)) < 0.2) * rng.integers(0, 256, (60, size), dtype=np.uint8)
    a = LocalFeatures(np.zeros((60, 2), np.float32), base)
    b = LocalFeatures(np.zeros((60, 2), np.float32), (base ^ flips.astype(np.uint8))[rng.permutation(60)])
    ratio = 0.85 if features == "sift" else 0.85**2  # Hamming's distance is a squared one
    matcher = cv2.BFMatcher(norm)
    back = {m.queryIdx: m.trainIdx for m in matcher.match(b.descriptors, a.descriptors)}
    expected = [
        [m.queryIdx, m.trainIdx]
        for m, n in matcher.knnMatch(a.descriptors, b.descriptors, k=2)
        if m.distance < ratio * n.distance and back[m.trainIdx] == m.queryIdx
    ]
    found = GeometricVerifier(VerificationConfig(features=features)).match(a, b)
    assert len(expected) > 20
    assert found.tolist() == expected


class Corners:
    """An extractor that finds the outer corners of what it is shown, with descriptors of random numbers."""

    name = id = "corners"

    def extract(self, grey: np.ndarray) -> LocalFeatures:
        assert grey.ndim == 2
        right, bottom = grey.shape[1] - 0.5, grey.shape[0] - 0.5
        points = np.array([[-0.5, -0.5], [right, -0.5], [right, bottom], [-0.5, bottom]], np.float32)
        return LocalFeatures(points, np.random.default_rng(0).normal(0, 1, (4, 64)).astype(np.float32))

    def vectors(self, features: LocalFeatures) -> np.ndarray:
        return features.descriptors


def test_any_extractor_will_do() -> None:
    """It sees the shrunk grey image, and its points become those of the original."""
    verifier = GeometricVerifier(VerificationConfig(max_size_px=400), Corners())
    image = texture(1, 1000, 600)
    expected = [[-0.5, -0.5], [999.5, -0.5], [999.5, 599.5], [-0.5, 599.5]]
    for shown in (image, verifier.thumbnail(image)):
        features = verifier.extract(shown)
        np.testing.assert_allclose(features.points, expected, atol=1e-3)
    shuffled = LocalFeatures(features.points, features.descriptors[[2, 0, 3, 1]])
    assert verifier.match(features, shuffled).tolist() == [[0, 1], [1, 3], [2, 0], [3, 2]]


@pytest.mark.parametrize("features", ["sift", "orb"])
def test_features_of_a_shifted_picture_are_found_again(features: str) -> None:
    wide = texture(3, 720, 480)
    verifier = GeometricVerifier(VerificationConfig(features=features))
    left, right = (
        verifier.extract(np.ascontiguousarray(wide[:, :640])),
        verifier.extract(np.ascontiguousarray(wide[:, 80:])),
    )
    pairs = verifier.match(left, right)
    shift = left.points[pairs[:, 0]] - right.points[pairs[:, 1]]
    assert len(pairs) > 50
    assert np.mean(np.linalg.norm(shift - [80, 0], axis=1) < 3.0) > 0.8


def test_points_are_in_pixels_of_the_image_given_however_it_was_shrunk() -> None:
    image = texture(4, 640, 480)
    large = cv2.resize(image, (1280, 960), interpolation=cv2.INTER_CUBIC)
    verifier = GeometricVerifier(VerificationConfig(max_size_px=640))
    small_features, large_features = verifier.extract(image), verifier.extract(large)
    pairs = verifier.match(small_features, large_features)
    expected = (small_features.points[pairs[:, 0]] + 0.5) * 2 - 0.5
    assert np.median(np.linalg.norm(large_features.points[pairs[:, 1]] - expected, axis=1)) < 0.5


@pytest.mark.parametrize("width", [320, 1280])
def test_a_thumbnail_keeps_what_verifies(width: int) -> None:
    image = cv2.resize(texture(5, 640, 480), (width, width * 3 // 4), interpolation=cv2.INTER_CUBIC)
    verifier = GeometricVerifier(VerificationConfig(max_size_px=640))
    fresh, kept = verifier.extract(image), verifier.extract(verifier.thumbnail(image))
    pairs = verifier.match(fresh, kept)
    assert len(pairs) > 0.5 * len(fresh)
    assert np.median(np.linalg.norm(fresh.points[pairs[:, 0]] - kept.points[pairs[:, 1]], axis=1)) < 0.5


@pytest.mark.parametrize("jpeg", [b"", b"no jpeg"])
def test_a_damaged_thumbnail_has_no_features(jpeg: bytes) -> None:
    assert len(GeometricVerifier(VerificationConfig()).extract(Thumbnail(jpeg, 1.0))) == 0


@pytest.mark.parametrize("features", ["sift", "orb"])
def test_a_blank_image_has_no_features(features: str) -> None:
    verifier = GeometricVerifier(VerificationConfig(features=features))
    blank = verifier.extract(np.full((48, 64, 3), 128, np.uint8))
    assert len(blank) == 0
    assert verifier.verify(blank, CAMERA, blank, CAMERA).inliers == 0


def test_coverage_counts_cells() -> None:
    grid = np.stack(np.meshgrid(np.arange(8), np.arange(8)), axis=-1).reshape(-1, 2).astype(np.float32)
    assert coverage(grid, np.ones(64, bool)) == 1.0
    assert coverage(grid, np.zeros(64, bool)) == 0.0
    assert coverage(grid, np.arange(64) == 0) == 1 / 16
    assert coverage(grid, grid[:, 1] < 2) == 4 / 16


def test_the_covariance_is_what_repeated_estimates_scatter_by() -> None:
    """Monte Carlo: rotation errors of many noisy estimates against what each claims, but for the share of errors that real
    features have together and these do not."""
    errors, claimed = [], []
    for seed in range(60):
        found = GeometricVerifier(VerificationConfig()).verify(
            *_interleave(two_views(150, 0, noise_px=0.5, seed=seed), CAMERA)
        )
        assert found.match_from_query is not None
        assert found.covariance is not None
        errors.append(cv2.Rodrigues(found.match_from_query[:3, :3] @ MATCH_FROM_QUERY[:3, :3].T)[0].ravel())
        claimed.append(np.diag(found.covariance)[3:])
    scatter, claim = np.std(errors, axis=0), np.sqrt(np.mean(claimed, axis=0) / OVERDISPERSION)
    assert np.all(scatter < 3 * claim), (scatter, claim)
    assert np.all(claim < 3 * scatter), (scatter, claim)


def test_the_covariance_is_a_covariance_and_knows_no_scale() -> None:
    found = GeometricVerifier(VerificationConfig()).verify(*_interleave(two_views(150, 0), CAMERA))
    assert found.match_from_query is not None
    assert found.covariance is not None
    np.testing.assert_allclose(found.covariance, found.covariance.T)
    assert np.linalg.eigvalsh(found.covariance).min() > 0
    direction = found.match_from_query[:3, 3]
    assert np.sqrt(direction @ found.covariance[:3, :3] @ direction) == pytest.approx(5.0, rel=1e-6)
    sideways = np.cross(direction, [0.0, 1.0, 0.0])
    assert np.sqrt(sideways @ found.covariance[:3, :3] @ sideways) < 0.5


@pytest.mark.parametrize("noise_px", [0.0, 0.3, 1.0])
def test_a_camera_that_did_not_move_did_not_turn(noise_px: float) -> None:
    """Recovering a pose by points in front of both cameras, none of which is near, turned it by 180 degrees."""
    for seed in range(12):
        view, _ = two_views(120, 0, noise_px=0.0, seed=seed)
        noise = np.random.default_rng(seed).normal(0, noise_px, view.points.shape).astype(np.float32)
        found = GeometricVerifier(VerificationConfig()).verify(
            LocalFeatures(view.points + noise, view.descriptors), CAMERA, view, CAMERA
        )
        assert found.match_from_query is not None
        assert found.covariance is not None
        assert np.degrees(np.linalg.norm(cv2.Rodrigues(found.match_from_query[:3, :3])[0])) < 0.2
        np.testing.assert_array_equal(found.match_from_query[:3, 3], 0.0)
        np.testing.assert_allclose(found.covariance[:3, :3], 26.0 * np.eye(3))


def test_the_order_of_features_changes_nothing() -> None:
    query, match = two_views(100, 60)
    order = np.random.default_rng(1).permutation(len(query))
    shuffled = LocalFeatures(query.points[order], query.descriptors[order])
    verifier = GeometricVerifier(VerificationConfig())
    first, second = (verifier.verify(view, CAMERA, match, CAMERA) for view in (query, shuffled))
    assert first.inliers == second.inliers
    np.testing.assert_array_equal(first.match_from_query, second.match_from_query)
    np.testing.assert_array_equal(first.covariance, second.covariance)


def test_only_the_pose_is_left_to_do_after_counting() -> None:
    arguments = _interleave(two_views(100, 60), CAMERA)
    verifier = GeometricVerifier(VerificationConfig())
    counted, whole = verifier.count_inliers(*arguments), verifier.verify(*arguments)
    assert counted.match_from_query is None
    done = verifier.with_pose(counted)
    assert (done.inliers, done.coverage, done.agreement) == (whole.inliers, whole.coverage, None)
    np.testing.assert_array_equal(done.match_from_query, whole.match_from_query)


@pytest.mark.parametrize("camera", [CAMERA, DISTORTED, FISHEYE])
def test_rays_are_what_the_camera_projects(camera: Camera) -> None:
    rng = np.random.default_rng(0)
    points = np.column_stack([rng.uniform(-4, 4, 50), rng.uniform(-3, 3, 50), rng.uniform(5, 9, 50)])
    rays = _normalised(project(points, camera).astype(np.float32), camera)
    np.testing.assert_allclose(rays, points / np.linalg.norm(points, axis=1, keepdims=True), atol=5e-5)


def test_a_fisheye_sees_behind_itself() -> None:
    """210 degrees; OpenCV's inverse has no place for what lies at or behind 90."""
    camera = Camera(160.0, 160.0, 320.0, 320.0, 640, 640, distortion=(0.02, -0.004, 0.0, 0.0), fisheye=True)
    angle = np.radians([0.0, 45.0, 89.9, 90.0, 90.1, 105.0])
    radius = 160.0 * angle * (1 + 0.02 * angle**2 - 0.004 * angle**4)
    points = np.column_stack([320.0 + radius, np.full(6, 320.0)]).astype(np.float32)
    rays = _normalised(points, camera)
    np.testing.assert_allclose(rays, np.column_stack([np.sin(angle), np.zeros(6), np.cos(angle)]), atol=1e-5)


def _interleave(
    views: tuple[LocalFeatures, LocalFeatures], camera: Camera | None
) -> tuple[LocalFeatures, Camera | None, LocalFeatures, Camera | None]:
    return views[0], camera, views[1], camera


def test_a_mask_is_read_where_a_point_lies() -> None:
    mask = np.float32([[0.0, 1.0], [0.5, 0.25]])  # of an image of 8 x 4 px: cells of 4 x 2
    points = np.float32([[1.5, 0.5], [5.5, 0.5], [1.5, 2.5], [5.5, 2.5], [3.5, 0.5], [0, 0], [7, 3]])
    np.testing.assert_allclose(mask_at(mask, points, 8, 4), [0, 1, 0.5, 0.25, 0.5, 0, 0.25], atol=0.02)
    assert mask_at(mask, points[:0], 8, 4).shape == (0,)
