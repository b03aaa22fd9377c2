"""Plain folders of images whose names say what is known of them, and passes along one path, aligned image by image."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import AfterValidator, Field

from training.data.image_set import ImageSet
from training.data.protocol import Part, RetrievalProtocol, within_frames
from training.data.readers.base import Reader
from vpr_ros.errors import SourceError
from vpr_ros.files import natural_order
from vpr_ros.sources.folders import image_files


def _with_group(*names: str) -> AfterValidator:
    """A regular expression that has the groups `names`."""

    def check(text: str) -> str:
        try:
            groups = re.compile(text).groupindex
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        if missing := [name for name in names if name not in groups]:
            raise ValueError(f"needs a group (?P<{missing[0]}>...)")
        return text

    return AfterValidator(check)


class NamedPlaces(Reader):
    """Images named after their place: `place` matches the whole name without its suffix.

    Its group `place` tells images of one place, the optional group `session` those taken together: by default `0304.jpg`
    shows place 04 in session 03.
    """

    kind: Literal["named_places"] = "named_places"
    pattern: str = "*.jpg"
    place: Annotated[str, _with_group("place")] = r"(?P<session>\d\d)(?P<place>\d\d)"

    def read(self, data_root: Path) -> list[ImageSet]:
        folder = data_root / self.path
        paths = _matching(folder, [self.pattern])
        named = [_named(path, self.place) for path in paths]
        _, places = np.unique([each["place"] for each in named], return_inverse=True)
        sessions = [each.get("session", folder.name) for each in named]
        return [ImageSet.of(_name(folder), paths, places=places, sequences=sessions)]


class ClipFolder(Reader):
    """Images of which only the clip is known: group `clip` of the regular expression that matches the name without suffix.

    CamVid: `patterns: ["train/*.png", "val/*.png"]`, `clip: "(?P<clip>[^_]+)_.*"`.
    """

    kind: Literal["clips"] = "clips"
    patterns: tuple[str, ...] = Field(default=("*.jpg",), min_length=1)
    clip: Annotated[str, _with_group("clip")] = r"(?P<clip>.+)_frame_\d+"

    def read(self, data_root: Path) -> list[ImageSet]:
        folder = data_root / self.path
        paths = _matching(folder, self.patterns)
        return [ImageSet.of(_name(folder), paths, sequences=[_named(path, self.clip)["clip"] for path in paths])]


def aligned(map_folder: Path, query_folder: Path, tolerance: int, name: str = "") -> RetrievalProtocol:
    """Two passes along one path: image i of the queries was taken where image i of the map was, in natural order.

    Raises SourceError where they do not hold equally many images.
    """
    database, queries = (_pass(folder) for folder in (map_folder, query_folder))
    if len(database) != len(queries):
        raise SourceError(
            f"{query_folder}: has {len(queries)} images but {map_folder} has {len(database)}: they are not aligned"
        )
    positives = within_frames(len(queries), len(database), tolerance)
    name = f"{name or map_folder.parent.name} {database.name} -> {queries.name}"
    return RetrievalProtocol(name, f"+- {tolerance} images", (Part(database, queries, positives),))


def gardenspoint(root: Path) -> RetrievalProtocol:
    """GardensPoint Walking: the right side of the path asks the left side, both by day."""
    return aligned(root / "day_left", root / "day_right", 2, "GardensPoint")


def stromovka(root: Path) -> RetrievalProtocol:
    """Stromovka park: winter asks autumn."""
    return aligned(root / "autumn", root / "winter", 1, "Stromovka")


def _pass(folder: Path) -> ImageSet:
    return ImageSet.of(folder.name, image_files(folder))


def _name(folder: Path) -> str:
    return folder.resolve().name


def _matching(folder: Path, patterns: Sequence[str]) -> list[Path]:
    paths = [path for pattern in patterns for path in sorted(folder.glob(pattern), key=natural_order)]
    if not paths:
        raise SourceError(f"{folder}: holds no {' or '.join(patterns)}")
    return paths


def _named(path: Path, pattern: str) -> dict[str, str]:
    found = re.fullmatch(pattern, path.stem)
    if found is None:
        raise SourceError(f"{path}: its name does not match {pattern!r}")
    return {group: text for group, text in found.groupdict().items() if text is not None}
