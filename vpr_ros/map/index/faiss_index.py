"""Exact inner-product search with faiss."""

from __future__ import annotations

import threading
from functools import cache

import faiss
import numpy as np
from numpy.typing import NDArray

from vpr_ros.errors import LibraryError
from vpr_ros.machine import Machine
from vpr_ros.map.index import FAISS
from vpr_ros.map.index.base import ALL, Hit, Keys, Rows, Selection, best
from vpr_ros.printable import on_one_line
from vpr_ros.types import Descriptor


class FaissIndex:
    """An `Index` that compares the query with every descriptor. Keys may be any, in any order; any number of threads may use it."""

    def __init__(self, dim: int) -> None:
        """Raises LibraryError where the installed faiss cannot search a part of an index."""
        if refused := why_refused():
            raise LibraryError(f"{refused}; type: {Machine().pip_install(FAISS)}")
        self._index = faiss.IndexFlatIP(dim)
        self._keys: list[int] = []
        self._positions: dict[int, int] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._keys)

    def keys(self) -> Keys:
        return np.sort(self.order())

    def order(self) -> Keys:
        """The keys in the order in which they were added."""
        return np.array(self._keys, np.int64)

    def rows(self, start: int, stop: int) -> Rows:
        """The descriptors of `order()[start:stop]`, while nothing is added or removed."""
        return np.asarray(self._index.reconstruct_n(start, stop - start), np.float32)

    def descriptors(self, keys: Keys) -> tuple[Keys, Rows]:
        with self._lock:
            positions = sorted(self._positions[key] for key in keys.tolist() if key in self._positions)
            rows = [self._index.reconstruct(position) for position in positions]
            found = [self._keys[position] for position in positions]
        return np.array(found, np.int64), np.array(rows, np.float32).reshape(len(rows), self._index.d)

    def add(self, keys: Keys, descriptors: Rows) -> None:
        with self._lock:
            self._index.add(np.ascontiguousarray(descriptors, np.float32))
            for key in keys.tolist():
                self._positions[key] = len(self._keys)
                self._keys.append(key)

    def remove(self, keys: Keys) -> None:
        with self._lock:
            gone = set(keys.tolist()) & self._positions.keys()
            if gone:  # those behind move up
                self._index.remove_ids(np.array([self._positions[key] for key in gone], np.int64))
                self._keys = [key for key in self._keys if key not in gone]
                self._positions = {key: position for position, key in enumerate(self._keys)}

    def search(self, descriptor: Descriptor, k: int, allowed: Selection = ALL) -> list[Hit]:
        with self._lock:
            k = min(k, len(self))
            if k <= 0:
                return []
            without = [self._positions[key] for key in allowed.without.tolist() if key in self._positions]
            similarities, positions = _search(self._index, descriptor[None], k, without)
            found = zip(positions[0].tolist(), similarities[0].tolist(), strict=True)
            hits = [Hit(self._keys[position], similarity) for position, similarity in found if position >= 0]
        return best(hits, k)

    def wait(self) -> None: ...

    def faults(self) -> list[str]:
        return []

    def close(self) -> None: ...


def _search(
    index: faiss.Index, descriptors: Rows, k: int, without: list[int]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Similarities and positions, (N, k) each; the positions `without` are not found, and -1 fills up."""
    if not without:
        return index.search(descriptors, k)
    excluded = faiss.IDSelectorBatch(np.array(without, np.int64))
    return index.search(descriptors, k, params=faiss.SearchParameters(sel=faiss.IDSelectorNot(excluded)))


@cache
def why_refused() -> str:
    """Why the installed faiss cannot search a part of an index, as 1.7.2 cannot; "" if it can."""
    index = faiss.IndexFlatIP(2)
    index.add(np.eye(2, dtype=np.float32))
    try:
        found = _search(index, np.eye(2, dtype=np.float32)[1:], 2, without=[1])[1]
    except Exception as error:  # no such class, no such argument, or what C++ throws
        reason = on_one_line(f"{type(error).__name__}: {error}")[:200]
        return f"faiss {faiss.__version__} cannot search a part of an index ({reason})"
    is_right = found[0].tolist() == [0, -1]
    return "" if is_right else f"faiss {faiss.__version__} does not search a part of an index"
