"""TUM RGB-D (Sturm et al., IROS 2012): recordings with depth and motion-capture poses."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from training.data.image_set import ImageSet, Surfaces
from training.data.planar import planar_pose
from training.data.readers.base import Reader
from vpr_ros.errors import SourceError
from vpr_ros.sources.folders import TUM_CAMERAS, tum_images
from vpr_ros.sources.truth import read_truth
from vpr_ros.trajectory import Trajectory, nearest
from vpr_ros.types import Camera

UP = (0.0, 0.0, 1.0)
"""Of the motion-capture world."""


class Tum(Reader):
    """One recording: `rgb.txt`, `depth.txt` ("timestamp path" a line) and `groundtruth.txt`.

    Images without depth and a pose within `tolerance_s` are left out; what is wrong with `groundtruth.txt` is printed. `camera`
    is that of the depth images, which are registered to the colour images; it is scaled to their size. The default is the
    benchmark's fr1 without its lens distortion.
    """

    kind: Literal["tum"] = "tum"
    tolerance_s: float = Field(default=0.02, gt=0)
    camera: Camera = replace(TUM_CAMERAS[1], distortion=())
    units_per_m: float = Field(default=5000.0, gt=0)

    def read(self, data_root: Path) -> list[ImageSet]:
        root = data_root / self.path
        stamps, images = _listed(root / "rgb.txt")
        depth_stamps, depths = _listed(root / "depth.txt")
        truth_file = read_truth(root / "groundtruth.txt")
        recorded = truth_file.on_clock_of(stamps)
        for note in (*truth_file.notes, *recorded.notes):
            print(note, file=sys.stderr)
        truth = Trajectory.sorted(recorded.stamps, recorded.poses)
        tolerance_ns = round(self.tolerance_s * 1e9)
        of_depth = nearest(depth_stamps, stamps, tolerance_ns)
        of_pose = nearest(truth.stamps, stamps, tolerance_ns)
        kept = np.flatnonzero((of_depth >= 0) & (of_pose >= 0))
        if len(kept) == 0:
            raise SourceError(f"{root}: no image has depth and a pose within {self.tolerance_s:g} s")
        poses = truth.poses[of_pose[kept]]
        depth_paths = tuple(depths[i] for i in of_depth[kept])
        positions, headings = planar_pose(poses, UP)
        return [
            ImageSet.of(
                f"TUM {root.resolve().name}",
                [images[i] for i in kept],
                positions_m=positions,
                headings_rad=headings,
                surfaces=Surfaces(poses, depth_paths, self.units_per_m, _scaled(self.camera, depth_paths[0])),
            )
        ]


def _listed(listing: Path) -> tuple[NDArray[np.int64], list[Path]]:
    """Stamps (N,) in ns, ascending, and files of a "timestamp path" list; of equal stamps the last."""
    listed = dict(tum_images(listing))
    stamps = sorted(listed)
    return np.array(stamps, np.int64), [listed[stamp] for stamp in stamps]


def _scaled(camera: Camera, depth_path: Path) -> Camera:
    """The camera for images of the size of `depth_path`; the centre of a pixel has whole coordinates."""
    depth = cv2.imread(str(depth_path), cv2.IMREAD_UNCHANGED)
    if depth is None or depth.ndim != 2 or depth.dtype != np.uint16:
        raise SourceError(f"{depth_path}: expected a depth image, 16 bits and one channel")
    height, width = depth.shape
    x, y = width / camera.width, height / camera.height
    return replace(
        camera,
        fx=camera.fx * x,
        fy=camera.fy * y,
        cx=(camera.cx + 0.5) * x - 0.5,
        cy=(camera.cy + 0.5) * y - 0.5,
        width=width,
        height=height,
    )
