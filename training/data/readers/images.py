"""The image files that an index names."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from vpr_ros.errors import SourceError
from vpr_ros.printable import printable
from vpr_ros.sources.folders import is_image_name

_LOG = logging.getLogger(__name__)


def image_paths(folder: Path, names: Sequence[str], cite: Callable[[int], str]) -> list[Path]:
    """The file of each name, relative to `folder` and without suffix: indices say .jpg where the disk has .png or .JPG.

    Every folder is listed once, no file is asked for by itself. What is missing, as in most downloads, counts as an image that cannot
    be read: it keeps its row, and a warning counts it. Raises SourceError, citing the index with `cite(i)`, for an image that
    is named twice, and where more than half of them are missing: then it is another folder.
    """
    missing: list[int] = []
    listings: dict[str, dict[str, Path]] = {}
    paths: dict[str, Path] = {}
    for i, name in enumerate(names):
        parent, stem = os.path.split(name)
        if parent not in listings:
            listings[parent] = _images_of(folder / parent)
        if stem not in listings[parent]:
            missing.append(i)
        if name in paths:
            raise SourceError(f"{cite(i)}: image {name} is named twice")
        paths[name] = listings[parent].get(stem, folder / f"{name}.jpg")
    if missing:
        first = f"{cite(missing[0])}: there is no image {folder / names[missing[0]]} (.jpg, .png, ...)"
        if 2 * len(missing) > len(names):
            raise SourceError(first if len(missing) == 1 else f"{first}, nor {len(missing) - 1} others of {len(names)}")
        _LOG.warning("%s", printable(f"{first}; {len(missing)} of {len(names)} are missing and count as unreadable"))
    return list(paths.values())


def _images_of(folder: Path) -> dict[str, Path]:
    """Images by stem; of two that differ in the suffix only, the first of the alphabet."""
    if not folder.is_dir():
        return {}
    names = (os.path.splitext(name) for name in sorted(os.listdir(folder), reverse=True))
    return {stem: folder / (stem + suffix) for stem, suffix in names if is_image_name(Path(stem + suffix))}
