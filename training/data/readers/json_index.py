"""The JSON index of the GCL paper's data sets (Leyva-Vallina et al., CVPR 2023): images and the pose of each.

It is {"im_prefix": ..., "im_paths": [N], "poses": [N][7]}, from the README of github.com/marialeyvallina/TB_Places and the
loaders of generalized_contrastive_loss.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vpr_ros.errors import SourceError
from vpr_ros.rotations import pose_from_quaternion
from vpr_ros.types import Pose


def read_index(
    index: Path, root: Path, translation: Sequence[int], quaternion: Sequence[int]
) -> tuple[list[Path], NDArray[np.float64]]:
    """Images, which must exist under `root`, and poses (N, 4, 4) of a JSON index.

    `translation` and `quaternion` are the columns of x y z and of x y z w in a pose. `im_prefix`, a folder of the index's
    authors, is not used. Raises SourceError with the file and the line or the entry at fault.
    """
    try:
        content = json.loads(index.read_text("utf-8"))
    except json.JSONDecodeError as error:
        raise SourceError(f"{index}:{error.lineno}: not JSON: {error.msg}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{index}: cannot be read: {error}") from None
    if not (isinstance(content, dict) and all(isinstance(content.get(key), list) for key in ("im_paths", "poses"))):
        raise SourceError(f'{index}: expected an index {{"im_paths": [...], "poses": [...]}}')
    paths, rows = [root / str(name) for name in content["im_paths"]], content["poses"]
    if len(paths) != len(rows) or not paths:
        raise SourceError(f"{index}: has {len(paths)} im_paths and {len(rows)} poses")
    for i, path in enumerate(paths):
        if not path.exists():
            raise SourceError(f"{index}: im_paths[{i}]: there is no {path}; set the reader's path to where they begin")
    numbers = np.array([_seven(row, index, i) for i, row in enumerate(rows)])
    return paths, np.array(
        [_pose(row[list(translation)], row[list(quaternion)], index, i) for i, row in enumerate(numbers)]
    )


def _pose(translation: NDArray[np.float64], quaternion: NDArray[np.float64], index: Path, entry: int) -> Pose:
    try:
        return pose_from_quaternion(translation, quaternion)
    except ValueError:
        raise SourceError(f"{index}: poses[{entry}]: its quaternion is zero") from None


def _seven(row: object, index: Path, entry: int) -> NDArray[np.float64]:
    try:
        numbers = np.array(row, np.float64)
    except (ValueError, TypeError):
        numbers = np.empty(0)
    if numbers.shape != (7,) or not np.isfinite(numbers).all():
        raise SourceError(f"{index}: poses[{entry}]: expected 7 numbers, a translation and a quaternion")
    return numbers
