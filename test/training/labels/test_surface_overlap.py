"""Depth images of worlds whose overlap is known, and a slow pixel-by-pixel oracle in a room."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_array

from training.data.image_set import ImageSet, Surfaces
from training.labels.surface_overlap import SurfaceOverlap
from vpr_ros.errors import ConfigError, SourceError
from vpr_ros.types import Camera

CAMERA = Camera(20.0, 20.0, 19.5, 14.5, 40, 30)
UNITS_PER_M = 1000.0
EVERY_PIXEL = SurfaceOverlap(stride_px=1)


def at(x: float = 0.0, y: float = 0.0, z: float = 0.0, turn: float = 0.0) -> NDArray[np.float64]:
    """world_from_camera, turned about the camera's y."""
    pose = np.eye(4)
    pose[:3, 3] = x, y, z
    cos, sin = np.cos(turn), np.sin(turn)
    pose[:3, :3] = [[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]]
    return pose


def wall(depth_m: float) -> NDArray[np.float64]:
    return np.full((CAMERA.height, CAMERA.width), depth_m)


def world(
    folder: Path, views: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]], camera: Camera = CAMERA
) -> ImageSet:
    """A set of (pose, depth in m)."""
    paths = []
    for index, (_, depth) in enumerate(views):
        paths.append(folder / f"{index}.png")
        cv2.imwrite(str(paths[-1]), np.round(depth * UNITS_PER_M).astype(np.uint16))
    surfaces = Surfaces(np.stack([pose for pose, _ in views]), tuple(paths), UNITS_PER_M, camera)
    return ImageSet.of("room", paths, surfaces=surfaces)


def psi_of_two(images: ImageSet, rule: SurfaceOverlap = EVERY_PIXEL) -> float:
    matrix = rule.similarity(images)
    assert matrix[0, 1] == matrix[1, 0] or np.isnan(matrix[0, 1])
    return float(matrix[0, 1])


@pytest.mark.parametrize("shift_px", [0, 10, 20, 39, 40])
def test_a_step_aside_before_a_wall(tmp_path: Path, shift_px: int) -> None:
    step_m = shift_px * 2.0 / CAMERA.fx
    images = world(tmp_path, [(at(), wall(2.0)), (at(x=step_m), wall(2.0))])
    assert psi_of_two(images) == pytest.approx(1 - shift_px / 40)


def test_a_step_forward_is_averaged_over_both_directions(tmp_path: Path) -> None:
    images = world(tmp_path, [(at(), wall(4.0)), (at(z=2.0), wall(2.0))])
    # the nearer camera sees the middle 20 x 15 px of the other, which sees all that the nearer does
    assert psi_of_two(images) == pytest.approx((1 + 20 * 15 / (40 * 30)) / 2, abs=0.02)


def test_what_is_hidden_is_not_shared(tmp_path: Path) -> None:
    half_hidden = wall(2.0)
    half_hidden[:, :20] = 1.0
    images = world(tmp_path, [(at(), wall(2.0)), (at(), half_hidden)])
    assert psi_of_two(images) == pytest.approx(0.5)


def test_cameras_back_to_back_share_nothing(tmp_path: Path) -> None:
    assert psi_of_two(world(tmp_path, [(at(), wall(2.0)), (at(turn=np.pi), wall(2.0))])) == 0.0


@pytest.mark.parametrize(("difference_m", "psi"), [(0.085, 1.0), (0.095, 0.0)])
def test_depths_agree_within_the_tolerance(tmp_path: Path, difference_m: float, psi: float) -> None:
    images = world(tmp_path, [(at(), wall(2.0)), (at(), wall(2.0 + difference_m))])
    assert psi_of_two(images, SurfaceOverlap(stride_px=1, tolerance_m=0.05, tolerance_per_m=0.02)) == psi


