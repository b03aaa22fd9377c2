"""Images on disk and what is known of each: the one form that every reader of a data set returns."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from training.data.classes import ClassTable, read_label_map
from vpr_ros.errors import ConfigError, SourceError
from vpr_ros.types import Camera


@dataclass(frozen=True, slots=True, eq=False)
class Surfaces:
    """What each of N images saw in 3-D: a pose and a depth image.

    `world_from_camera` (N, 4, 4) float64, optical axis z; `depth_paths` 16-bit images of `units_per_m` per metre, 0 where
    depth is unknown; `camera` is that of the depth images.
    """

    world_from_camera: NDArray[np.float64]
    depth_paths: tuple[Path, ...]
    units_per_m: float
    camera: Camera

    def take(self, indices: NDArray[np.int64]) -> Surfaces:
        return dataclasses.replace(
            self,
            world_from_camera=self.world_from_camera[indices],
            depth_paths=tuple(self.depth_paths[i] for i in indices),
        )


@dataclass(frozen=True, slots=True, eq=False)
class LabelMaps:
    """What the pixels of each of N images show: `paths` of 8-bit images of class ids, of any size, and the table of each."""

    paths: tuple[Path, ...]
    tables: tuple[ClassTable, ...]

    @classmethod
    def of(cls, paths: Sequence[Path], table: ClassTable) -> LabelMaps:
        return cls(tuple(paths), (table,) * len(paths))

    def take(self, indices: NDArray[np.int64]) -> LabelMaps:
        return LabelMaps(tuple(self.paths[i] for i in indices), tuple(self.tables[i] for i in indices))


@dataclass(frozen=True, slots=True, eq=False)
class ImageSet:
    """N images of one region; nothing is said about places of two sets. Every array is aligned with `paths`.

    - `positions_m` (N, 2) float64: metres east and north, or in any plane; NaN where unknown;
    - `headings_rad` (N,) float64: where the camera looks, counter-clockwise from +x (east); NaN where unknown;
    - `places` (N,) int64: equal numbers >= 0 show the same place, different ones different places; -1 where unknown;
    - `sequences` (N,) str: the drive, clip or session that took the image: images of one are not independent;
    - `conditions` (N,) str: "night", "winter", ...; "" where unknown.
    """

    name: str
    paths: tuple[Path, ...]
    positions_m: NDArray[np.float64]
    headings_rad: NDArray[np.float64]
    places: NDArray[np.int64]
    sequences: NDArray[np.str_]
    conditions: NDArray[np.str_]
    surfaces: Surfaces | None = None
    label_maps: LabelMaps | None = None

    @classmethod
    def of(
        cls,
        name: str,
        paths: Sequence[Path],
        *,
        positions_m: ArrayLike | None = None,
        headings_rad: ArrayLike | None = None,
        places: ArrayLike | None = None,
        sequences: Sequence[str] | None = None,
        conditions: Sequence[str] | None = None,
        surfaces: Surfaces | None = None,
        label_maps: LabelMaps | None = None,
    ) -> ImageSet:
        """A set where what is not given is unknown; without `sequences` it is one sequence.

        Raises SourceError for no image at all, ValueError for arrays that are not aligned.
        """
        n = len(paths)
        if n == 0:
            raise SourceError(f"{name}: no images")
        made = cls(
            name,
            tuple(paths),
            np.full((n, 2), np.nan) if positions_m is None else np.asarray(positions_m, np.float64),
            np.full(n, np.nan) if headings_rad is None else np.asarray(headings_rad, np.float64),
            np.full(n, -1, np.int64) if places is None else np.asarray(places, np.int64),
            np.full(n, name) if sequences is None else np.asarray(sequences, np.str_),
            np.full(n, "") if conditions is None else np.asarray(conditions, np.str_),
            surfaces,
            label_maps,
        )
        aligned = (made.headings_rad, made.places, made.sequences, made.conditions)
        maps = n if label_maps is None else len(label_maps.paths)
        if made.positions_m.shape != (n, 2) or any(array.shape != (n,) for array in aligned) or maps != n:
            raise ValueError(f"{name}: arrays do not match its {n} images")
        return made

    @classmethod
    def union(cls, name: str, sets: Sequence[ImageSet]) -> ImageSet:
        """The images of all `sets` of one region, in that order; of their surfaces nothing is kept.

        Label maps are kept where every set has them.
        """
        maps = [images.label_maps for images in sets if images.label_maps]
        return cls.of(
            name,
            [path for images in sets for path in images.paths],
            positions_m=np.concatenate([images.positions_m for images in sets]),
            headings_rad=np.concatenate([images.headings_rad for images in sets]),
            places=np.concatenate([images.places for images in sets]),
            sequences=np.concatenate([images.sequences for images in sets]).tolist(),
            conditions=np.concatenate([images.conditions for images in sets]).tolist(),
            label_maps=LabelMaps(
                tuple(path for each in maps for path in each.paths),
                tuple(table for each in maps for table in each.tables),
            )
            if len(maps) == len(sets)
            else None,
        )

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, indices: ArrayLike, name: str | None = None) -> ImageSet:
        """The images at `indices` (integers, or one bool per image), in that order. Raises SourceError if there is none."""
        chosen = np.arange(len(self))[np.asarray(indices)]
        return ImageSet.of(
            name or self.name,
            [self.paths[i] for i in chosen],
            positions_m=self.positions_m[chosen],
            headings_rad=self.headings_rad[chosen],
            places=self.places[chosen],
            sequences=self.sequences[chosen].tolist(),
            conditions=self.conditions[chosen].tolist(),
            surfaces=self.surfaces.take(chosen) if self.surfaces else None,
            label_maps=self.label_maps.take(chosen) if self.label_maps else None,
        )

    def label_map(self, index: int) -> tuple[NDArray[np.uint8], ClassTable]:
        """(H, W) class ids of an image, all of them in its table, and that table.

        Raises ConfigError for a set without label maps, ImageError for one that cannot be read, SourceError for one with
        a class that the table lacks.
        """
        maps = self.label_maps
        if maps is None:
            raise ConfigError(
                f"{self.name} has no label maps: give its source label_maps, see python -m training.segment"
            )
        path, table = maps.paths[index], maps.tables[index]
        labels = read_label_map(path)
        table.check_ids(labels, path)
        return labels, table

    def fingerprint(self) -> str:
        """sha256 of the names, sizes and labels: equal exactly where training would see the same data."""
        # repr tells where a text ends: joined, other texts could make the same bytes
        words: list[object] = [
            self.name,
            _names_and_sizes(self.paths),
            self.sequences.tolist(),
            self.conditions.tolist(),
        ]
        arrays = [self.positions_m, self.headings_rad, self.places]
        if self.surfaces:
            words += [_names_and_sizes(self.surfaces.depth_paths), self.surfaces.units_per_m, self.surfaces.camera]
            arrays.append(self.surfaces.world_from_camera)
        if self.label_maps:
            tables = {id(table): table for table in self.label_maps.tables}
            words += [_names_and_sizes(self.label_maps.paths), [table.model_dump() for table in tables.values()]]
        digest = hashlib.sha256(repr(words).encode())
        for array in arrays:
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def _names_and_sizes(paths: Sequence[Path]) -> list[tuple[str, int]]:
    return [(f"{path.parent.name}/{path.name}", path.stat().st_size if path.exists() else -1) for path in paths]


def heading_from_compass(degrees: ArrayLike) -> NDArray[np.float64]:
    """Compass angles (degrees clockwise from north) -> radians counter-clockwise from east, in (-pi, pi]."""
    angle = np.pi / 2 - np.radians(np.asarray(degrees, np.float64))
    return np.pi - (np.pi - angle) % (2 * np.pi)
