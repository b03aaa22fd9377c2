"""Exact inner-product search with faiss."""

from __future__ import annotations

import threading

import faiss
import numpy as np

from vpr_ros.map.index.base import ALL, Hit, Keys, Rows, Selection, best
from vpr_ros.types import Descriptor


class FaissIndex:
    """An `Index` that compares the query with every descriptor. Keys may be any, in any order; any number of threads may use it."""

    def __init__(self, dim: int) -> None:
        self._flat = faiss.IndexFlatIP(dim)
        self._index = faiss.IndexIDMap(self._flat)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def keys(self) -> Keys:
        return np.sort(self.order())

    def order(self) -> Keys:
        """The keys in the order in which they were added."""
        with self._lock:
            return self._order()

    def rows(self, start: int, stop: int) -> Rows:
        """The descriptors of `order()[start:stop]`, while nothing is added or removed."""
        return np.asarray(self._flat.reconstruct_n(start, stop - start), np.float32)

    def descriptors(self, keys: Keys) -> tuple[Keys, Rows]:
        with self._lock:
            order = self._order()
            positions = np.flatnonzero(np.isin(order, keys))
            rows = [self._flat.reconstruct(int(position)) for position in positions]
        return order[positions], np.array(rows, np.float32).reshape(len(rows), self._flat.d)

    def add(self, keys: Keys, descriptors: Rows) -> None:
        rows, keys = np.ascontiguousarray(descriptors, np.float32), np.ascontiguousarray(keys, np.int64)
        with self._lock:
            self._index.add_with_ids(rows, keys)

    def remove(self, keys: Keys) -> None:
        with self._lock:
            if self._index.ntotal and len(keys):
                self._index.remove_ids(faiss.IDSelectorBatch(np.ascontiguousarray(keys, np.int64)))

    def search(self, descriptor: Descriptor, k: int, allowed: Selection = ALL) -> list[Hit]:
        parameters = None
        if len(allowed.without):
            excluded = faiss.IDSelectorBatch(allowed.without)
            parameters = faiss.SearchParameters(sel=faiss.IDSelectorNot(excluded))
        with self._lock:
            k = min(k, self._index.ntotal)
            if k <= 0:
                return []
            similarities, keys = self._index.search(descriptor[None], k, params=parameters)
        return best([Hit(int(key), float(s)) for key, s in zip(keys[0], similarities[0], strict=True) if key >= 0], k)

    def _order(self) -> Keys:
        return np.array(faiss.vector_to_array(self._index.id_map), np.int64)

    def wait(self) -> None: ...

    def faults(self) -> list[str]:
        return []

    def close(self) -> None: ...
