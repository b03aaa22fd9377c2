"""The rendered street world of the demo as training data: the same streets in many lights, weathers and seasons."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field
from tqdm import tqdm

import demo_world
from demo_world import DemoWorld, loop_trajectory, random_appearance
from training.data.classes import read_table
from training.data.image_set import ImageSet, LabelMaps
from training.data.planar import planar_pose
from training.data.protocol import Part, RetrievalProtocol, within_metres
from training.data.readers.base import Reader
from training.data.readers.image_cache import encode_jpeg, encode_png, fill_once
from vpr_ros.types import Pose

UP = (0.0, 0.0, 1.0)

RENDERED_CACHE = Path(".training/cache/rendered")
RADIUS_M, MAX_HEADING_DEG = 5.0, 45.0
"""A right answer: with an image every 3 m, at 10 m nearly every answer of a trained network would be right."""

LABEL_MAP_STEP = 2
"""Pixels of an image per pixel of its label map, in each direction: half of 640 x 480 is what our networks see."""

_APPEARANCES_PER_SEED = 1000
"""Keeps the looks of two worlds apart."""


class Rendered(Reader):
    """One set per world: `seeds` choose the worlds, and the loop of each is driven once per appearance.

    - `step_m`: the mean distance between two images;
    - `laps`: the share of the loop that a drive covers;
    - `lateral_m`: each drive keeps to its own random offset from the lane, at most so far to either side;
    - `label_maps`: also draw what each pixel shows, as Cityscapes train ids, exactly;
    - `cache`: each world is rendered once, into a folder whose name changes with these options and the renderer.

    Raises VprError where Panda3D is missing (`pip install vpr_ros[demo]`) and images are not rendered yet.
    """

    kind: Literal["rendered"] = "rendered"
    seeds: tuple[int, ...] = Field(min_length=1)
    appearances: int = Field(default=8, gt=0, le=_APPEARANCES_PER_SEED)
    step_m: float = Field(default=1.0, gt=0)
    laps: float = Field(default=1.0, gt=0, le=1)
    lateral_m: float = Field(default=1.0, ge=0)
    label_maps: bool = False
    cache: Path = RENDERED_CACHE

    def read(self, data_root: Path) -> list[ImageSet]:
        return [self._read_world(seed) for seed in self.seeds]

    def _read_world(self, seed: int) -> ImageSet:
        folder = self.cache / f"world-{seed}-{self._key()}"
        fill_once(folder, partial(self._render, seed))
        with np.load(folder / "poses.npz", allow_pickle=False) as stored:
            poses, drives = stored["world_from_camera"], stored["drives"]
        positions, headings = planar_pose(poses, UP)
        maps = [folder / f"{i:06d}.png" for i in range(len(poses))]
        return ImageSet.of(
            f"rendered world {seed}",
            [folder / f"{i:06d}.jpg" for i in range(len(poses))],
            positions_m=positions,
            headings_rad=headings,
            sequences=[f"drive {drive}" for drive in drives],
            conditions=[f"appearance {_appearance(seed, drive)}" for drive in drives],
            label_maps=LabelMaps.of(maps, read_table("cityscapes")) if self.label_maps else None,
        )

    def _render(self, seed: int, folder: Path) -> None:
        routes = [self._route(seed, drive) for drive in range(self.appearances)]
        poses = np.concatenate(routes)
        with tqdm(total=len(poses), desc=f"rendering world {seed}", unit="image") as progress:
            for drive, route in enumerate(routes):
                with DemoWorld(seed, random_appearance(_appearance(seed, drive))) as world:
                    for pose in route:
                        view = world.render(pose, ground_truth=self.label_maps)
                        (folder / f"{progress.n:06d}.jpg").write_bytes(encode_jpeg(view.image))
                        if view.labels is not None:
                            small = view.labels[::LABEL_MAP_STEP, ::LABEL_MAP_STEP]
                            (folder / f"{progress.n:06d}.png").write_bytes(encode_png(small))
                        progress.update()
        drives = np.repeat(np.arange(len(routes)), [len(route) for route in routes])
        np.savez(folder / "poses.npz", world_from_camera=poses, drives=drives)

    def _route(self, seed: int, drive: int) -> list[Pose]:
        offset = float(np.random.default_rng((seed, drive)).uniform(-self.lateral_m, self.lateral_m))
        route = loop_trajectory(laps=self.laps, speed_m_s=self.step_m, rate_hz=1.0, lateral_offset_m=(offset,))
        return [pose for _, pose in route]

    def _key(self) -> str:
        """Changes with the options and with the code that renders."""
        digest = hashlib.sha256(self.model_dump_json(exclude={"path", "seeds", "cache"}).encode())
        for source in sorted(Path(demo_world.__file__).parent.glob("*.py")):
            digest.update(source.read_bytes())
        return digest.hexdigest()[:12]


def rendered_worlds(seeds: Sequence[int], cache: Path) -> RetrievalProtocol:
    """The first drive through each world is the map; the drives in two other looks ask (ours: no literature)."""
    worlds = Rendered(seeds=tuple(seeds), appearances=3, step_m=3.0, cache=cache).read(Path())
    parts = []
    for world in worlds:
        is_map = world.sequences == world.sequences[0]
        database, queries = world.take(is_map), world.take(~is_map)
        parts.append(Part(database, queries, within_metres(queries, database, RADIUS_M, MAX_HEADING_DEG)))
    name = f"rendered worlds {', '.join(map(str, seeds))}"
    return RetrievalProtocol(name, f"within {RADIUS_M:g} m and {MAX_HEADING_DEG:g} deg", tuple(parts))


def _appearance(seed: int, drive: int) -> int:
    return _APPEARANCES_PER_SEED * seed + drive
