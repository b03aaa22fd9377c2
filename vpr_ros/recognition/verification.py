"""Do two images show the same rigid scene? Local features and epipolar geometry.

Matches that agree on one camera motion are inliers; robust estimation is OpenCV's MAGSAC (Barath et al., CVPR 2019).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vpr_ros.config import VerificationConfig
from vpr_ros.images import decode_grey
from vpr_ros.recognition.grey import Grey, shrunk_grey, stretched
from vpr_ros.recognition.local_features import LocalFeatureExtractor, open_features
from vpr_ros.recognition.own_body import Indices, on_body
from vpr_ros.recognition.relative_pose import LEAST_PAIRS, Rays, relative_pose, sampson_errors
from vpr_ros.types import Agreement, Camera, Image, LocalFeatures, Mask, Thumbnail, Verification

GRID = 4
CONFIDENCE = 0.999
MAX_ITERATIONS = 2000
WIDEST = np.radians(80.0)
"""Angle off the axis up to which rays are used as points on the plane z = 1, where noise grows with the square of its secant."""
CALIBRATION_PX = 1.0
"""What intrinsics may be off by, lens and centre of the image together: usual calibrations are no better."""


class GeometricVerifier:
    """Extracts local features and verifies pairs of images by them."""

    def __init__(self, config: VerificationConfig, extractor: LocalFeatureExtractor | None = None) -> None:
        """`extractor` finds the local features; without one they are those that `config` names."""
        self._config = config
        self._extractor = extractor or open_features(config.features, config.max_features)

    def thumbnail(self, image: Image) -> Thumbnail:
        """What a map keeps of an image: half the bytes of its local features, and a fraction of the time to make."""
        return self.encode(*self.shrink(image))

    def shrink(self, image: Image) -> tuple[Grey, float]:
        """The grey picture (h, w) that local features are found in once it is stretched, and its scale."""
        return shrunk_grey(image, self._config.max_size_px)

    def encode(self, grey: Grey, scale: float, mask: Mask | None = None) -> Thumbnail:
        """Of what `shrink` made; what a mask over the image ignores has no say in how it is stretched."""
        grey = stretched(grey, mask)
        return Thumbnail(cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes(), scale)

    def extract(self, image: Image | Thumbnail, mask: Mask | None = None) -> LocalFeatures:
        """Local features of an image, or of what `thumbnail` kept of one; points in px of the original image.

        Only those where a mask over the image is at least 0.5. A thumbnail that cannot be decoded has none.
        """
        if not isinstance(image, Thumbnail):
            grey, scale = self.shrink(image)
            features = self._detect(stretched(grey, mask), scale, (image.shape[1], image.shape[0]))
            if mask is None:
                return features
            return _where(features, mask_at(mask, features.points, *image.shape[1::-1]) >= 0.5)
        decoded = decode_grey(image.jpeg)
        grey = np.zeros((1, 1), np.uint8) if decoded is None else decoded
        width, height = (round(length / image.scale) for length in grey.shape[::-1])
        return self._detect(stretched(grey), image.scale, (width, height))  # older maps' are not stretched yet

    def _detect(self, grey: Grey, scale: float, size_px: tuple[int, int]) -> LocalFeatures:
        found = self._extractor.extract(grey)
        points = (found.points + 0.5) / scale - 0.5  # pixel centres are at integers
        return LocalFeatures(points.astype(np.float32), found.descriptors, size_px)

    def verify(
        self, query: LocalFeatures, query_camera: Camera | None, match: LocalFeatures, match_camera: Camera | None
    ) -> Verification:
        """Inliers, and where both cameras are calibrated the pose that they show."""
        return self.with_pose(self.count_inliers(query, query_camera, match, match_camera))

    def count_inliers(
        self, query: LocalFeatures, query_camera: Camera | None, match: LocalFeatures, match_camera: Camera | None
    ) -> Verification:
        """Fit an essential matrix where both cameras are calibrated, else a fundamental matrix or homography; count inliers.

        Feature matches on the robot's own body take no part (`own_body.py`). `with_pose` does the rest: of several candidates
        only for the best.
        """
        pairs, nearest, back = self._matched(query, match)
        is_body = on_body(query, match, nearest, back, pairs, self._config.max_size_px, self._config.min_motion_px)
        result = self._count_inliers(query, query_camera, match, match_camera, pairs[~is_body])
        return replace(result, still=int(is_body.sum()))

    def _count_inliers(
        self,
        query: LocalFeatures,
        query_camera: Camera | None,
        match: LocalFeatures,
        match_camera: Camera | None,
        pairs: Indices,
    ) -> Verification:
        query_points, match_points = query.points[pairs[:, 0]], match.points[pairs[:, 1]]
        if len(pairs) < 8:
            return Verification(inliers=0, inlier_ratio=0.0, coverage=0.0)
        if query_camera is not None and match_camera is not None:
            return self._verify_calibrated(query_points, query_camera, match_points, match_camera)
        inlier = self._uncalibrated_inliers(query_points, match_points)
        return Verification(int(inlier.sum()), float(inlier.mean()), coverage(query_points, inlier))

    def _uncalibrated_inliers(self, query: NDArray[np.float32], match: NDArray[np.float32]) -> NDArray[np.bool_]:
        """The better of a fundamental matrix and a homography.

        Where the camera hardly moved, or sees one plane, the fundamental matrix is undetermined and finds nothing.
        """
        arguments = (query, match, cv2.USAC_MAGSAC, self._config.max_error_px)
        _, epipolar = _estimate(cv2.findFundamentalMat, *arguments, CONFIDENCE, MAX_ITERATIONS)
        _, planar = _estimate(cv2.findHomography, *arguments, maxIters=MAX_ITERATIONS, confidence=CONFIDENCE)
        return max((_as_bool(mask, len(query)) for mask in (epipolar, planar)), key=np.count_nonzero)

    def match(self, query: LocalFeatures, match: LocalFeatures) -> Indices:
        """(M, 2) indices of mutual nearest neighbours that pass Lowe's ratio test."""
        return self._matched(query, match)[0]

    def _matched(self, query: LocalFeatures, match: LocalFeatures) -> tuple[Indices, Indices, Indices]:
        """What `match` returns, and each feature's nearest in the other image: (M, 2), (len(query),), (len(match),)."""
        if len(query) < 2 or len(match) < 2:
            return np.zeros((0, 2), np.int64), np.zeros(len(query), np.int64), np.zeros(len(match), np.int64)
        distances = squared_distances(self._extractor.vectors(query), self._extractor.vectors(match))
        nearest, back = distances.argmin(axis=1), distances.argmin(axis=0)
        index = np.arange(len(query))
        best, second = np.partition(distances, 1, axis=1)[:, :2].T
        kept = (best < self._config.max_ratio**2 * second) & (back[nearest] == index)
        return np.column_stack([index[kept], nearest[kept]]), nearest, back

    def _verify_calibrated(
        self,
        query_points: NDArray[np.float32],
        query_camera: Camera,
        match_points: NDArray[np.float32],
        match_camera: Camera,
    ) -> Verification:
        # what random samples find must not depend on the order of features
        order = np.lexsort(np.hstack([query_points, match_points]).T)
        query_points, match_points = query_points[order], match_points[order]
        query_rays, match_rays = _normalised(query_points, query_camera), _normalised(match_points, match_camera)
        finite = np.isfinite(np.hstack([query_rays, match_rays])).all(axis=1)  # others are outside the lens model
        query_points, query_rays, match_rays = query_points[finite], query_rays[finite], match_rays[finite]
        if len(query_rays) < LEAST_PAIRS:
            return Verification(inliers=0, inlier_ratio=0.0, coverage=0.0)
        rad_per_px = 4 / (query_camera.fx + query_camera.fy + match_camera.fx + match_camera.fy)
        essential, inlier = essential_matrix(query_rays, match_rays, self._config.max_error_px * rad_per_px)
        return Verification(
            int(inlier.sum()),
            float(inlier.mean()),
            coverage(query_points, inlier),
            agreement=Agreement(query_rays, match_rays, inlier, essential, rad_per_px),
        )

    def with_pose(self, verification: Verification) -> Verification:
        """What `count_inliers` returned with its pose, if its rays show one; they are dropped."""
        agreement = verification.agreement
        found = None
        if agreement is not None:
            found = relative_pose(
                agreement.query_rays,
                agreement.match_rays,
                agreement.essential,
                agreement.inlier,
                noise=self._config.max_error_px / 2 * agreement.rad_per_px,
                scale_sigma_m=self._config.unknown_scale_sigma_m,
                calibration=CALIBRATION_PX * agreement.rad_per_px,
            )
        if found is None:
            return replace(verification, agreement=None)
        return replace(
            verification, match_from_query=found.match_from_query, covariance=found.covariance, agreement=None
        )


