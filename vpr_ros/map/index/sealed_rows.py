"""Descriptors that do not change any more, with codes that find a shortlist of them and an exact comparison of the shortlist."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vpr_ros.map.index.base import Hit, Keys, Rows
from vpr_ros.map.index.codes import Bits, Codes, Positions, is_set
from vpr_ros.map.index.row_file import RowFile
from vpr_ros.types import Descriptor

SHORTLIST = 200
"""Rows that are compared exactly; ten for each hit that is wanted if that is more."""
SEEDS, REACH = 16, 6
"""Of the best so many rows, those so many before and after are compared, too: on a drive the neighbours of a good match are good matches, and
lie beside it in the file. It finds what the lists that were not probed have of a street, and costs a few rows in a row."""
_CHUNK = 8192


@dataclass(eq=False)
class SealedRows:
    """`keys`, `file.rows` and the codes of `index` belong together by position; `alive` has the bits of what was not removed."""

    kind: Codes
    keys: Keys
    file: RowFile
    index: Any
    alive: Bits
    dead: int
    """Bits of `alive` that are 0."""
    trained_for: int
    """Rows there were when the codes were trained."""

    def __len__(self) -> int:
        """With what was removed."""
        return len(self.keys)

    def living(self) -> Positions:
        return _positions_of(self.alive, len(self))

    def descriptors(self, keys: Keys) -> tuple[Keys, Rows]:
        """Those of `keys` that are here and alive, and their rows."""
        positions = self._alive_positions(keys)
        return self.keys[positions], self.file.rows[positions]

    def remove(self, keys: Keys) -> None:
        """Keys that are not here do not matter."""
        positions = self._alive_positions(keys)
        _clear(self.alive, positions)
        self.dead += len(positions)

    def search(self, query: Descriptor, k: int, without: Keys) -> list[Hit]:
        """At most k hits, all that there are if those are fewer, best first."""
        excluded = self._alive_positions(without)
        bits = self.alive
        if len(excluded):
            bits = bits.copy()
            _clear(bits, excluded)
        forbidden = self.dead + len(excluded)
        k = min(k, len(self) - forbidden)
        if k <= 0:
            return []
        size = max(SHORTLIST, 10 * k)
        found = self.kind.shortlist(self.index, query, size, bits if forbidden else None, forbidden)
        if len(found) < k:  # too little of what is allowed lies near the query: only all of it is enough
            found = _positions_of(bits, len(self))
        found = np.sort(found)
        similarities = self._similarities(found, query)
        seeds = found[np.argsort(-similarities, kind="stable")[:SEEDS]]
        near = np.clip(seeds[:, None] + np.arange(-REACH, REACH + 1), 0, len(self) - 1)
        near = _distinct(near.ravel())
        near = near[(found[np.minimum(np.searchsorted(found, near), len(found) - 1)] != near) & is_set(bits, near)]
        found = np.concatenate([found, near])
        similarities = np.concatenate([similarities, self._similarities(near, query)])
        order = np.lexsort((found, -similarities))[:k]
        return [Hit(int(self.keys[found[i]]), float(similarities[i])) for i in order]

    def _alive_positions(self, keys: Keys) -> Positions:
        found = np.searchsorted(self.keys, keys)
        found = np.minimum(found, len(self) - 1)
        found = _distinct(found[self.keys[found] == keys])
        return found[is_set(self.alive, found)]

    def _similarities(self, positions: Positions, query: Descriptor) -> NDArray[np.float32]:
        rows = self.file.rows
        if len(positions) <= _CHUNK:
            return np.asarray(rows[positions] @ query)
        parts = np.array_split(positions, -(-len(positions) // _CHUNK))
        return np.concatenate([rows[some] @ query for some in parts])


def all_alive(count: int) -> Bits:
    return np.packbits(np.ones(count, bool), bitorder="little")


def _distinct(positions: Positions) -> Positions:
    """Ascending; `np.unique` of NumPy 2 hashes them, which takes a hundred times as long as to sort them."""
    positions = np.sort(positions)
    return positions[np.append(True, np.diff(positions) > 0)] if len(positions) else positions


def count_of(bits: Bits, count: int) -> int:
    """How many of the first `count` bits are 1."""
    return int(np.unpackbits(bits, count=count, bitorder="little").sum(dtype=np.int64))


def _positions_of(bits: Bits, count: int) -> Positions:
    return np.flatnonzero(np.unpackbits(bits, count=count, bitorder="little"))


def _clear(bits: Bits, positions: Positions) -> None:
    np.bitwise_and.at(bits, positions >> 3, ~(np.uint8(1) << (positions & 7).astype(np.uint8)))
