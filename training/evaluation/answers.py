"""What a model answers to every query of a protocol, and whether it is right."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.data.protocol import Part, Positives, RetrievalProtocol
from training.evaluation.describers import Describer
from training.evaluation.descriptor_cache import DescriptorCache
from training.evaluation.retrieval import search

DEPTH = 20
"""Answers kept per query: as deep as recall@20 and mAP@20 look."""


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """Of the Q queries of all parts of a protocol, one part after the other, K answers each, best first.

    - `part`, `query` (Q,) int64: which image asks, `protocol.parts[part].queries.paths[query]`;
    - `found` (Q, K) int64: images of that part's database, -1 where there are fewer than K; `similarity` (Q, K) float32,
      NaN there;
    - `right` (Q, K) bool: is it one of the query's positives?
    - `borderline` (Q, K) bool: it counts neither way;
    - `positives` (Q,) int64: how many right answers the database holds;
    - `is_read` (Q,) bool: False where the query's image cannot be read, so that nothing was asked;
    - `inliers` (Q, K) float32: local features that agree, which the answers are then ordered by; NaN where they were not
      counted. None without re-ranking.

    Images that cannot be read, listed in `unreadable`, are neither answers nor positives.
    """

    part: NDArray[np.int64]
    query: NDArray[np.int64]
    found: NDArray[np.int64]
    similarity: NDArray[np.float32]
    right: NDArray[np.bool_]
    borderline: NDArray[np.bool_]
    positives: NDArray[np.int64]
    is_read: NDArray[np.bool_]
    unreadable: tuple[Path, ...]
    inliers: NDArray[np.float32] | None = None

    @property
    def counted(self) -> NDArray[np.bool_]:
        """(Q,) bool: the queries that recall is a share of: they can be read and have a right answer."""
        return self.is_read & (self.positives > 0)

    @property
    def wrong(self) -> NDArray[np.bool_]:
        """(Q,) bool: the first answer, where there is one, counts as an error."""
        return (self.found[:, 0] >= 0) & ~self.right[:, 0] & ~self.borderline[:, 0]

    @property
    def confidence(self) -> NDArray[np.float64]:
        """(Q,) how sure the first answer is: its inliers where they were counted, else its similarity; NaN if none."""
        scores = self.similarity if self.inliers is None else self.inliers
        return scores[:, 0].astype(np.float64)

    def reordered(self, order: NDArray[np.int64], inliers: NDArray[np.float32]) -> Answers:
        """The answers at `order` (Q, K), where each row is a permutation; `inliers` are those of the old order."""
        return dataclasses.replace(
            self,
            found=np.take_along_axis(self.found, order, axis=1),
            similarity=np.take_along_axis(self.similarity, order, axis=1),
            right=np.take_along_axis(self.right, order, axis=1),
            borderline=np.take_along_axis(self.borderline, order, axis=1),
            inliers=np.take_along_axis(inliers, order, axis=1),
        )


def answer(describer: Describer, protocol: RetrievalProtocol, cache: DescriptorCache) -> Answers:
    """Raises SourceError where no image of a set can be read, ModelError where descriptors are not finite."""
    parts = [_answer_part(describer, part, number, cache) for number, part in enumerate(protocol.parts)]
    arrays = [field.name for field in dataclasses.fields(Answers) if field.name not in ("unreadable", "inliers")]
    pooled = {name: np.concatenate([getattr(part, name) for part in parts]) for name in arrays}
    unreadable = dict.fromkeys(path for part in parts for path in part.unreadable)
    return Answers(**pooled, unreadable=tuple(unreadable))


def _answer_part(describer: Describer, part: Part, number: int, cache: DescriptorCache) -> Answers:
    database, queries = _described(describer, part, cache)
    in_database, is_read = (~np.isnan(descriptors[:, 0]) for descriptors in (database, queries))
    kept = np.flatnonzero(in_database)
    stop = None if part.stop is None else np.searchsorted(kept, part.stop)[is_read]
    neighbours = search(database[kept], queries[is_read], DEPTH, stop)
    found = np.full((len(queries), DEPTH), -1, np.int64)
    similarity = np.full((len(queries), DEPTH), np.nan, np.float32)
    found[is_read] = np.where(neighbours.indices < 0, -1, kept[neighbours.indices])
    similarity[is_read] = neighbours.similarities
    is_right = is_among(found, part.positives)
    return Answers(
        part=np.full(len(queries), number, np.int64),
        query=np.arange(len(queries)),
        found=found,
        similarity=similarity,
        right=is_right,
        borderline=np.zeros_like(is_right) if part.borderline is None else is_among(found, part.borderline),
        positives=np.array([in_database[right].sum() for right in part.positives], np.int64),
        is_read=is_read,
        unreadable=tuple(
            images.paths[i]
            for images, readable in ((part.database, in_database), (part.queries, is_read))
            for i in np.flatnonzero(~readable)
        ),
    )


def _described(
    describer: Describer, part: Part, cache: DescriptorCache
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    database = cache.describe(describer, part.database)
    row_of = {path: row for row, path in enumerate(part.database.paths)}
    if row_of.keys() >= set(part.queries.paths):  # a drive that loops over itself
        return database, database[[row_of[path] for path in part.queries.paths]]
    return database, cache.describe(describer, part.queries)


def is_among(found: NDArray[np.int64], positives: Positives) -> NDArray[np.bool_]:
    """(Q, K): whether `found[q, k]` is one of `positives[q]`; never where it is -1."""
    rows = np.repeat(np.arange(len(positives)), [len(right) for right in positives])
    columns = np.concatenate(positives)
    # one number per pair of query and image
    stride = 1 + max(found.max(initial=0), columns.max(initial=0))
    pairs = np.arange(len(found))[:, None] * stride + found
    return np.isin(pairs, rows * stride + columns) & (found >= 0)