@pytest.mark.parametrize("unknown", [0.0, 65.535])
def test_only_known_depth_counts(tmp_path: Path, unknown: float) -> None:
    holes = wall(2.0)
    holes[:, :10] = unknown
    # of the first image's pixels 3/4 are seen by the second; of the second's known ones all by the first
    assert psi_of_two(world(tmp_path, [(at(), wall(2.0)), (at(), holes)])) == pytest.approx((0.75 + 1) / 2)


def test_without_any_depth_psi_is_unknown_nearby_and_0_far_away(tmp_path: Path) -> None:
    images = world(tmp_path, [(at(), wall(2.0)), (at(x=1.0), wall(0.0)), (at(x=100.0), wall(2.0))])
    matrix = EVERY_PIXEL.similarity(images).toarray()
    assert np.isnan(matrix[0, 1])
    assert matrix[1, 2] == 0.0
    assert matrix[0, 2] == 0.0


def room(pose: NDArray[np.float64], size_m: float = 4.0) -> NDArray[np.float64]:
    """(H, W) depth that a camera inside the cube [0, size_m]^3 sees of its walls."""
    row, column = np.mgrid[: CAMERA.height, : CAMERA.width]
    x, y = (column - CAMERA.cx) / CAMERA.fx, (row - CAMERA.cy) / CAMERA.fy
    rays = np.stack([x, y, np.ones_like(x)], axis=2) @ pose[:3, :3].T
    ends = np.where(rays > 0, size_m, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        reached = (ends - pose[:3, 3]) / rays
    return np.where(rays == 0, np.inf, reached).min(axis=2)


def rooms(folder: Path, count: int) -> ImageSet:
    """Cameras in two rooms with a thick wall between; the second room's world starts at x = 30."""
    rng = np.random.default_rng(3)
    views = []
    for index in range(count):
        pose = at(*rng.uniform(0.8, 3.2, 3), turn=rng.uniform(-np.pi, np.pi))
        depth = room(pose)
        pose[0, 3] += 30.0 * (index % 2)
        views.append((pose, depth))
    return world(folder, views)


def slow_share(images: ImageSet, rule: SurfaceOverlap, i: int, j: int) -> float:
    """The share of image i's pixels that j sees, one pixel after the other."""
    surfaces = images.surfaces
    assert surfaces is not None
    depth_i, depth_j = (cv2.imread(str(images.paths[k]), cv2.IMREAD_UNCHANGED) / UNITS_PER_M for k in (i, j))
    seen = known = 0
    first = rule.stride_px // 2
    for row in range(first, CAMERA.height, rule.stride_px):
        for column in range(first, CAMERA.width, rule.stride_px):
            z = depth_i[row, column]
            point = np.array([(column - CAMERA.cx) / CAMERA.fx * z, (row - CAMERA.cy) / CAMERA.fy * z, z, 1.0])
            x, y, z, _ = np.linalg.solve(surfaces.world_from_camera[j], surfaces.world_from_camera[i] @ point)
            known += 1
            if z <= 0:
                continue
            u, v = (
                int(np.floor(CAMERA.fx * x / z + CAMERA.cx + 0.5)),
                int(np.floor(CAMERA.fy * y / z + CAMERA.cy + 0.5)),
            )
            if 0 <= u < CAMERA.width and 0 <= v < CAMERA.height:
                seen += abs(depth_j[v, u] - z) <= rule.tolerance_m + rule.tolerance_per_m * z
    return seen / known


@pytest.mark.parametrize("stride", [1, 3])
def test_it_is_what_a_loop_over_pixels_counts(tmp_path: Path, stride: int) -> None:
    images, rule = rooms(tmp_path, 6), SurfaceOverlap(stride_px=stride)
    expected = np.zeros((6, 6))
    for i in range(6):
        for j in range(6):
            if i != j:
                expected[i, j] = (slow_share(images, rule, i, j) + slow_share(images, rule, j, i)) / 2
    matrix = rule.similarity(images)
    np.testing.assert_allclose(matrix.toarray(), expected, atol=0.01)  # float32 puts some points on the next pixel
    assert expected.max() > 0.3


def test_the_matrix_keeps_the_contract(tmp_path: Path) -> None:
    matrix = SurfaceOverlap(stride_px=4).similarity(rooms(tmp_path, 12))
    assert matrix.dtype == np.float32
    assert matrix.has_sorted_indices
    assert matrix.diagonal().max() == 0.0
    assert abs(matrix - matrix.T).max() == 0.0
    assert (matrix.data > 0).all()
    assert matrix.data.max() <= 1.0


def test_pairs_that_are_not_compared_share_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, rule = rooms(tmp_path, 16), SurfaceOverlap(stride_px=4)
    assert images.surfaces is not None
    _, reach = rule._points(images.surfaces)
    compared = sum(len(i) for i, _, _ in rule._may_overlap(images.surfaces, reach))
    assert 0 < compared < 16 * 15 // 2
    pruned = rule.similarity(images)
    i, j = np.triu_indices(16, k=1)
    monkeypatch.setattr(SurfaceOverlap, "_may_overlap", lambda *_: [(i, j, np.ones(len(i), np.float32))])
    every = rule.similarity(images)
    np.testing.assert_array_equal(pruned.toarray(), csr_array(every).toarray())


def test_a_shared_point_at_the_very_edge_of_two_views_is_compared(tmp_path: Path) -> None:
    apart_m = 39 * 5.0 / CAMERA.fx
    images = world(tmp_path, [(at(), wall(5.0)), (at(x=apart_m), wall(5.0))])
    assert psi_of_two(images) == pytest.approx(1 / 40)


def test_a_set_without_depth_is_refused() -> None:
    with pytest.raises(SourceError, match=r"^street: has no depth images; choose another label rule"):
        EVERY_PIXEL.similarity(ImageSet.of("street", [Path("a.jpg")]))


def test_a_lens_with_distortion_is_refused(tmp_path: Path) -> None:
    camera = Camera(20.0, 20.0, 19.5, 14.5, 40, 30, distortion=(0.1, 0.0, 0.0, 0.0))
    with pytest.raises(SourceError, match="room: its depth camera has distortion; rectify"):
        EVERY_PIXEL.similarity(world(tmp_path, [(at(), wall(2.0))], camera))


def test_a_stride_as_large_as_the_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="room: stride_px 30 is too large for depth of 40 x 30 px"):
        SurfaceOverlap(stride_px=30).similarity(world(tmp_path, [(at(), wall(2.0))]))