def _where(features: LocalFeatures, kept: NDArray[np.bool_]) -> LocalFeatures:
    return LocalFeatures(features.points[kept], features.descriptors[kept], features.size_px)


def mask_at(mask: Mask, points: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    """(N,) values of a mask (h, w) over an image of `width` x `height` px at `points` (N, 2) px, linear between its cells."""
    if not len(points):
        return np.zeros(0, np.float32)  # OpenCV refuses an empty map
    rows, columns = mask.shape
    x, y = ((points + 0.5) * (columns / width, rows / height) - 0.5).astype(np.float32).reshape(-1, 2).T
    return cv2.remap(mask, x[None], y[None], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[0]


def squared_distances(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, D), (M, D) -> (N, M). One matrix product: 30 times as fast as OpenCV's matcher on bytes."""
    squares = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1)[None, :]
    return np.maximum(squares - 2.0 * (a @ b.T), 0.0)


def _normalised(points: NDArray[np.float32], camera: Camera) -> Rays:
    """(N, 2) px -> (N, 3) unit rays, without distortion; of a fisheye also those at and behind 90 degrees."""
    distortion = np.array(camera.distortion or (0.0,) * 4, dtype=np.float64)
    pixels = points.reshape(-1, 1, 2).astype(np.float64)
    if not camera.fisheye:
        flat = cv2.undistortPoints(pixels, camera.matrix, distortion).reshape(-1, 2)
        rays = np.column_stack([flat, np.ones(len(flat))])
        return rays / np.linalg.norm(rays, axis=1, keepdims=True)
    seen = (pixels.reshape(-1, 2) - (camera.cx, camera.cy)) / (camera.fx, camera.fy)
    radius = np.linalg.norm(seen, axis=1)
    angle = _fisheye_angles(radius, distortion)
    across = seen * (np.sin(angle) / np.maximum(radius, 1e-12))[:, None]
    return np.column_stack([across, np.cos(angle)])


def _fisheye_angles(radius: NDArray[np.float64], distortion: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) angles off the axis in rad of an equidistant lens, which shows them at `radius` (1 + k1 a^2 + k2 a^4 + ...) a.

    Newton's method. OpenCV's inverse gives points on z = 1, which has no place for 90 degrees and more.
    """
    powers = np.arange(1, len(distortion) + 1) * 2
    angle = np.minimum(radius, np.pi)
    for _ in range(10):
        terms = distortion * angle[:, None] ** powers
        slope = 1.0 + (terms * (powers + 1)).sum(axis=1)
        angle -= (angle * (1.0 + terms.sum(axis=1)) - radius) / np.where(slope > 0.1, slope, 1.0)
        angle = np.clip(angle, 0.0, np.pi)
    return angle


def essential_matrix(
    query: Rays, match: Rays, max_error: float
) -> tuple[NDArray[np.float64] | None, NDArray[np.bool_]]:
    """A robust essential matrix (3, 3) and the (N,) pairs of unit rays within `max_error` in rad of it; (None, no pair) if none.

    OpenCV wants points on z = 1, so the widest rays have no part in it, but are judged by what it finds.
    """
    flat = np.minimum(query[:, 2], match[:, 2]) > np.cos(WIDEST)
    inlier = np.zeros(len(query), bool)
    if np.count_nonzero(flat) < LEAST_PAIRS:
        return None, inlier
    arguments = (query[flat, :2] / query[flat, 2:], match[flat, :2] / match[flat, 2:], np.eye(3))
    limits = (CONFIDENCE, max_error, MAX_ITERATIONS)
    essential, mask = _estimate(cv2.findEssentialMat, *arguments, cv2.USAC_MAGSAC, *limits)
    if essential is None:  # it gives up where the camera did not move at all; plain RANSAC does not
        essential, mask = _estimate(cv2.findEssentialMat, *arguments, cv2.RANSAC, *limits)
    if essential is None or essential.shape != (3, 3):
        return None, inlier
    inlier[flat] = _as_bool(mask, int(np.count_nonzero(flat)))
    inlier[~flat] = np.abs(sampson_errors(essential, query[~flat], match[~flat])) < max_error
    return essential, inlier


def _estimate(estimator: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[Any, Any]:
    """(model, mask) of one of OpenCV's robust estimators; (None, None) where it asserts, as it does on degenerate points."""
    try:
        return estimator(*arguments, **options)
    except cv2.error:
        return None, None


def _as_bool(mask: NDArray[np.uint8] | None, count: int) -> NDArray[np.bool_]:
    return np.zeros(count, bool) if mask is None else mask.ravel().astype(bool)


def coverage(points: NDArray[np.float32], inlier: NDArray[np.bool_]) -> float:
    """Share of the 4 x 4 cells over the extent of all matched `points` (N, 2) that hold an inlier.

    Inliers on one poster or one car fill few cells; a place fills many.
    """
    if not inlier.any():
        return 0.0
    low, high = points.min(axis=0), points.max(axis=0)
    cells = np.minimum((points[inlier] - low) / np.maximum(high - low, 1e-6) * GRID, GRID - 1).astype(int)
    return len(np.unique(cells[:, 0] * GRID + cells[:, 1])) / GRID**2
