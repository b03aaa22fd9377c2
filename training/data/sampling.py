"""Which images make a batch, and which similarity the loss may ask of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr, field_validator
from torch import Tensor

from training.data.augment import Crop, random_crop
from training.data.source import POSITIVE, Source
from training.options import Options
from vpr_ros.errors import ConfigError

Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, slots=True)
class View:
    """A window of image `index` of source `source`."""

    source: int
    index: int
    crop: Crop


@dataclass(frozen=True, slots=True, eq=False)
class Draw:
    """The B views of a batch; `asked` (B, B) bool: the pairs that count, None for all; `triplets` (T, 3) of the views."""

    views: tuple[View, ...]
    asked: NDArray[np.bool_] | None = None
    triplets: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 3), np.int64))


def targets(draw: Draw, sources: Sequence[Source]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The similarity and triplets of `Targets`.

    psi of two images is their source's, of two views of one image the overlap of their crops, across sources 0; NaN for
    a pair that was not asked.
    """
    source = np.array([view.source for view in draw.views])
    index = np.array([view.index for view in draw.views])
    similarity = np.zeros((len(source), len(source)), np.float32)
    for s in np.unique(source):
        members = np.flatnonzero(source == s)
        similarity[np.ix_(members, members)] = sources[s].psi(index[members])
    same_image = np.equal.outer(source, source) & np.equal.outer(index, index)
    for i, j in np.argwhere(np.triu(same_image, 1)):
        similarity[i, j] = similarity[j, i] = draw.views[i].crop.overlap(draw.views[j].crop)
    if draw.asked is not None:
        similarity[~draw.asked] = np.nan
    np.fill_diagonal(similarity, 1.0)
    return similarity, draw.triplets


# What can be drawn for a query


@dataclass(frozen=True, slots=True)
class Pool:
    """The images whose psi to a query `holds`; `rest`: those that the source does not store (psi = 0) are among them."""

    name: str
    holds: Callable[[NDArray[np.float32]], NDArray[np.bool_]]
    rest: bool

    def pick(self, rng: Generator, source: Source, query: int) -> int:
        """One of them, each as likely."""
        others, psi = source.neighbours(query)
        if not self.rest:
            return _one_of(rng, others[self.holds(psi)])
        excluded = np.union1d(others[~self.holds(psi)], query)
        rank = int(rng.integers(len(source.images) - len(excluded)))
        # excluded[i] has excluded[i] - i others before it: it comes before the image of this rank if they are at most `rank`
        return rank + int(np.searchsorted(excluded - np.arange(len(excluded)), rank, side="right"))


POSITIVES = Pool(f"positives (psi >= {POSITIVE})", lambda psi: psi >= POSITIVE, rest=False)
SOFT_NEGATIVES = Pool(f"soft negatives (0 < psi < {POSITIVE})", lambda psi: (psi > 0) & (psi < POSITIVE), rest=False)
UNRELATED = Pool("unrelated images (psi = 0)", lambda psi: psi == 0, rest=True)
NEGATIVES = Pool(f"negatives (psi < {POSITIVE})", lambda psi: psi < POSITIVE, rest=True)


@cache  # sources live as long as the training
def queries_with(source: Source, pool: Pool, least: int = 1) -> NDArray[np.int64]:
    """Images with at least `least` others in their pool. Raises ConfigError naming the source if there is none."""
    starts = source.similarity.indptr
    size = np.diff(np.append(0, np.cumsum(pool.holds(source.similarity.data)))[starts])
    if pool.rest:
        size += len(source.images) - 1 - np.diff(starts)
    found = np.flatnonzero(size >= least)
    if not len(found):
        raise ConfigError(
            f"{source.images.name}: no image has {least} or more {pool.name}, which the sampling needs; "
            "change the sampling or leave this source out"
        )
    return found


def probabilities(sources: Sequence[Source]) -> NDArray[np.float64]:
    """Of each source, to give the next images of a batch."""
    share = np.array([source.share for source in sources])
    return share / share.sum()


def _one_of(rng: Generator, indices: NDArray[np.int32] | NDArray[np.int64]) -> int:
    return int(indices[rng.integers(len(indices))])


def _view(rng: Generator, sources: Sequence[Source], source: int, index: int) -> View:
    return View(int(source), int(index), random_crop(rng, sources[source].smallest_crop))


