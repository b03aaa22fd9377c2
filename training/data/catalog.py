"""The training folders of a recipe, by name: from files on disk to `Source`s. Images are kept in memory, shrunk."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from training.data.sources import LoneImages, NamedPlaces, PosedImages, Source
from training.labels.field_of_view import FieldOfView, planar_pose
from vpr_ros.demo_world import DemoWorld, loop_trajectory, random_appearance
from vpr_ros.errors import ImageError, SourceError
from vpr_ros.images import read_image, resize
from vpr_ros.sources import KittiSource
from vpr_ros.types import Image

STORED_SIZE = (400, 300)
"""Width and height in memory: a little more than the network's, so that crops keep detail."""


def read_images(paths: Iterable[Path], label: str) -> tuple[list[Image], list[Path]]:
    """The readable images and their paths; unreadable ones are counted and said."""
    images, kept, skipped = [], [], 0
    for path in tqdm(list(paths), desc=label, unit="image"):
        try:
            images.append(resize(read_image(path), *STORED_SIZE))
            kept.append(path)
        except ImageError:
            skipped += 1
    if skipped:
        print(f"{label}: {skipped} unreadable images skipped")
    if not images:
        raise SourceError(f"{label}: no readable image; check data_root in the recipe")
    return images, kept


def kitti(root: Path, *, first: int, last: int, view: FieldOfView, **_: Any) -> Source:
    """Frames first..last of KITTI odometry 00 (x right, y down, z forward: up is -y)."""
    source = KittiSource(root / "kitti", "00")
    truth = source.ground_truth
    if truth is None:
        raise SourceError(f"{root / 'kitti'} has no poses/00.txt")
    frames = [resize(f.image, *STORED_SIZE) for f in itertools.islice(source, first, last + 1)]
    up = np.array([0.0, -1.0, 0.0])
    poses = np.array([planar_pose(p, up) for p in truth.poses[first : last + 1]])
    return PosedImages(f"kitti 00 frames {first}-{last}", frames, poses, view)


def michigan(root: Path, **_: Any) -> Source:
    """File names are session and place: `0304.jpg` is place 04 in session 03."""
    images, paths = read_images(sorted((root / "michigan").glob("*.jpg")), "michigan")
    return NamedPlaces("michigan", images, [path.stem[2:] for path in paths])


def camvid(root: Path, *, parts: list[str], **_: Any) -> Source:
    """Street clips; the clip is the file name's prefix."""
    found = [path for part in parts for path in sorted((root / "camvid" / part).glob("*.png"))]
    found += [path for part in parts for path in sorted((root / "camvid" / part).glob("*.jpg"))]
    images, paths = read_images(found, "camvid")
    return LoneImages(f"camvid {'+'.join(parts)}", images, [path.stem.split("_")[0] for path in paths])


def ie_tower(root: Path, **_: Any) -> Source:
    """Indoor clips; `f10_central_main_frame_000001.jpg` is clip f10_central_main."""
    images, paths = read_images(sorted((root / "ie_tower").glob("*/*.jpg")), "ie_tower")
    return LoneImages("ie_tower", images, [path.stem.split("_frame_")[0] for path in paths])


def rendered(_: Path, *, seed: int, appearances: int, step_m: float, view: FieldOfView, **__: Any) -> Source:
    """One rendered world, its loop driven once per appearance."""
    images, poses = [], []
    up = np.array([0.0, 0.0, 1.0])
    for lap in range(appearances):
        offset = float(np.random.default_rng((seed, lap)).uniform(-1.0, 1.0))
        route = loop_trajectory(laps=1, speed_m_s=step_m, rate_hz=1.0, lateral_offset_m=(offset,))
        with DemoWorld(seed, random_appearance(1000 * seed + lap)) as world:
            for _stamp, pose in route:
                images.append(resize(world.render(pose).image, *STORED_SIZE))
                poses.append(planar_pose(pose, up))
    return PosedImages(f"rendered world {seed}", images, np.array(poses), view)


KINDS: Mapping[str, Callable[..., Source]] = {
    "kitti": kitti,
    "michigan": michigan,
    "camvid": camvid,
    "ie_tower": ie_tower,
    "rendered": rendered,
}


def open_sources(entries: Iterable[Mapping[str, Any]], root: Path) -> tuple[list[Source], list[float]]:
    """The sources of a recipe and the share of each in a batch.

    An entry is `{kind, share, ...}`; `view` gives the field of view of posed kinds; `seeds` of `rendered` makes one source
    per seed. Raises SourceError for an unknown kind or a folder that is not there.
    """
    sources, shares = [], []
    for entry in entries:
        options = dict(entry)
        kind, share = options.pop("kind"), options.pop("share")
        if kind not in KINDS:
            raise SourceError(f"unknown kind of training data {kind!r}; known: {', '.join(KINDS)}")
        view = FieldOfView(**options.pop("view", {}))
        seeds = options.pop("seeds", [None])
        for seed in tqdm(seeds, desc=kind, disable=len(seeds) == 1):
            made = KINDS[kind](root, view=view, **options, **({} if seed is None else {"seed": seed}))
            sources.append(made)
            shares.append(share / len(seeds))
    return sources, shares
