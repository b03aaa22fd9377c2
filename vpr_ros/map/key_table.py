"""What every search needs of each keyframe, in arrays: about 50 bytes each, so that a million fit; the rest is read when needed."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from vpr_ros.map.rows import KeyframeRow

COLUMNS = ("key", "session", "id", "camera", "stamp_ns", "moment", "thumbnail_bytes")
"""Those of `KeyframeRow` that are kept."""


class KeyTable:
    """Columns of int64 in ascending order of their key."""

    def __init__(self) -> None:
        self._columns = {name: array("q") for name in COLUMNS}

    def __len__(self) -> int:
        return len(self._columns["key"])

    @property
    def keys(self) -> NDArray[np.int64]:
        """(N,) ascending; a copy."""
        return self.column("key")

    def column(self, name: str) -> NDArray[np.int64]:
        """(N,) in the order of the keys; a copy, which may be made while another thread adds."""
        return np.frombuffer(self._columns[name].tobytes(), np.int64)

    def add(self, row: KeyframeRow) -> None:
        """Raises ValueError for a key that is not above all others."""
        if len(self) and row.key <= self._columns["key"][-1]:
            raise ValueError(f"key {row.key} is not above all others")
        for name, column in self._columns.items():
            column.append(getattr(row, name))

    def set(self, name: str, key: int, value: int) -> None:
        """Another value of a column. Raises KeyError."""
        position = self._position(key)
        if position is None:
            raise KeyError(key)
        self._columns[name][position] = value

    def extend(self, rows: NDArray[np.int64]) -> None:
        """(N, C) of `COLUMNS`, in ascending order of their key."""
        for column, values in zip(self._columns.values(), rows.T, strict=True):
            column.frombytes(np.ascontiguousarray(values).tobytes())

    def remove(self, keys: Collection[int]) -> None:
        """Keys that are not there are none's."""
        stays = ~np.isin(self.keys, np.fromiter(keys, np.int64, len(keys)))
        for name in COLUMNS:
            self._columns[name] = array("q", self.column(name)[stays].tobytes())

    def __contains__(self, key: int) -> bool:
        return self._position(key) is not None

    def get(self, name: str, key: int) -> int:
        """The value of a column. Raises KeyError."""
        return self.values(key, name)[0]

    def values(self, key: int, *names: str) -> list[int]:
        """Those of several columns. Raises KeyError."""
        position = self._position(key)
        if position is None:
            raise KeyError(key)
        return [self._columns[name][position] for name in names]

    def _position(self, key: int) -> int | None:
        keys = self._columns["key"]
        position = bisect_left(keys, key)
        return position if position < len(keys) and keys[position] == key else None