# Samplers: each draws a batch as a pure function of the generator and the sources


class Groups(Options):
    """Groups of a query, a positive and soft negatives of one source; every pair of the batch counts.

    The other groups are a query's unrelated images: where a forward pass is dear and a pair is free, a batch of B images
    gives B(B-1)/2 pairs instead of the B/2 that GCL draws. A query without a positive stands beside a second crop of
    itself; random images of the source stand in for missing soft negatives.
    """

    kind: Literal["groups"] = "groups"
    groups: int = Field(default=8, gt=0)
    group_size: int = Field(default=3, ge=2)

    def draw(self, rng: Generator, sources: Sequence[Source]) -> Draw:
        """Raises ConfigError for a source without positives whose crops are whole images."""
        queries = [_queries_of_groups(source) for source in sources]
        chosen = rng.choice(len(sources), self.groups, p=probabilities(sources))
        views = (
            _view(rng, sources, s, i) for s in chosen for i in self._group(rng, sources[s], _one_of(rng, queries[s]))
        )
        return Draw(tuple(views))

    def _group(self, rng: Generator, source: Source, query: int) -> list[int]:
        positives, soft = source.positives(query), source.soft_negatives(query)
        positive = _one_of(rng, positives) if len(positives) else query
        soft = rng.choice(soft, min(len(soft), self.group_size - 2), replace=False)
        others = rng.integers(len(source.images), size=self.group_size - 2 - len(soft))
        return [query, positive, *soft.tolist(), *others.tolist()]


@cache
def _queries_of_groups(source: Source) -> NDArray[np.int64]:
    """Any image, where a second crop of it can be the positive."""
    return np.arange(len(source.images)) if source.smallest_crop < 1 else queries_with(source, POSITIVES)


class Pairs(Options):
    """GCL's batches (docs/methods.md 1.4): for each query one match, from a pool drawn by `shares`; only these pairs count.

    Three shares are of positives (psi >= 0.5), soft negatives (0 < psi < 0.5) and unrelated images (psi = 0). Two are of
    positives and all negatives (psi < 0.5): the batches of the contrastive baseline. The pool is drawn first and the query
    among the images that have one, so that the shares hold also where many pools are empty.
    """

    kind: Literal["pairs"] = "pairs"
    queries: int = Field(default=16, gt=0)
    shares: tuple[Share, Share, Share] | tuple[Share, Share] = (0.5, 0.25, 0.25)

    @field_validator("shares")
    @classmethod
    def _sum_to_one(cls, shares: tuple[float, ...]) -> tuple[float, ...]:
        if abs(sum(shares) - 1) > 1e-6:
            raise ValueError(f"shares sum to {sum(shares):g}, not to 1")
        return shares

    def draw(self, rng: Generator, sources: Sequence[Source]) -> Draw:
        """2 x `queries` views, each query before its match. Raises ConfigError for a source without a match of some pool."""
        all_pools = (POSITIVES, SOFT_NEGATIVES, UNRELATED) if len(self.shares) == 3 else (POSITIVES, NEGATIVES)
        pools = [pool for pool, share in zip(all_pools, self.shares, strict=True) if share]
        queries = [[queries_with(source, pool) for pool in pools] for source in sources]
        views: list[View] = []
        chosen_sources = rng.choice(len(sources), self.queries, p=probabilities(sources))
        chosen_pools = rng.choice(len(pools), self.queries, p=[share for share in self.shares if share])
        for s, p in zip(chosen_sources, chosen_pools, strict=True):
            query = _one_of(rng, queries[s][p])
            views += [_view(rng, sources, s, i) for i in (query, pools[p].pick(rng, sources[s], query))]
        return Draw(tuple(views), asked=np.kron(np.eye(self.queries, dtype=bool), np.ones((2, 2), bool)))


