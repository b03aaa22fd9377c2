"""Exact inner-product search with faiss."""

from __future__ import annotations

import faiss
import numpy as np

from vpr_ros.map.index.base import ALL, Hit, Keys, Rows, Selection, best
from vpr_ros.types import Descriptor


class FaissIndex:
    """An `Index` that compares the query with every descriptor. Keys may be any, in any order."""

    def __init__(self, dim: int) -> None:
        self._flat = faiss.IndexFlatIP(dim)
        self._index = faiss.IndexIDMap(self._flat)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def keys(self) -> Keys:
        return np.sort(self.order())

    def order(self) -> Keys:
        """The keys in the order in which they were added."""
        return np.array(faiss.vector_to_array(self._index.id_map), np.int64)

    def rows(self, start: int, stop: int) -> Rows:
        """The descriptors of `order()[start:stop]`."""
        return np.asarray(self._flat.reconstruct_n(start, stop - start), np.float32)

    def add(self, keys: Keys, descriptors: Rows) -> None:
        self._index.add_with_ids(np.ascontiguousarray(descriptors, np.float32), np.ascontiguousarray(keys, np.int64))

    def remove(self, keys: Keys) -> None:
        if len(self) and len(keys):
            self._index.remove_ids(faiss.IDSelectorBatch(np.ascontiguousarray(keys, np.int64)))

    def search(self, descriptor: Descriptor, k: int, allowed: Selection = ALL) -> list[Hit]:
        k = min(k, len(self))
        if k <= 0:
            return []
        parameters = None
        if len(allowed.without):
            excluded = faiss.IDSelectorBatch(allowed.without)
            parameters = faiss.SearchParameters(sel=faiss.IDSelectorNot(excluded))
        similarities, keys = self._index.search(descriptor[None], k, params=parameters)
        return best([Hit(int(key), float(s)) for key, s in zip(keys[0], similarities[0], strict=True) if key >= 0], k)

    def wait(self) -> None: ...

    def faults(self) -> list[str]:
        return []

    def close(self) -> None: ...
