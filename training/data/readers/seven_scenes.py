"""7-Scenes (Shotton et al., CVPR 2013): rooms filmed with a Kinect, posed by KinectFusion."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.spatial import cKDTree

from training.data.image_set import ImageSet, Surfaces
from training.data.planar import planar_pose, world_up
from training.data.protocol import Part, Positives, RetrievalProtocol
from training.data.readers.base import Reader
from vpr_ros.errors import SourceError
from vpr_ros.sources.text import read_matrix, read_rows
from vpr_ros.types import Camera

SCENES = ("chess", "fire", "heads", "office", "pumpkin", "redkitchen", "stairs")

DEPTH_CAMERA = Camera(585.0, 585.0, 320.0, 240.0, 640, 480)
"""As the data set's page gives it; colour is not registered to depth."""

_UNITS_PER_M = 1000.0
_COLOUR, _DEPTH, _POSE = ".color.png", ".depth.png", ".pose.txt"
_ANGLE_SLACK = 1e-9
"""Rounding of a rotation's trace."""


class SevenScenes(Reader):
    """One set per scene, its sequences those of `SCENE/TrainSplit.txt` ("sequence1" a line) or `TestSplit.txt`.

    A frame is `SCENE/seq-01/frame-000000.{color.png,depth.png,pose.txt}`, the pose a 4 x 4 world_from_camera. Depth is in
    mm and 65535 where the Kinect saw nothing: it reads as 65.5 m, so labels must not trust depth beyond a room.
    """

    kind: Literal["seven_scenes"] = "seven_scenes"
    scenes: tuple[str, ...] = Field(default=SCENES, min_length=1)
    split: Literal["train", "test"] = "train"

    def read(self, data_root: Path) -> list[ImageSet]:
        return [_read_scene(data_root / self.path / scene, self.split)[0] for scene in self.scenes]


def seven_scenes(root: Path, scene: str, *, max_m: float = 0.5, max_deg: float = 30.0) -> RetrievalProtocol:
    """The frames of the test split ask those of the train split.

    Right is a camera at most `max_m` away, turned at most `max_deg` in 3-D: our rule, as strict as room-scale loops
    need. The GCL paper counts pairs whose surfaces overlap by half, from label files that are not public in text form.
    """
    database, database_poses = _read_scene(root / scene, "train")
    queries, query_poses = _read_scene(root / scene, "test")
    positives = _within_pose(query_poses, database_poses, max_m, max_deg)
    name = f"7-Scenes {scene}, test split -> train split"
    return RetrievalProtocol(
        name, f"within {max_m:g} m and {max_deg:g} deg in 3-D", (Part(database, queries, positives),)
    )


def _read_scene(folder: Path, split: str) -> tuple[ImageSet, NDArray[np.float64]]:
    """The images of a split and their poses (N, 4, 4)."""
    frames = [
        (sequence.name, path)
        for sequence in _sequences(folder, split)
        for path in sorted(sequence.glob(f"frame-*{_COLOUR}"))
    ]
    if not frames:
        raise SourceError(f"{folder}: the sequences of its {split} split hold no frame-*{_COLOUR}")
    poses = np.array([_pose(_sibling(path, _POSE)) for _, path in frames])
    positions, headings = planar_pose(poses, world_up(poses))
    images = ImageSet.of(
        f"7-Scenes {folder.name} {split}",
        [path for _, path in frames],
        positions_m=positions,
        headings_rad=headings,
        sequences=[sequence for sequence, _ in frames],
        surfaces=Surfaces(poses, tuple(_sibling(path, _DEPTH) for _, path in frames), _UNITS_PER_M, DEPTH_CAMERA),
    )
    return images, poses


def _sequences(folder: Path, split: str) -> list[Path]:
    listing = folder / f"{split.capitalize()}Split.txt"
    sequences = []
    for line, words in read_rows(listing):
        number = re.fullmatch(r"sequence(\d+)", "".join(words))
        if number is None:
            raise SourceError(f"{listing}:{line}: expected a line like 'sequence1', found {' '.join(words)!r}")
        sequences.append(folder / f"seq-{int(number[1]):02d}")
        if not sequences[-1].is_dir():
            raise SourceError(f"{listing}:{line}: there is no folder {sequences[-1]}")
    return sequences


def _sibling(colour: Path, suffix: str) -> Path:
    path = colour.with_name(colour.name.removesuffix(_COLOUR) + suffix)
    if not path.exists():
        raise SourceError(f"{path}: no such file, but there is {colour.name}")
    return path


def _pose(path: Path) -> NDArray[np.float64]:
    rows = [read_matrix(words, (1, 4), path, line) for line, words in read_rows(path)]
    if len(rows) != 4:
        raise SourceError(f"{path}: expected 4 lines, a 4 x 4 pose, found {len(rows)}")
    return np.concatenate(rows)


def _within_pose(
    queries: NDArray[np.float64], database: NDArray[np.float64], max_m: float, max_deg: float
) -> Positives:
    """Of poses (Q, 4, 4) and (N, 4, 4) those within `max_m` whose relative rotation is at most `max_deg`."""
    near = cKDTree(database[:, :3, 3]).query_ball_point(queries[:, :3, 3], max_m, return_sorted=True)
    positives = []
    for query, found in zip(queries, (np.array(each, np.int64) for each in near), strict=True):
        # the trace of A^T B is the sum of their products, and 1 + 2 cos(angle)
        cosine = (np.sum(query[:3, :3] * database[found, :3, :3], axis=(1, 2)) - 1.0) / 2.0
        positives.append(found[cosine >= np.cos(np.radians(max_deg)) - _ANGLE_SLACK])
    return tuple(positives)
