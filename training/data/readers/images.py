"""The image files that an index names."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from vpr_ros.errors import SourceError
from vpr_ros.sources.folders import is_image_name


def image_paths(folder: Path, names: Sequence[str], cite: Callable[[int], str]) -> list[Path]:
    """The file of each name, relative to `folder` and without suffix: indices say .jpg where the disk has .png or .JPG.

    Every folder is listed once, no file is asked for by itself. Raises SourceError, citing the index with `cite(i)`, for
    an image that is missing or named twice.
    """
    listings: dict[str, dict[str, Path]] = {}
    paths: dict[str, Path] = {}
    for i, name in enumerate(names):
        parent, stem = os.path.split(name)
        if parent not in listings:
            listings[parent] = _images_of(folder / parent)
        if stem not in listings[parent]:
            raise SourceError(f"{cite(i)}: there is no image {folder / name} (.jpg, .png, ...)")
        if name in paths:
            raise SourceError(f"{cite(i)}: image {name} is named twice")
        paths[name] = listings[parent][stem]
    return list(paths.values())


def _images_of(folder: Path) -> dict[str, Path]:
    """Images by stem; of two that differ in the suffix only, the first of the alphabet."""
    if not folder.is_dir():
        return {}
    names = (os.path.splitext(name) for name in sorted(os.listdir(folder), reverse=True))
    return {stem: folder / (stem + suffix) for stem, suffix in names if is_image_name(Path(stem + suffix))}
