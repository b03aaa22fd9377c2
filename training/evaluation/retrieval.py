"""The nearest database images of each query: exact, by inner product, with faiss."""

from __future__ import annotations

from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

_BLOCK = 1024
"""Queries searched at once."""


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """Of Q queries: `indices` (Q, K) int64 of database images, best first, and `similarities` (Q, K) float32.

    Where fewer than K could be found, -1 and NaN.
    """

    indices: NDArray[np.int64]
    similarities: NDArray[np.float32]


def search(
    database: NDArray[np.float32], queries: NDArray[np.float32], k: int, stop: NDArray[np.int64] | None = None
) -> Neighbours:
    """The `k` nearest of (N, D) for each of (Q, D), all of unit length; query i sees `database[:stop[i]]` only."""
    stop = np.full(len(queries), len(database)) if stop is None else stop
    indices = np.full((len(queries), k), -1, np.int64)
    similarities = np.full((len(queries), k), np.nan, np.float32)
    index = faiss.IndexFlatIP(database.shape[1])
    order = np.argsort(stop, kind="stable")
    # the index grows with what the queries may see: every query searches a prefix, and no prefix is copied
    with tqdm(total=len(queries), desc="search", unit="query", disable=None, leave=False) as bar:
        for equal in np.split(order, np.flatnonzero(np.diff(stop[order])) + 1):
            index.add(np.ascontiguousarray(database[index.ntotal : stop[equal[0]]]))
            for rows in np.split(equal, range(_BLOCK, len(equal), _BLOCK)):
                similarities[rows], indices[rows] = index.search(np.ascontiguousarray(queries[rows]), k)
                bar.update(len(rows))
    similarities[indices < 0] = np.nan
    return Neighbours(indices, similarities)
