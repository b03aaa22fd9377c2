"""Ways to find a shortlist without reading every descriptor: short codes of all of them, in faiss.

A code answers roughly which rows are most similar; `SealedRows` compares those exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import faiss
import numpy as np
from numpy.typing import NDArray

from vpr_ros.map.index.base import Rows
from vpr_ros.types import Descriptor

Positions = NDArray[np.int64]
"""Row numbers, from 0."""
Bits = NDArray[np.uint8]
"""Which positions a search may return: bit p & 7 of byte p >> 3."""


class Stopped(Exception):
    """The index is being closed."""


class Codes(Protocol):
    """A kind of codes; the object made by `train` holds them, row after row."""

    @property
    def kind(self) -> str: ...

    def sample_size(self, count: int) -> int:
        """How many of `count` rows `train` wants to see."""

    def train(self, sample: Rows, count: int, check: Callable[[], None]) -> Any:
        """An empty faiss index for about `count` rows. Calls `check` every few seconds, which may raise."""

    def shortlist(self, index: Any, query: Descriptor, size: int, bits: Bits | None, excluded: int) -> Positions:
        """About `size` positions that `bits` allow, all of them if None; `excluded` of the index's are not."""


@dataclass(frozen=True)
class IvfPq:
    """Inverted lists (k-means) of product-quantised codes: 4 bits for two numbers, 64 bytes for a descriptor of 256 and more.

    Descriptors are first turned into the subspace of `most_dims` dimensions that holds most of them, and there at random, so that
    no two numbers matter more than others. (OPQ would fit the rotation; on whitened descriptors it gains nothing that is worth minutes.)
    The subspace is that of the second moments and not of the covariance: inner products are not invariant to a shift.
    """

    most_dims: int = 256
    lists_per_root: float = 4.0
    """Lists, per square root of the number of rows."""
    probed: float = 0.1
    """Share of the lists that a query reads: recall against time, docs/place_index.md."""
    rounds: int = 8
    """Of k-means."""

    @property
    def kind(self) -> str:
        return "ivfpq"

    def lists(self, count: int) -> int:
        return max(1, min(count // 16, round(self.lists_per_root * count**0.5)))

    def sample_size(self, count: int) -> int:
        return min(count, max(16384, 25 * self.lists(count)))

    def train(self, sample: Rows, count: int, check: Callable[[], None]) -> Any:
        dim = sample.shape[1]
        transform = faiss.LinearTransform(dim, min(dim, self.most_dims), False)
        faiss.copy_array_to_vector(_principal(sample, transform.d_out).ravel(), transform.A)
        transform.is_trained = True
        reduced = transform.apply(sample)
        lists = min(self.lists(count), len(sample))
        quantizer = faiss.IndexFlatIP(transform.d_out)
        clustering = faiss.Clustering(transform.d_out, lists)
        clustering.niter, clustering.spherical, clustering.seed = 1, True, 1
        clustering.min_points_per_centroid, clustering.max_points_per_centroid = 1, len(sample)
        for _ in range(self.rounds):  # each from where the last one ended
            check()
            clustering.train(reduced, quantizer)
        pairs = transform.d_out // 2 if transform.d_out % 2 == 0 else transform.d_out
        ivf = faiss.IndexIVFPQFastScan(quantizer, transform.d_out, lists, pairs, 4, faiss.METRIC_INNER_PRODUCT)
        ivf.pq.cp.min_points_per_centroid = 1
        check()
        ivf.train(reduced)
        index = faiss.IndexPreTransform(transform, ivf)
        for owned in (index, ivf):  # not by Python, so that they live as long as the index does
            owned.own_fields = True
        for given in (transform, ivf, quantizer):
            given.this.disown()
        return index

    def shortlist(self, index: Any, query: Descriptor, size: int, bits: Bits | None, excluded: int) -> Positions:
        ivf = faiss.extract_index_ivf(index)
        selector = None if bits is None else faiss.IDSelectorBitmap(bits)
        share = min(
            1.0, self.probed * index.ntotal / max(index.ntotal - excluded, 1)
        )  # as many rows that count as ever
        probes = faiss.SearchParametersIVF(nprobe=max(1, round(share * ivf.nlist)), sel=selector)
        parameters = faiss.SearchParametersPreTransform(index_params=probes)
        wanted = size
        while True:
            with _one_thread():
                found = index.search(query[None], wanted, params=parameters)[1][0]
            found = found[found >= 0]
            kept = found if bits is None else found[is_set(bits, found)]
            if len(kept) >= size or len(found) < wanted:
                return np.asarray(kept[:size])
            wanted *= 4  # faiss 1.8 does not look at the selector


@dataclass(frozen=True)
class Hnsw:
    """A graph of neighbours (hierarchical navigable small world) over codes of 8 bits a number: 790 bytes for 512 numbers."""

    links: int = 32
    width: int = 80
    """Candidates kept while a row is linked."""
    searched: int = 200
    """Candidates kept while a query walks."""

    @property
    def kind(self) -> str:
        return "hnsw"

    def sample_size(self, count: int) -> int:
        return min(count, 16384)

    def train(self, sample: Rows, count: int, check: Callable[[], None]) -> Any:
        index = faiss.IndexHNSWSQ(
            sample.shape[1], faiss.ScalarQuantizer.QT_8bit, self.links, faiss.METRIC_INNER_PRODUCT
        )
        index.hnsw.efConstruction = self.width
        index.train(sample)
        return index

    def shortlist(self, index: Any, query: Descriptor, size: int, bits: Bits | None, excluded: int) -> Positions:
        selector = None if bits is None else faiss.IDSelectorBitmap(bits)
        # What is excluded is walked through, too: as many more candidates are kept, or the excluded ones fill them all.
        width = max(self.searched, size) + excluded
        parameters = faiss.SearchParametersHNSW(efSearch=min(width, index.ntotal), sel=selector)
        with _one_thread():
            found = index.search(query[None], min(size, index.ntotal), params=parameters)[1][0]
        return np.asarray(found[found >= 0])


def is_set(bits: Bits, positions: Positions) -> NDArray[np.bool_]:
    return (bits[positions >> 3] >> (positions & 7).astype(np.uint8) & 1).astype(bool)


@contextmanager
def _one_thread() -> Iterator[None]:
    """faiss's calls in the block use this thread alone: for one query, waiting for others costs more than they do."""
    before = faiss.omp_get_max_threads()  # a setting of the calling thread, as all of OpenMP's
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _principal(sample: Rows, dim: int) -> NDArray[np.float32]:
    """(dim, D) an orthonormal basis, turned at random, of the subspace that holds most of the sample."""
    moments = sample.astype(np.float64).T @ sample
    basis = np.linalg.eigh(moments)[1][:, ::-1][:, :dim]
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((dim, dim)))[0]
    return np.ascontiguousarray((basis @ turn).T, np.float32)
