"""Graded similarity from depth images and 6-D poses: the surface that two cameras both see (GCL, docs/methods.md 1.3)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.sparse import csr_array
from tqdm import tqdm

from training.data.image_set import ImageSet, Surfaces
from training.labels.pairs import Pairs, pairs_within, require, symmetric_matrix
from training.options import Options
from vpr_ros.errors import ConfigError, SourceError
from vpr_ros.types import Camera

Floats = NDArray[np.float32]

_CHUNK = 1 << 16
"""Points projected at a time: their intermediate arrays stay in the processor's cache."""


class SurfaceOverlap(Options):
    """psi is the share of the surface seen by one image that the other sees too, averaged over both directions.

    Every `stride_px`, pixels of depth image i are moved to camera j and projected; one is shared if the depth that j
    measured there differs by at most `tolerance_m` + `tolerance_per_m` * its depth. The share is of i's pixels of known
    depth: not 0 and not beyond `max_depth_m` (7-Scenes writes 65535 where it knows nothing). psi is NaN where, of two
    cameras that may share something, one knows no depth at any of these pixels.

    Only pairs whose views lie in spheres that meet are compared; no other pair can share a point. In one room that is
    nearly every pair: for thousands of images raise `stride_px`, since a pair costs about 40 ns for each sampled pixel.
    """

    kind: Literal["surface_overlap"] = "surface_overlap"
    tolerance_m: float = Field(default=0.05, gt=0)
    tolerance_per_m: float = Field(default=0.02, ge=0, lt=1)
    max_depth_m: float = Field(default=10.0, gt=0)
    stride_px: int = Field(default=8, ge=1)

    def similarity(self, images: ImageSet) -> csr_array:
        """psi of all pairs (see `Source.similarity`).

        Raises SourceError for images without depth or pose, a depth image that is not what `Surfaces` says, and a lens
        with distortion; ConfigError for a stride as large as the image.
        """
        surfaces = images.surfaces
        if surfaces is None:
            raise SourceError(f"{images.name}: has no depth images; choose another label rule")
        if any(surfaces.camera.distortion) or surfaces.camera.fisheye:
            raise SourceError(f"{images.name}: its depth camera has distortion; rectify the depth images")
        require(np.isfinite(surfaces.world_from_camera).all(axis=(1, 2)), "pose", images.name)

        width, height = surfaces.camera.width, surfaces.camera.height
        if self.stride_px >= min(width, height):
            raise ConfigError(
                f"{images.name}: stride_px {self.stride_px} is too large for depth of {width} x {height} px"
            )

        points, reach = self._points(surfaces)
        seen = symmetric_matrix(len(images), self._may_overlap(surfaces, reach))  # row i, column j: of j, seen by i
        for viewer in tqdm(range(len(images)), desc=f"surfaces of {images.name}", unit="image", leave=False):
            row = slice(seen.indptr[viewer], seen.indptr[viewer + 1])
            seen.data[row] = self._seen_by(viewer, seen.indices[row], surfaces, points)
        psi = csr_array(seen + seen.T)
        psi.data /= 2
        psi.sort_indices()
        return psi

    def _points(self, surfaces: Surfaces) -> tuple[Floats, NDArray[np.float64]]:
        """Points (N, 3, P) that each camera sees, in its frame, NaN where depth is unknown; and (N,) its greatest depth,
        or what it might be if none is known."""
        camera = surfaces.camera
        row, column = np.mgrid[self._sampled(camera.height), self._sampled(camera.width)]
        x, y = (column - camera.cx) / camera.fx, (row - camera.cy) / camera.fy
        rays = np.stack([x, y, np.ones_like(x)]).reshape(3, -1).astype(np.float32)
        points = np.empty((len(surfaces.depth_paths), *rays.shape), np.float32)
        reach = np.full(len(points), self.max_depth_m)
        for index in range(len(points)):
            depth = self._depth(surfaces, index)
            points[index] = rays * depth[row, column].ravel()
            if not np.isnan(depth).all():
                reach[index] = np.nanmax(depth)
        return points, reach

    def _sampled(self, size_px: int) -> slice:
        return slice(self.stride_px // 2, size_px, self.stride_px)

    def _depth(self, surfaces: Surfaces, index: int) -> Floats:
        """(H, W) in m, NaN where unknown."""
        path, camera = surfaces.depth_paths[index], surfaces.camera
        raw = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if raw is None:
            raise SourceError(f"{path}: missing or not an image; depth is a 16-bit PNG")
        if raw.dtype != np.uint16 or raw.shape != (camera.height, camera.width):
            raise SourceError(
                f"{path}: {raw.dtype} of shape {raw.shape}; expected uint16 of shape {(camera.height, camera.width)}, "
                "the size of its camera"
            )
        depth = raw / np.float32(surfaces.units_per_m)
        depth[(raw == 0) | (depth > self.max_depth_m)] = np.nan
        return depth

    def _may_overlap(self, surfaces: Surfaces, reach: NDArray[np.float64]) -> Iterator[Pairs]:
        """Pairs whose views lie in spheres that meet; 1 stands for the psi that is still to be found."""
        # the smallest sphere around the cone that holds the view: as long as it reaches, its edge rising by `slope`
        length = (reach + self.tolerance_m) / (1 - self.tolerance_per_m)
        slope = _steepest_ray(surfaces.camera)
        middle = length * min(1.0, (1 + slope**2) / 2)
        radius = np.hypot(length - middle, length * slope)
        centre = surfaces.world_from_camera[:, :3, 3] + middle[:, None] * surfaces.world_from_camera[:, :3, 2]
        for i, j in pairs_within(centre, 2 * radius.max()):
            meet = np.linalg.norm(centre[i] - centre[j], axis=1) <= radius[i] + radius[j]
            yield i[meet], j[meet], np.ones(np.count_nonzero(meet), np.float32)

    def _seen_by(self, viewer: int, others: NDArray[np.int32], surfaces: Surfaces, points: Floats) -> Floats:
        """For each of `others` (K,) the share of its points that camera `viewer` sees; NaN if it has none."""
        depth = self._depth(surfaces, viewer)
        viewer_from_other = np.linalg.inv(surfaces.world_from_camera[viewer]) @ surfaces.world_from_camera[others]
        rotation, shift = np.split(viewer_from_other[:, :3].astype(np.float32), [3], axis=2)
        share = np.empty(len(others), np.float32)
        step = max(1, _CHUNK // points.shape[2])
        for start in range(0, len(others), step):
            chunk = slice(start, start + step)
            moved = rotation[chunk] @ points[others[chunk]] + shift[chunk]
            visible, known = self._visible(moved, depth, surfaces.camera), np.isfinite(moved[:, 2])
            with np.errstate(invalid="ignore"):  # 0 / 0
                share[chunk] = visible.sum(axis=1) / known.sum(axis=1)
        return share

    def _visible(self, points: Floats, depth: Floats, camera: Camera) -> NDArray[np.bool_]:
        """(K, P): which of the camera's own points (K, 3, P) its depth image shows."""
        x, y, z = np.moveaxis(points, 1, 0)
        ahead = np.where(z > 0, z, np.nan)
        column, row = camera.fx * x / ahead + camera.cx + 0.5, camera.fy * y / ahead + camera.cy + 0.5
        inside = (column >= 0) & (column < camera.width) & (row >= 0) & (row < camera.height)
        pixel = np.where(inside, row, 0).astype(np.intp), np.where(inside, column, 0).astype(np.intp)
        return inside & (np.abs(depth[pixel] - z) <= self.tolerance_m + self.tolerance_per_m * z)


def _steepest_ray(camera: Camera) -> float:
    """Tangent of the widest angle between the optical axis and a pixel's corner."""
    x = max(camera.cx + 0.5, camera.width - 0.5 - camera.cx) / camera.fx
    y = max(camera.cy + 0.5, camera.height - 0.5 - camera.cy) / camera.fy
    return float(np.hypot(x, y))
