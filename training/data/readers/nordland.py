"""Nordland (Sunderhauf et al. 2013): one train journey in four seasons, frame i of each taken at the same place.

There are at least four evaluations of that name, and none compares with another: the tolerance, the number of queries and
the direction differ. A protocol's name here says all three.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from training.data.image_set import ImageSet
from training.data.protocol import Part, RetrievalProtocol, within_frames
from training.data.readers.base import Reader
from training.data.readers.images import image_paths
from vpr_ros.errors import SourceError
from vpr_ros.files import natural_order
from vpr_ros.sources.folders import is_image_name
from vpr_ros.sources.text import read_rows

CLEAN_NAMES = "cleanImageNames.txt"
"""Beside the seasons' folders: the 27,592 of 35,768 frames outside tunnels and stations, one file name a line."""
VPR_BENCH_STEP = 10
"""Every tenth frame of the journey is a query of VPR-Bench."""


class Nordland(Reader):
    """The seasons' folders (`summer/images-00202.png`, ...) as one set; frames are as in `nordland`.

    A place is a frame number, a condition and a sequence a season. Neighbouring frames show the same: only every
    `stride`-th of the frames `first` to `last` is used, so that different places look different.
    """

    kind: Literal["nordland"] = "nordland"
    seasons: tuple[str, ...] = Field(("spring", "summer", "fall", "winter"), min_length=1)
    stride: int = Field(10, gt=0)
    first: int = Field(0, ge=0)
    last: int | None = Field(None, ge=0)

    def read(self, data_root: Path) -> list[ImageSet]:
        journeys = _journeys(data_root / self.path, self.seasons)
        end = None if self.last is None else self.last + 1
        frames = range(len(journeys[0]))[self.first : end : self.stride]
        seasons = np.repeat(self.seasons, len(frames)).tolist()
        return [
            ImageSet.of(
                "Nordland",
                [journey[frame] for journey in journeys for frame in frames],
                places=np.tile(frames, len(journeys)),
                sequences=seasons,
                conditions=seasons,
            )
        ]


def nordland(
    root: Path, queries: str = "winter", database: str = "summer", tolerance: int = 10, every: int = 1
) -> RetrievalProtocol:
    """Every `every`-th frame of the season `queries`, right up to `tolerance` frames from its own in `database`.

    `root` holds a folder per season. Frames are those that `cleanImageNames.txt` lists, if it is there, else all images in
    the order of their numbers; both seasons must have the same.
    """
    asking, answering = _journeys(root, (queries, database))
    return _protocol(queries, asking[::every], database, answering, every, tolerance)


def nordland_27592(root: Path) -> RetrievalProtocol:
    """27,592 winter queries, 27,592 summer images, +-10 frames ("Nordland**"), as VPR-datasets-downloader makes it."""
    return nordland(root, "winter", "summer", tolerance=10)


def nordland_2760(root: Path) -> RetrievalProtocol:
    """2,760 summer queries, 27,592 winter images, +-1 frame ("Nordland*"): `query` and `ref` of VPR-Bench.

    Query k is frame 10 k of the journey.
    """
    return _protocol("query", _frames(root, "query"), "ref", _frames(root, "ref"), VPR_BENCH_STEP, tolerance=1)


def _protocol(
    asking: str, queries: Sequence[Path], answering: str, database: Sequence[Path], step: int, tolerance: int
) -> RetrievalProtocol:
    frames = np.arange(len(queries)) * step
    if frames[-1] >= len(database):
        raise SourceError(f"{queries[-1]}: would be frame {frames[-1]}, but {answering} has {len(database)} frames")
    positives = within_frames(len(database), len(database), tolerance)
    return RetrievalProtocol(
        f"Nordland {asking} -> {answering} ({len(queries)} queries, {len(database)} database images, +-{tolerance} frames)",
        f"the query's own frame, +-{tolerance}",
        (
            Part(
                _journey(answering, database, np.arange(len(database))),
                _journey(asking, queries, frames),
                positives[: frames[-1] + 1 : step],
            ),
        ),
    )


def _journey(season: str, paths: Sequence[Path], frames: np.ndarray) -> ImageSet:
    seasons = [season] * len(paths)
    return ImageSet.of(f"Nordland {season}", paths, places=frames, sequences=seasons, conditions=seasons)


def _journeys(root: Path, seasons: Sequence[str]) -> list[list[Path]]:
    """The frames of each season. Raises SourceError where two do not show the same frames."""
    journeys = [_frames(root, season) for season in seasons]
    first = {path.stem for path in journeys[0]}
    for season, journey in zip(seasons, journeys, strict=True):
        if lonely := first.symmetric_difference(path.stem for path in journey):
            name = min(lonely)
            has, lacks = (seasons[0], season) if name in first else (season, seasons[0])
            raise SourceError(f"{root}: frame {name} is in {has}, but not in {lacks}")
    return journeys


def _frames(root: Path, season: str) -> list[Path]:
    listed = root / CLEAN_NAMES
    if listed.is_file():
        lines = list(read_rows(listed, columns=1))
        return image_paths(
            root / season, [Path(name).stem for _, (name,) in lines], lambda i: f"{listed}:{lines[i][0]}"
        )
    if not (root / season).is_dir():
        raise SourceError(f"{root / season}: no such folder")
    paths = [path for path in (root / season).iterdir() if is_image_name(path)]
    if not paths:
        raise SourceError(f"{root / season}: holds no images")
    return sorted(paths, key=natural_order)
