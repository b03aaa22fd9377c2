"""KITTI odometry (Geiger et al., CVPR 2012): drives of one car, and its loop closures as an evaluation."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from training.data.image_set import ImageSet
from training.data.planar import planar_pose
from training.data.protocol import Part, Positives, RetrievalProtocol, within_metres
from training.data.readers.base import Reader
from vpr_ros.errors import SourceError
from vpr_ros.sources.folders import kitti_images
from vpr_ros.sources.truth import read_truth
from vpr_ros.trajectory import is_known

UP = (0.0, -1.0, 0.0)
"""The world is the first left camera: x right, y down, z forward."""


class Kitti(Reader):
    """Frames `first` to `last`, both included, of `sequences/SS/image_N/%06d.png`, posed by `poses/SS.txt`.

    The poses are those of image_0; the other cameras sit at most 0.6 m beside it.
    """

    kind: Literal["kitti"] = "kitti"
    sequence: str = "00"
    camera: Literal["image_0", "image_1", "image_2", "image_3"] = "image_0"
    first: int = Field(default=0, ge=0)
    last: int | None = Field(default=None, ge=0)

    def read(self, data_root: Path) -> list[ImageSet]:
        root = data_root / self.path
        sequence = root / "sequences" / self.sequence
        truth = root / "poses" / f"{self.sequence}.txt"
        poses = _poses(truth)
        frames = {int(path.stem): path for path in kitti_images(sequence, self.camera)}
        numbers = [n for n in sorted(frames) if n >= self.first and (self.last is None or n <= self.last)]
        last = "the last" if self.last is None else self.last
        if not numbers:
            raise SourceError(
                f"{sequence / self.camera}: holds no images named like 000000.png from {self.first} to {last}"
            )
        if numbers[-1] >= len(poses):
            raise SourceError(f"{truth}: has {len(poses)} poses, but there is an image {frames[numbers[-1]].name}")
        numbers = [n for n, known in zip(numbers, is_known(poses[numbers]), strict=True) if known]
        positions, headings = planar_pose(poses[numbers], UP)
        name = f"KITTI {self.sequence} {self.camera} frames {numbers[0]}-{numbers[-1]}"
        return [ImageSet.of(name, [frames[n] for n in numbers], positions_m=positions, headings_rad=headings)]


def kitti_loops(
    root: Path,
    sequence: str = "00",
    *,
    gap: int = 100,
    revisit_m: float = 5.0,
    match_m: float = 10.0,
    max_heading_deg: float = 45.0,
) -> RetrievalProtocol:
    """Every frame asks all frames more than `gap` older, as a robot does that looks for loop closures.

    A frame that truly revisits, which means within `revisit_m`, has as positives all frames within `match_m`; both also
    within `max_heading_deg`. For other frames these are borderline: right, but too far away to be asked for.
    """
    (drive,) = Kitti(sequence=sequence).read(root)
    asking = np.arange(gap + 1, len(drive))
    if len(asking) == 0:
        raise SourceError(f"{drive.name}: no frame has another that is more than {gap} older")
    queries, stop = drive.take(asking), asking - gap
    right = _before(within_metres(queries, drive, match_m, max_heading_deg), stop)
    near = _before(within_metres(queries, drive, revisit_m, max_heading_deg), stop)
    revisits = [len(found) > 0 for found in near]
    positives = tuple(found if again else found[:0] for found, again in zip(right, revisits, strict=True))
    borderline = tuple(found[:0] if again else found for found, again in zip(right, revisits, strict=True))
    rule = (
        f"within {match_m:g} m and {max_heading_deg:g} deg, asked of the {sum(revisits)} frames that have one within "
        f"{revisit_m:g} m and {max_heading_deg:g} deg; right answers of other frames count neither way"
    )
    name = f"{drive.name}, each against all more than {gap} older"
    return RetrievalProtocol(name, rule, (Part(drive, queries, positives, stop, borderline),))


def _before(positives: Positives, stop: NDArray[np.int64]) -> Positives:
    return tuple(found[found < end] for found, end in zip(positives, stop, strict=True))


def _poses(path: Path) -> NDArray[np.float64]:
    """(N, 4, 4) world_from_camera, NaN where a row is none, which is printed. Raises SourceError for rows that have times."""
    truth = read_truth(path)
    for note in truth.notes:
        print(note, file=sys.stderr)
    if truth.times is not None:
        raise SourceError(f"{path}: expected rows of 12 numbers, one for each image")
    return truth.poses
