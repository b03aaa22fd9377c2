"""Sources of training images. Each knows the graded similarity psi of its own views; views of two sources share no place.

psi is NaN where it is not known (two frames of one clip without poses); the loss leaves such pairs out.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from training.data.augment import Crop, random_crop
from training.labels.field_of_view import FieldOfView
from vpr_ros.types import Image


@dataclass(frozen=True, slots=True)
class View:
    """A window of the source's image `index`."""

    source: int
    index: int
    crop: Crop


class Source(Protocol):
    """Images and what is known of their places."""

    name: str
    images: Sequence[Image]

    def draw(self, rng: Generator, count: int) -> list[tuple[int, Crop]]:
        """About `count` views, chosen so that similar, slightly similar and unrelated pairs occur."""

    def similarity(self, first: tuple[int, Crop], second: tuple[int, Crop]) -> float:
        """psi in [0, 1], or NaN if unknown."""


class PosedImages:
    """Images with planar poses (N, 3) as (x, y, heading): psi is the overlap of the fields of view."""

    smallest_crop = 0.85

    def __init__(self, name: str, images: Sequence[Image], poses: NDArray[np.float64], view: FieldOfView) -> None:
        self.name, self.images, self.poses, self.view = name, images, poses, view
        self._positives: list[list[int]] = [[] for _ in images]
        self._soft_negatives: list[list[int]] = [[] for _ in images]
        for i in range(len(images)):
            near = np.flatnonzero(np.hypot(*(poses[i + 1 :, :2] - poses[i, :2]).T) < 2 * view.radius_m) + i + 1
            for j in near.tolist():
                psi = view.similarity(poses[i], poses[j])
                pool = self._positives if psi >= 0.5 else self._soft_negatives
                if psi > 0:
                    pool[i].append(j)
                    pool[j].append(i)

    def draw(self, rng: Generator, count: int) -> list[tuple[int, Crop]]:
        """For each query a positive and a soft negative; the other queries are its unrelated images (METHODS 1.4)."""
        chosen: list[int] = []
        while len(chosen) < count:
            query = int(rng.integers(len(self.images)))
            if self._positives[query]:
                chosen += [query, int(rng.choice(self._positives[query]))]
                if self._soft_negatives[query]:
                    chosen.append(int(rng.choice(self._soft_negatives[query])))
        return [(i, random_crop(rng, self.smallest_crop)) for i in chosen[:count]]

    def similarity(self, first: tuple[int, Crop], second: tuple[int, Crop]) -> float:
        return self.view.similarity(self.poses[first[0]], self.poses[second[0]])


class NamedPlaces:
    """Images of named places from one viewpoint each: psi is 1 for the same place, 0 for another."""

    smallest_crop = 0.8

    def __init__(self, name: str, images: Sequence[Image], places: Sequence[Hashable]) -> None:
        self.name, self.images, self.places = name, images, places

    def draw(self, rng: Generator, count: int) -> list[tuple[int, Crop]]:
        chosen = rng.choice(len(self.images), size=min(count, len(self.images)), replace=False)
        return [(int(i), random_crop(rng, self.smallest_crop)) for i in chosen]

    def similarity(self, first: tuple[int, Crop], second: tuple[int, Crop]) -> float:
        return float(self.places[first[0]] == self.places[second[0]])


class LoneImages:
    """Images without poses, in clips: psi of two windows of one image is their overlap, of two clips 0, within a clip unknown."""

    smallest_crop = 0.5

    def __init__(self, name: str, images: Sequence[Image], clips: Sequence[Hashable]) -> None:
        self.name, self.images, self.clips = name, images, clips

    def draw(self, rng: Generator, count: int) -> list[tuple[int, Crop]]:
        """Two windows of each chosen image."""
        chosen = rng.choice(len(self.images), size=(count + 1) // 2, replace=False)
        return [(int(i), random_crop(rng, self.smallest_crop)) for i in np.repeat(chosen, 2)[:count]]

    def similarity(self, first: tuple[int, Crop], second: tuple[int, Crop]) -> float:
        if first[0] == second[0]:
            return first[1].overlap(second[1])
        return float("nan") if self.clips[first[0]] == self.clips[second[0]] else 0.0


def similarity_matrix(views: Sequence[View], sources: Sequence[Source]) -> NDArray[np.float32]:
    """(B, B) psi of every pair of a batch."""
    psi = np.zeros((len(views), len(views)), np.float32)
    for i, a in enumerate(views):
        for j, b in enumerate(views[:i]):
            if a.source == b.source:
                psi[i, j] = psi[j, i] = sources[a.source].similarity((a.index, a.crop), (b.index, b.crop))
    np.fill_diagonal(psi, 1.0)
    return psi


def draw_batch(
    rng: Generator, sources: Sequence[Source], weights: Sequence[float], groups: int, group_size: int
) -> list[View]:
    """`groups` groups of views, each of one source chosen by weight."""
    share = np.array(weights) / np.sum(weights)
    chosen = rng.choice(len(sources), size=groups, p=share)
    return [
        View(int(s), index, crop)
        for s, groups_of_it in zip(*np.unique(chosen, return_counts=True), strict=True)
        for index, crop in sources[s].draw(rng, int(groups_of_it) * group_size)
    ]
