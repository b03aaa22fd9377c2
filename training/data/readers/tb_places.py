"""TB-Places (Leyva-Vallina et al., IEEE Access 2019): images of a robot in a garden, by the JSON indices of the GCL paper.

The published labels are HDF5 and not read: labels come from the poses.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from training.data.image_set import ImageSet
from training.data.planar import planar_pose, world_up
from training.data.protocol import Part, RetrievalProtocol, within_metres
from training.data.readers.base import Reader
from training.data.readers.json_index import read_index


class TbPlaces(Reader):
    """One set per index file; a pose is tx ty tz qx qy qz qw, world_from_camera.

    Image paths are relative to `path`. Not documented, hence assumed: the camera looks along z with y down, and an axis
    of the world points up.
    """

    kind: Literal["tb_places"] = "tb_places"
    index: tuple[str, ...] = Field(default=("W17/W17.json",), min_length=1)

    def read(self, data_root: Path) -> list[ImageSet]:
        root = data_root / self.path
        return [_read_session(root / index, root) for index in self.index]


def tb_places(
    root: Path,
    database: str = "W17/W17.json",
    queries: str = "W18/W18.json",
    *,
    radius_m: float = 1.5,
    max_heading_deg: float = 45.0,
) -> RetrievalProtocol:
    """One session asks another of the same garden, by default W18 -> W17 as in the GCL paper.

    The defaults are ours: about where fields of view of 90 deg and 3.5 m, the paper's, overlap by half.
    """
    asked, asking = (_read_session(root / index, root) for index in (database, queries))
    positives = within_metres(asking, asked, radius_m, max_heading_deg)
    rule = f"within {radius_m:g} m and {max_heading_deg:g} deg of heading"
    return RetrievalProtocol(f"{asking.name} -> {asked.name}", rule, (Part(asked, asking, positives),))


def _read_session(index: Path, root: Path) -> ImageSet:
    paths, poses = read_index(index, root, translation=(0, 1, 2), quaternion=(3, 4, 5, 6))
    positions, headings = planar_pose(poses, world_up(poses))
    return ImageSet.of(f"TB-Places {index.stem}", paths, positions_m=positions, headings_rad=headings)
