"""Classical cached mining of hard negatives (NetVLAD; the deep visual geo-localization benchmark; docs/methods.md 2.6)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from training.data.sampling import POSITIVES, Mined, MinedTriplets, probabilities, queries_with
from training.data.source import Source
from vpr_ros.errors import TrainingError

Describe = Callable[[int, NDArray[np.int64]], NDArray[np.float32]]
"""(source, indices (n,)) -> (n, D) unit descriptors, NaN for an image that cannot be read."""


def mine(
    rng: Generator,
    sources: Sequence[Source],
    describe: Describe,
    options: MinedTriplets,
    previous: Mined | None = None,
) -> Mined:
    """The hard tuples of random queries, every image described once.

    The positive is the nearest of psi >= 0.5. Negatives have psi = 0, never an unknown one: of `options.pool` random
    images and the last negatives of these queries in `previous`, the nearest that violate the margin.

    Raises ConfigError for a source without positives, TrainingError if no query has a hard negative.
    """
    queries = [queries_with(source, POSITIVES) for source in sources]
    counts = rng.multinomial(options.refresh_queries, probabilities(sources))
    tables = {}
    for s in np.flatnonzero(counts).tolist():
        drawn = rng.choice(queries[s], min(counts[s], len(queries[s])), replace=False)
        size = len(sources[s].images)
        pool = np.union1d(rng.choice(size, min(options.pool, size), replace=False), _last_negatives(previous, s, drawn))
        tables[s] = _hard_tuples(sources[s], drawn, pool, partial(describe, s), options)
    indices = np.concatenate(list(tables.values()))
    source = np.repeat(list(tables), [len(table) for table in tables.values()])
    hard = rng.permutation(np.flatnonzero(indices[:, 2] >= 0))
    if not len(hard):
        raise TrainingError(
            f"none of {len(indices)} queries has a negative nearer than its positive + {options.margin:g}: nothing is "
            "left to learn, or sampling.margin or sampling.pool is too small"
        )
    return Mined(source[hard], indices[hard], len(indices) - len(hard))


def _last_negatives(previous: Mined | None, source: int, queries: NDArray[np.int64]) -> NDArray[np.int64]:
    if previous is None:
        return np.empty(0, np.int64)
    of_these = (previous.source == source) & np.isin(previous.indices[:, 0], queries)
    negatives = previous.indices[of_these, 2:]
    return negatives[negatives >= 0]


def _hard_tuples(
    source: Source,
    queries: NDArray[np.int64],
    pool: NDArray[np.int64],
    describe: Callable[[NDArray[np.int64]], NDArray[np.float32]],
    options: MinedTriplets,
) -> NDArray[np.int64]:
    """(Q, 2 + n): each query, its positive and its hard negatives from the sorted `pool`, -1 where there is none."""
    positives = [source.positives(query) for query in queries]
    images = np.unique(np.concatenate([queries, pool, *positives]))
    descriptors = describe(images)

    def distances(first: NDArray[np.integer], second: NDArray[np.integer]) -> NDArray[np.float32]:
        """Euclidean, of unit vectors; infinite to an image that cannot be read."""
        a, b = (descriptors[np.searchsorted(images, some)] for some in (first, second))
        return np.nan_to_num(np.sqrt(np.maximum(2 - 2 * a @ b.T, 0)), nan=np.inf)

    positive, reach = np.empty_like(queries), np.empty(len(queries))
    for i, (query, candidates) in enumerate(zip(queries, positives, strict=True)):
        away = distances(query[None], candidates)[0]
        nearest = away.argmin()
        positive[i] = candidates[nearest]
        reach[i] = away[nearest] + options.margin if np.isfinite(away[nearest]) else 0

    away = distances(queries, pool)
    away[source.similarity[queries][:, pool].nonzero()] = np.inf  # NaN, unknown, is not zero either
    away[np.equal.outer(queries, pool)] = np.inf
    away[away >= reach[:, None]] = np.inf
    nearest = np.argsort(away, axis=1)[:, : options.negatives]
    hard = np.where(np.isfinite(np.take_along_axis(away, nearest, axis=1)), pool[nearest], -1)
    negatives = np.full((len(queries), options.negatives), -1)
    negatives[:, : hard.shape[1]] = hard
    return np.column_stack([queries, positive, negatives])