def test_an_unknown_pose_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="room: 1 of 2 images have no pose"):
        EVERY_PIXEL.similarity(world(tmp_path, [(at(), wall(2.0)), (at(x=np.nan), wall(2.0))]))


def test_a_missing_or_foreign_depth_image_is_named(tmp_path: Path) -> None:
    images = world(tmp_path, [(at(), wall(2.0)), (at(), wall(2.0))])
    broken = tmp_path / "1.png"
    cv2.imwrite(str(broken), np.zeros((30, 40), np.uint8))
    with pytest.raises(SourceError, match=r"1\.png: uint8 of shape \(30, 40\); expected uint16 of shape \(30, 40\)"):
        EVERY_PIXEL.similarity(images)
    cv2.imwrite(str(broken), np.zeros((60, 80), np.uint16))
    with pytest.raises(SourceError, match=r"1\.png: uint16 of shape \(60, 80\); expected uint16 of shape \(30, 40\)"):
        EVERY_PIXEL.similarity(images)
    broken.unlink()
    with pytest.raises(SourceError, match=r"1\.png: missing or not an image; depth is a 16-bit PNG"):
        EVERY_PIXEL.similarity(images)


def test_neighbours_on_a_real_desk_share_more_than_distant_views(shared_data: Path) -> None:
    from training.data.readers.tum import Tum

    (images,) = Tum(path=Path("tum_fr1_desk")).read(shared_data)
    matrix = SurfaceOverlap(stride_px=16).similarity(images.take(np.arange(0, 60, 2))).toarray()
    neighbours, distant = np.diagonal(matrix, offset=1), np.diagonal(matrix, offset=20)
    assert neighbours.min() > 0.7
    assert distant.max() < 0.5
