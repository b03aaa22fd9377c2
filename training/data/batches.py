"""Batch k of a training run, as a pure function of the seed and k: a run that was killed resumes to the same losses."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from tqdm import tqdm

from training.data.augment import random_label_view
from training.data.batch import Targets
from training.data.feature_masks import UNKNOWN
from training.data.image_set import ImageSet
from training.data.inputs import InputFormat, Pixels
from training.data.sampling import AnySampling, View, targets
from training.data.source import Source
from vpr_ros.errors import ImageError

WORKERS = multiprocessing.get_context("forkserver")
"""A fork of this process would inherit the locks of OpenCV's and OpenMP's threads, and hang. The server has no threads, and
has imported what workers need when it forks them."""
WORKERS.set_forkserver_preload(["training.data.batches"])
DESCRIBED_AT_ONCE = 32
"""Images, where nothing is trained on them."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """What training asks of B images.

    - `images` (B, H, W, 3) uint8, or (B, H, W) cluster numbers, and their `targets`;
    - `views` (B, 2) int64: source and index of each; stays on the CPU, where tables of them are;
    - `unreadable`: paths that could not be read: blank here, and asked nothing;
    - `masks` (B, h, w) uint8: the masks of the same views at feature resolution, as `Guidance` stores them.
    """

    images: Tensor
    targets: Targets
    views: Tensor
    unreadable: tuple[str, ...] = ()
    masks: Tensor | None = None

    def to(self, device: Any) -> Batch:
        images, targets = self.images.to(device, non_blocking=True), self.targets.to(device)
        masks = None if self.masks is None else self.masks.to(device, non_blocking=True)
        return Batch(images, targets, self.views, self.unreadable, masks)

    def pin_memory(self) -> Batch:
        pinned = Targets(self.targets.similarity.pin_memory(), self.targets.triplets.pin_memory())
        masks = None if self.masks is None else self.masks.pin_memory()
        return Batch(self.images.pin_memory(), pinned, self.views, self.unreadable, masks)


class TrainingBatches(Dataset[Batch]):
    """Batch k is drawn, read and augmented with a generator seeded by (seed, k).

    `masks` (N, h, w) uint8 of the images of each source, if there are any, are cut and tilted as these are.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        sampling: AnySampling,
        network: InputFormat,
        seed: int,
        masks: Sequence[NDArray[np.uint8]] = (),
    ) -> None:
        self.sources, self.sampling, self.seed, self.masks = sources, sampling, seed, masks
        self.input, self.width, self.height = network.input, network.width, network.height

    def __getitem__(self, k: int) -> Batch:
        rng = np.random.default_rng((self.seed, k))
        draw = self.sampling.draw(rng, self.sources)
        similarity, triplets = targets(draw, self.sources)
        images, masks = [], []
        for view in draw.views:
            twin = deepcopy(rng)  # draws the same camera again
            images.append(self._image(rng, view))
            if self.masks:
                masks.append(self._mask(twin, view))
        missing = np.array([image is None for image in images])
        if missing.any():
            similarity[missing] = similarity[:, missing] = np.nan
            np.fill_diagonal(similarity, 1.0)
            triplets = triplets[~missing[triplets].any(axis=1)]
        blank = self.input.blank(self.width, self.height)
        return Batch(
            torch.from_numpy(np.stack([blank if image is None else image for image in images])),
            Targets(torch.from_numpy(similarity), torch.from_numpy(triplets)),
            torch.tensor([(view.source, view.index) for view in draw.views]),
            tuple(str(self._path(view)) for view, gone in zip(draw.views, missing, strict=True) if gone),
            torch.from_numpy(np.stack(masks)) if masks else None,
        )

    def _path(self, view: View) -> Any:
        return self.sources[view.source].images.paths[view.index]

    def _image(self, rng: np.random.Generator, view: View) -> Pixels | None:
        try:
            pixels = self.input.read(self.sources[view.source].images, view.index)
            return self.input.view(rng, pixels, view.crop, self.width, self.height)
        except ImageError:
            return None

    def _mask(self, rng: np.random.Generator, view: View) -> NDArray[np.uint8]:
        mask = self.masks[view.source][view.index]
        height, width = mask.shape
        return random_label_view(rng, mask, view.crop, width, height, outside=UNKNOWN)


class _From(Sampler[int]):
    """first, first + step, ... while it is below `stop`; its length counts from the start of the round, as Lightning does."""

    def __init__(self, start: int, stop: int, first: int, offset: int, stride: int) -> None:
        self.indices = range(first, stop)
        self.length, self.offset, self.stride = stop - start, offset, stride

    def __iter__(self) -> Iterator[int]:
        return (k * self.stride + self.offset for k in self.indices)

    def __len__(self) -> int:
        return self.length


def batch_loader(
    batches: TrainingBatches, start: int, stop: int, first: int, *, rank: int, ranks: int, workers: int
) -> DataLoader[Batch]:
    """Batches `first` to `stop` of the round that began at `start`, of one of `ranks` processes.

    Process r of R trains on batches k R + r: together they see what one process sees that accumulates R of them.
    """
    return DataLoader(
        batches,
        sampler=_From(start, stop, first, rank, ranks),
        batch_size=None,
        num_workers=workers,
        worker_init_fn=_one_thread,
        multiprocessing_context=WORKERS if workers else None,
        pin_memory=torch.cuda.is_available(),
        prefetch_factor=4 if workers else None,
    )


def _one_thread(_: int) -> None:
    cv2.setNumThreads(1)  # the workers are the parallelism
    torch.set_num_threads(1)


class ImageFiles(Dataset[tuple[Tensor, bool]]):
    """The images of a set at network size: (H, W, 3) or (H, W) uint8, and whether the file could be read (blank if not)."""

    def __init__(self, images: ImageSet, network: InputFormat) -> None:
        self.images = images
        self.input, self.width, self.height = network.input, network.width, network.height

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, bool]:
        try:
            pixels = self.input.read(self.images, index)
            return torch.from_numpy(self.input.resize(pixels, self.width, self.height)), True
        except ImageError:
            return torch.from_numpy(self.input.blank(self.width, self.height)), False


def image_loader(images: ImageSet, network: InputFormat, workers: int) -> DataLoader[Any]:
    """All images of a set in order: (n, H, W, 3) or (n, H, W) uint8 and (n,) bool, as `ImageFiles` gives them."""
    return DataLoader(
        ImageFiles(images, network),
        batch_size=DESCRIBED_AT_ONCE,
        num_workers=workers,
        worker_init_fn=_one_thread,
        multiprocessing_context=WORKERS if workers else None,
    )


def readable_batches(images: ImageSet, network: InputFormat, workers: int) -> Iterator[Tensor]:
    """(n, H, W, 3) or (n, H, W) uint8, without the images that cannot be read."""
    loader = image_loader(images, network, workers)
    for batch, readable in tqdm(loader, desc="reading", unit="batch", disable=None):
        if readable.any():
            yield batch[readable]
