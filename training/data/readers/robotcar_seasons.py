"""RobotCar Seasons v2 (Sattler et al., CVPR 2018): one road in ten conditions, seen by a rear camera."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from training.data.image_set import ImageSet
from training.data.planar import planar_pose, world_up
from training.data.protocol import Part, RetrievalProtocol, within_metres
from training.data.readers.base import Reader
from training.data.readers.json_index import read_index
from vpr_ros.errors import SourceError
from vpr_ros.sources.text import read_matrix, read_rows

REFERENCE, TRAINING = "reference.json", "robotcar_v2_train.txt"
REFERENCE_CONDITION = "overcast-reference"


class RobotCarSeasons(Reader):
    """All images of `index` as one set in one world; the folder `CONDITION/rear/STAMP.jpg` tells condition and drive.

    - `*.json` is an index of the GCL paper (see `json_index`): `reference.json` is the map; its poses are qw qx qy qz tx ty
      tz, world_from_camera, as that paper's code reads them, and its paths begin at `path`;
    - `*.txt` is the benchmark's `robotcar_v2_train.txt`: "CONDITION/rear/STAMP.png" and a 4 x 4 world_from_camera by rows;
      its paths begin at `path/images`, where the images are .jpg. The poses of the test images are secret.

    No copy was at hand: that the two files share a world, and that an axis of it points up, is assumed.
    """

    kind: Literal["robotcar_seasons"] = "robotcar_seasons"
    index: tuple[str, ...] = Field(default=(REFERENCE, TRAINING), min_length=1)

    def read(self, data_root: Path) -> list[ImageSet]:
        root = data_root / self.path
        read = [_read_json(root, name) if name.endswith(".json") else _read_text(root, name) for name in self.index]
        paths = [path for paths, _ in read for path in paths]
        poses = np.concatenate([poses for _, poses in read])
        positions, headings = planar_pose(poses, world_up(poses))
        conditions = [path.parent.parent.name for path in paths]
        return [
            ImageSet.of(
                "RobotCar Seasons v2",
                paths,
                positions_m=positions,
                headings_rad=headings,
                sequences=conditions,
                conditions=conditions,
            )
        ]


def robotcar_seasons(root: Path, *, radius_m: float = 5.0, max_heading_deg: float = 10.0) -> RetrievalProtocol:
    """The posed images of nine conditions ask the overcast reference drive.

    Right is what the benchmark's coarsest threshold accepts where the best match's pose is the answer: 5 m and 10 deg,
    here on the ground.
    """
    (images,) = RobotCarSeasons().read(root)
    is_reference = images.conditions == REFERENCE_CONDITION
    if is_reference.all() or not is_reference.any():
        raise SourceError(f"{root / REFERENCE}, {root / TRAINING}: need {REFERENCE_CONDITION} and other conditions")
    database, queries = images.take(is_reference), images.take(~is_reference)
    positives = within_metres(queries, database, radius_m, max_heading_deg)
    name = f"RobotCar Seasons v2 train, all conditions -> {REFERENCE_CONDITION}, rear camera"
    rule = f"within {radius_m:g} m and {max_heading_deg:g} deg of heading"
    return RetrievalProtocol(name, rule, (Part(database, queries, positives),))


def _read_json(root: Path, name: str) -> tuple[list[Path], NDArray[np.float64]]:
    return read_index(root / name, root, translation=(4, 5, 6), quaternion=(1, 2, 3, 0))


def _read_text(root: Path, name: str) -> tuple[list[Path], NDArray[np.float64]]:
    paths, poses = [], []
    for line, (image, *words) in read_rows(root / name):
        paths.append((root / "images" / image).with_suffix(".jpg"))
        poses.append(read_matrix(words, (4, 4), root / name, line))
        if not paths[-1].exists():
            raise SourceError(f"{root / name}:{line}: there is no {paths[-1]}")
    if not paths:
        raise SourceError(f"{root / name}: lists no images")
    return paths, np.array(poses)
