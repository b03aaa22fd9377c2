"""Pairs of images that are near each other, and the sparse matrix of what they share. Never an N x N array."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from scipy.spatial import cKDTree

from training.data.source import POSITIVE
from vpr_ros.errors import SourceError

Pairs = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]
"""Images i < j and psi of each pair; (M,) each."""

_BLOCK = 1 << 20
"""Neighbours found at a time: 24 MB."""


def pairs_within(
    positions: NDArray[np.float64], radius: float
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """All pairs i < j of `positions` (N, D) at most `radius` apart, in blocks (i, j) of bounded size."""
    tree = cKDTree(positions)
    neighbours = np.cumsum(tree.query_ball_point(positions, radius, return_length=True))
    starts = np.flatnonzero(np.diff((neighbours - 1) // _BLOCK, prepend=-1))
    for start, stop in pairwise([*starts.tolist(), len(positions)]):
        block = cKDTree(positions[start:stop])
        near = block.sparse_distance_matrix(tree, radius, output_type="ndarray")
        i, j = near["i"] + start, near["j"]
        yield i[i < j], j[i < j]


def symmetric_matrix(count: int, pairs: Iterable[Pairs]) -> csr_array:
    """(count, count) float32 from blocks of pairs, none of which occurs twice. The diagonal is empty."""
    rows, columns, values = [np.zeros(0, np.int32)], [np.zeros(0, np.int32)], [np.zeros(0, np.float32)]
    for i, j, psi in pairs:
        rows.append(i.astype(np.int32))
        columns.append(j.astype(np.int32))
        values.append(psi.astype(np.float32))
    placed = np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))
    upper = csr_array(placed, shape=(count, count))
    matrix = csr_array(upper + upper.T)
    matrix.sort_indices()
    return matrix


def require(known: ArrayLike, what: str, name: str) -> None:
    """Raises SourceError, with the fix, where `known` (N,) bool is not true of every image of the set `name`."""
    unknown = np.flatnonzero(~np.asarray(known))
    if len(unknown):
        raise SourceError(
            f"{name}: {len(unknown)} of {np.size(known)} images have no {what} (the first is image {unknown[0]}); "
            "leave them out or choose another label rule"
        )


@dataclass(frozen=True, slots=True)
class PairCounts:
    """Pairs of two different images of a set, by psi: positive from 0.5, soft above 0, unrelated 0, unknown NaN."""

    positive: int
    soft: int
    unrelated: int
    unknown: int

    @classmethod
    def of(cls, similarity: csr_array) -> PairCounts:
        """Of psi (N, N) as in `Source`."""
        # every pair is stored twice
        psi, count = similarity.data, similarity.shape[0]
        positive = int(np.count_nonzero(psi >= POSITIVE)) // 2
        unknown = int(np.count_nonzero(np.isnan(psi))) // 2
        related = int(np.count_nonzero(psi > 0)) // 2
        return cls(positive, related - positive, count * (count - 1) // 2 - related - unknown, unknown)

    @property
    def total(self) -> int:
        return self.positive + self.soft + self.unrelated + self.unknown
