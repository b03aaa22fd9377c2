"""Folders of the deep visual geo-localization benchmark (Berton et al., CVPR 2022), where a file's name says all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from training.data.image_set import ImageSet, heading_from_compass
from training.data.protocol import Part, RetrievalProtocol, within_metres
from training.data.readers.base import Reader
from training.data.readers.utm_names import FORM, read_name
from vpr_ros.errors import SourceError
from vpr_ros.sources.folders import is_image_name

RADIUS_M = 25.0
"""The benchmark's own: a right answer is at most this far from the query."""


class UtmFolder(Reader):
    """`images/<split>/{database,queries}/**/@easting@northing@...@.jpg`, one set per UTM zone.

    Only easting and northing must be there. A heading is a compass angle in degrees. A sequence is what was photographed in
    one day (`database/20190131`, `query/20190131`), or, without a timestamp, at one position. The condition is day or night
    where the note begins with that.
    """

    kind: Literal["utm_folder"] = "utm_folder"
    split: str = "train"

    def read(self, data_root: Path) -> list[ImageSet]:
        root = data_root / self.path
        folder, name = root / "images" / self.split, f"{root.resolve().name} {self.split}"
        images = ImageSet.union(name, _both(folder))
        zones = np.array([read_name(path).get("zone", "") for path in images.paths])
        if (zones == zones[0]).all():
            return [images]
        return [images.take(zones == zone, f"{name} zone {zone or 'unknown'}") for zone in np.unique(zones)]


def utm_folder(root: Path, split: str = "test", radius_m: float = RADIUS_M) -> RetrievalProtocol:
    """`root/images/<split>` as the benchmark evaluates it: one database, and queries without a right answer are asked."""
    folder = root / "images" / split
    database, queries = _both(folder)
    return RetrievalProtocol(
        f"{root.resolve().name} {split} (UTM folders, all {len(queries)} queries)",
        f"at most {radius_m:g} m away; queries without a right answer are asked",
        (Part(database, queries, within_metres(queries, database, radius_m)),),
    )


def _both(folder: Path) -> tuple[ImageSet, ImageSet]:
    """Database and queries of a split."""
    return _images(folder / "database", "database"), _images(folder / "queries", "query")


def _images(folder: Path, role: str) -> ImageSet:
    paths = _images_below(folder)
    names = [read_name(path) for path in paths]
    named = list(zip(paths, names, strict=True))
    return ImageSet.of(
        str(folder),
        paths,
        positions_m=[(_number(*image, "easting"), _number(*image, "northing")) for image in named],
        headings_rad=heading_from_compass(
            [_number(path, fields, "heading") if fields.get("heading") else np.nan for path, fields in named]
        ),
        sequences=[f"{role}/{_session(fields)}" for fields in names],
        conditions=[_time_of_day(fields) for fields in names],
    )


def _images_below(folder: Path) -> list[Path]:
    """All images of a folder and the folders in it, in the order of their paths, as the benchmark numbers them."""
    if not folder.is_dir():
        raise SourceError(f"{folder}: no such folder")
    found = (os.path.join(parent, name) for parent, _, names in os.walk(folder, followlinks=True) for name in names)
    return [path for path in map(Path, sorted(found)) if is_image_name(path)]


def _number(path: Path, fields: Mapping[str, str], field: str) -> float:
    text = fields.get(field, "")
    try:
        number = float(text)
    except ValueError:
        number = np.nan
    if not np.isfinite(number):
        raise SourceError(f"{path}: {field} is {text!r}, not a number; names are {FORM}")
    return number


def _session(fields: Mapping[str, str]) -> str:
    day = fields.get("timestamp", "")[:8]
    return day or f"{fields['easting']}@{fields['northing']}"


def _time_of_day(fields: Mapping[str, str]) -> str:
    word = fields.get("note", "").partition("_")[0]
    return word if word in ("day", "night") else ""
