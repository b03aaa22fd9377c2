"""Exact inner-product search with faiss."""

from __future__ import annotations

import faiss
import numpy as np
from numpy.typing import NDArray

from vpr_ros.map.index.base import ALL, Hit, Keys, Selection
from vpr_ros.types import Descriptor


class FaissIndex:
    """An `Index` that compares the query with every descriptor."""

    def __init__(self, dim: int) -> None:
        self._index = faiss.IndexIDMap(faiss.IndexFlatIP(dim))

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def add(self, keys: Keys, descriptors: NDArray[np.float32]) -> None:
        self._index.add_with_ids(np.ascontiguousarray(descriptors, np.float32), np.ascontiguousarray(keys, np.int64))

    def remove(self, keys: Keys) -> None:
        self._index.remove_ids(np.ascontiguousarray(keys, np.int64))

    def search(self, descriptor: Descriptor, k: int, allowed: Selection = ALL) -> list[Hit]:
        k = min(k, len(self))
        if k <= 0:
            return []
        parameters = None
        if len(allowed.without):
            excluded = faiss.IDSelectorBatch(allowed.without)
            parameters = faiss.SearchParameters(sel=faiss.IDSelectorNot(excluded))
        similarities, keys = self._index.search(descriptor[None], k, params=parameters)
        return [Hit(int(key), float(s)) for key, s in zip(keys[0], similarities[0], strict=True) if key >= 0]