class Places(Options):
    """The batches of GSV-Cities: `places` places of `images` images each; every pair counts.

    Places are those of the set, each at most once in a batch; in a set without place numbers, an image and its positives.
    """

    kind: Literal["places"] = "places"
    places: int = Field(default=60, gt=1)
    images: int = Field(default=4, gt=1)

    def draw(self, rng: Generator, sources: Sequence[Source]) -> Draw:
        """Raises ConfigError for a source with fewer than `places` places of `images` images."""
        places = [self._places(source) for source in sources]
        chosen = [
            (s, place)
            for s, count in enumerate(rng.multinomial(self.places, probabilities(sources)))
            for place in rng.choice(places[s], count, replace=False)
        ]
        views = (_view(rng, sources, s, i) for s, place in chosen for i in self._members(rng, sources[s], place))
        return Draw(tuple(views))

    def _places(self, source: Source) -> NDArray[np.int64]:
        """Places with enough images: positions in `_by_place`, or in a set without places the images to begin with."""
        _, bounds = _by_place(source)
        if len(bounds) == 1:
            places = queries_with(source, POSITIVES, self.images - 1)
        else:
            places = np.flatnonzero(np.diff(bounds) >= self.images)
        if len(places) < self.places:
            raise ConfigError(
                f"{source.images.name}: {len(places)} places have {self.images} images, fewer than the "
                f"{self.places} of a batch; lower sampling.places or sampling.images, or leave this source out"
            )
        return places

    def _members(self, rng: Generator, source: Source, place: int) -> list[int]:
        order, bounds = _by_place(source)
        if len(bounds) == 1:
            return [place, *rng.choice(source.positives(place), self.images - 1, replace=False)]
        return rng.choice(order[bounds[place] : bounds[place + 1]], self.images, replace=False).tolist()


@cache
def _by_place(source: Source) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Images of known places, sorted by place, and the bounds of the places in that order."""
    places = source.images.places
    order = np.argsort(places, kind="stable")[np.count_nonzero(places < 0) :]
    _, first = np.unique(places[order], return_index=True)
    return order, np.append(first, len(order))


@dataclass(frozen=True, slots=True, eq=False)
class Mined:
    """T tuples of hard images, in random order.

    `source` (T,) int64; `indices` (T, 2 + n) int64: query, positive and up to n negatives, hardest first, -1 where there
    are fewer; `dropped`: queries that had no hard negative.
    """

    source: NDArray[np.int64]
    indices: NDArray[np.int64]
    dropped: int

    def to_state(self) -> dict[str, Tensor]:
        """Tensors, for a checkpoint."""
        table = {"source": self.source, "indices": self.indices, "dropped": np.array(self.dropped)}
        return {name: torch.from_numpy(array) for name, array in table.items()}

    @classmethod
    def from_state(cls, state: dict[str, Tensor]) -> Mined:
        return cls(state["source"].numpy(), state["indices"].numpy(), int(state["dropped"]))


class MinedTriplets(Options):
    """Tuples of a query, a positive and up to `negatives` hard negatives, mined in rounds (docs/methods.md 2.6, `mining.mine`).

    A round mines for `refresh_queries` queries among `pool` random images, those nearer than the positive + `margin`.
    `with_attention` false describes them without it, as the public code of the de-attention paper does (docs/methods.md 2.6).
    Only the triplets of each tuple are asked of a triplet loss; every pair counts for another.
    """

    kind: Literal["mined_triplets"] = "mined_triplets"
    tuples: int = Field(default=4, gt=0)
    negatives: int = Field(default=10, gt=0)
    refresh_queries: int = Field(default=1000, gt=0)
    pool: int = Field(default=1000, gt=0)
    margin: float = Field(default=0.1, ge=0, le=2)
    with_attention: bool = True
    _table: Mined | None = PrivateAttr(default=None)

    def with_table(self, mined: Mined) -> MinedTriplets:
        """The same, drawing from a round's table."""
        made = self.model_copy()
        made._table = mined
        return made

    def draw(self, rng: Generator, sources: Sequence[Source]) -> Draw:
        """`tuples` different tuples of the table, or all if it has fewer. Raises ValueError before the first round."""
        if self._table is None:
            raise ValueError("nothing is mined yet: draw from with_table(mine(...))")
        views: list[View] = []
        triplets: list[tuple[int, int, int]] = []
        rows = len(self._table.source)
        for row in rng.choice(rows, min(self.tuples, rows), replace=False):
            anchor = len(views)
            indices = self._table.indices[row]
            views += [_view(rng, sources, self._table.source[row], i) for i in indices[indices >= 0]]
            triplets += [(anchor, anchor + 1, negative) for negative in range(anchor + 2, len(views))]
        return Draw(tuple(views), triplets=np.array(triplets, np.int64))


AnySampling = Annotated[Groups | Pairs | Places | MinedTriplets, Field(discriminator="kind")]
