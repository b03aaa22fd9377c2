"""Where frames come from: image folders, KITTI and TUM recordings, videos, ROS 2 bags."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from vpr_ros.bags.reader import BAG_SUFFIXES, is_bag_file
from vpr_ros.errors import Keyword, SourceError
from vpr_ros.files import natural_order
from vpr_ros.sources.bag import BagSource
from vpr_ros.sources.base import Source
from vpr_ros.sources.folders import IMAGE_SUFFIXES, FolderSource, KittiSource, TumSource
from vpr_ros.sources.truth import read_truth
from vpr_ros.sources.video import VIDEO_SUFFIXES, VideoSource

__all__ = [
    "BagSource",
    "FolderSource",
    "KittiSource",
    "Source",
    "TumSource",
    "VideoSource",
    "open_source",
    "read_truth",
]


def open_source(path: Path | str, sequence: str | None = None, **options: Any) -> Source:
    """Open whatever is at `path`, recognised by looking: a bag, a KITTI or TUM tree, an image folder, a video.

    `sequence` names one of several KITTI sequences. `options` go to the source's constructor; those that are None or
    empty count as not given. Raises `SourceError`: nothing recognised, an option that such a source does not have.
    """
    path = Path(path)
    try:
        kind = _recognise(path)
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or error}") from None
    given = {name: value for name, value in options.items() if value is not None and value != ""}
    if kind is KittiSource:
        given["sequence"] = sequence or _only_sequence(path)
    elif sequence:
        raise SourceError(
            f"{path}: ", Keyword("sequence"), " is for KITTI trees only, and this has no folder sequences/"
        )
    allowed = [name for name in inspect.signature(kind).parameters if name not in ("path", "root")]
    if unknown := sorted(given.keys() - set(allowed)):
        raise SourceError(
            f"{path}: {_NAMES[kind]} has no ", *_listed(unknown), "; what can be chosen: ", *_listed(allowed)
        )
    return kind(path, **given)


def _listed(keywords: Iterable[str]) -> Iterator[str]:
    """Parts of the text of an error: `image_topic, odom_topic`."""
    for i, keyword in enumerate(keywords):
        yield from (", ", Keyword(keyword)) if i else (Keyword(keyword),)


_NAMES: Mapping[type, str] = {
    BagSource: "a bag",
    KittiSource: "a KITTI sequence",
    TumSource: "a TUM recording",
    FolderSource: "an image folder",
    VideoSource: "a video",
}


def _recognise(path: Path) -> type[BagSource | KittiSource | TumSource | FolderSource | VideoSource]:
    if not path.exists():
        raise SourceError(f"{path}: no such file or folder")
    if path.is_file():
        return _recognise_file(path)
    if not path.is_dir():
        raise SourceError(f"{path}: is neither a file nor a folder")
    children = [child for child in path.iterdir() if not child.name.startswith(".")]
    suffixes = {child.suffix.lower() for child in children}
    if (path / "metadata.yaml").exists() or any(map(is_bag_file, children)):
        return BagSource
    if (path / "sequences").is_dir():
        return KittiSource
    if (path / "rgb.txt").exists():
        return TumSource
    if suffixes & IMAGE_SUFFIXES:
        return FolderSource
    if old := sorted((child for child in children if child.suffix.lower() == ".bag"), key=natural_order):
        raise SourceError(f"{path}: holds a ROS 1 bag; {_conversion(old)}")
    raise SourceError(
        f"{path}: not recognised; looked for metadata.yaml, *.db3 or *.mcap (a bag), sequences/ (KITTI), rgb.txt (TUM) "
        f"and images ({' '.join(sorted(IMAGE_SUFFIXES))})"
    )


def _recognise_file(path: Path) -> type[BagSource | VideoSource]:
    suffix = path.suffix.lower()
    if is_bag_file(path):
        return BagSource
    if suffix in VIDEO_SUFFIXES:
        return VideoSource
    if suffix == ".bag":
        raise SourceError(f"{path}: is a ROS 1 bag; {_conversion([path])}")
    known = " ".join(sorted(BAG_SUFFIXES | VIDEO_SUFFIXES))
    raise SourceError(f"{path}: not recognised; a file must be a bag or a video ({known})")


def _conversion(bags: list[Path]) -> str:
    """The command that makes one bag of ROS 2 of those of ROS 1, to be typed in any folder."""
    sources = " ".join(shlex.quote(str(bag.absolute())) for bag in bags)
    target = shlex.quote(str(bags[0].absolute().with_suffix("")))
    return f"convert it: rosbags-convert --src {sources} --dst {target}"


def _only_sequence(root: Path) -> str:
    sequences = sorted(child.name for child in (root / "sequences").iterdir() if child.is_dir())
    if len(sequences) != 1:
        held = f"; sequences/ holds {', '.join(sequences) or 'none'}"
        raise SourceError(f"{root}: choose one with ", Keyword("sequence"), held)
    return sequences[0]
