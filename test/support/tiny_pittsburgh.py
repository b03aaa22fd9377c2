"""A dbStruct file as NetVLAD's own: a 1 x 1 struct, N x 1 cells of names, 2 x N coordinates, integer counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.io import savemat
from small_worlds import texture


def cells(names: list[str]) -> np.ndarray:
    column = np.empty((len(names), 1), object)
    column[:, 0] = names
    return column


def struct(
    database: list[str], utm_database: Any, queries: list[str], utm_queries: Any, **changes: Any
) -> dict[str, Any]:
    """Names of images and their coordinates (2, N) in m. A field that is changed to None is left out."""
    fields = {
        "whichSet": "test",
        "dbImageFns": cells(database),
        "utmDb": np.array(utm_database),
        "qImageFns": cells(queries),
        "utmQ": np.array(utm_queries),
        "numImages": np.uint16(len(database)),
        "numQueries": np.uint16(len(queries)),
        "posDistThr": np.uint8(25),
        "posDistSqThr": np.uint16(625),
        "nonTrivPosDistSqThr": np.uint8(100),
    } | changes
    return {name: value for name, value in fields.items() if value is not None}


def write_pittsburgh(root: Path, places: int) -> Path:
    """`root`/pittsburgh: Pitts30k of few `places` 100 m apart, for training and testing; `root`/pittsburgh_labels: maps.

    Each place has two database images and two queries; an upper part of each image is labelled sky.
    """
    tree = root / "pittsburgh"
    for split, first in (("train", 0), ("test", places)):
        ids = range(first, first + places)
        database = [f"000/{place:06d}_pitch1_yaw{yaw}.jpg" for place in ids for yaw in (1, 2)]
        queries = [f"001/{place:06d}_pitch1_yaw{yaw}.jpg" for place in ids for yaw in (3, 4)]
        for name in database + [f"queries_real/{name}" for name in queries]:
            place, yaw = int(name[-22:-16]), int(name[-5])
            image, labels = tree / name, (root / "pittsburgh_labels" / name).with_suffix(".png")
            for path in (image, labels):
                path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(image), cv2.convertScaleAbs(texture(place, 96, 72), alpha=1 - 0.1 * yaw))
            cv2.imwrite(str(labels), np.repeat(np.uint8([10, 2]), (24, 48))[:, None].repeat(96, axis=1))
        east = np.repeat(np.arange(places) * 100.0, 2)
        utm = np.stack([584000 + east, np.full(2 * places, 4476000.0)])
        (tree / "datasets").mkdir(exist_ok=True)
        savemat(
            tree / "datasets" / f"pitts30k_{split}.mat",
            {"dbStruct": struct(database, utm, queries, np.add(utm, [[5.0], [0.0]]))},
        )
    return root
