"""Descriptors in a file that is appended to and read through a memory map.

A record is a row (D float32, little-endian) and a check (uint32): the sum of the row's words, its number and a salt, modulo 2^32.
A row that was torn, zeroed, moved, changed or written for another map does not fit its check.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from vpr_ros.map.index.base import Rows

_STEP = 2654435761
"""By which the checks of equal rows differ from row to row: odd, near 2^32 / golden ratio."""
_BLOCK_BYTES = 1 << 22


class DamagedError(ValueError):
    """Derived data is not what was written."""


class RowFile:
    """`rows` is (count, D), a view of the file; it stays valid when the file grows or is closed."""

    def __init__(self, file: BinaryIO, dim: int, salt: int = 0, count: int = 0, path: Path | None = None) -> None:
        """`count`: rows that the file has. Raises DamagedError where they are not what was appended."""
        self.path = path
        self._file, self._dim, self._salt = file, dim, salt
        self._record_bytes = 4 * (dim + 1)
        self.count = 0
        self.rows: Rows = np.empty((0, dim), np.float32)
        self._verify(count)
        self._map(count)

    @classmethod
    def in_memory(cls, dim: int) -> RowFile:
        """A file that no disk has, where the system has such; a temporary one elsewhere."""
        if hasattr(os, "memfd_create"):
            return cls(os.fdopen(os.memfd_create("vpr_rows"), "w+b", buffering=0), dim)
        return cls(TemporaryFile(buffering=0), dim)

    @classmethod
    def create(cls, path: Path, dim: int, salt: int) -> RowFile:
        """A new and empty file. Raises OSError."""
        return cls(path.open("w+b", buffering=0), dim, salt, path=path)

    @classmethod
    def open(cls, path: Path, dim: int, salt: int, count: int, is_writable: bool) -> RowFile:
        """The first `count` rows of a file; what follows them is overwritten. Raises OSError and DamagedError."""
        file = path.open("r+b" if is_writable else "rb", buffering=0)
        try:
            return cls(file, dim, salt, count, path)
        except BaseException:
            file.close()
            raise

    def append(self, rows: Rows) -> None:
        """Raises OSError, and then the file has what it had."""
        offset = self.count * self._record_bytes
        per_block = max(1, _BLOCK_BYTES // self._record_bytes)
        for start in range(0, len(rows), per_block):
            some = np.ascontiguousarray(rows[start : start + per_block], np.float32)
            records = np.empty((len(some), self._dim + 1), "<u4")
            records[:, :-1] = some.view(np.uint32)
            records[:, -1] = self._checks(records[:, :-1], self.count + start)
            left = records.reshape(-1).view(np.uint8).data
            while left:  # a disk that fills up takes a part first
                written = os.pwrite(self._file.fileno(), left, offset)
                offset, left = offset + written, left[written:]
        self._map(self.count + len(rows))

    def cut(self, count: int) -> None:
        """Forget the rows from the `count`th on; the next ones take their place."""
        self.count = min(self.count, count)

    def sync(self) -> None:
        """Raises OSError."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def _map(self, count: int) -> None:
        self.count = count
        if count:
            # Not by accesses to mapped pages but by `pwrite` the file grows: a full disk is an error then and no SIGBUS.
            mapped = mmap.mmap(self._file.fileno(), count * self._record_bytes, prot=mmap.PROT_READ)
            self.rows = np.frombuffer(mapped, "<f4").reshape(count, self._dim + 1)[:, :-1]

    def _verify(self, count: int) -> None:
        """Reads the file from end to end: through a buffer, so that what was mapped is what was searched."""
        if os.fstat(self._file.fileno()).st_size < count * self._record_bytes:
            raise DamagedError("rows are missing")
        per_block = max(1, _BLOCK_BYTES // self._record_bytes)
        buffer = np.empty((per_block, self._dim + 1), "<u4")
        self._file.seek(0)
        for start in range(0, count, per_block):
            records = buffer[: min(per_block, count - start)]
            left = records.reshape(-1).view(np.uint8).data
            while left:
                if not (got := self._file.readinto(left)):  # type: ignore[attr-defined]
                    raise DamagedError("rows are missing")
                left = left[got:]
            if not np.array_equal(records[:, -1], self._checks(records[:, :-1], start)):
                raise DamagedError("rows are damaged")

    def _checks(self, words: NDArray[np.uint32], first: int) -> NDArray[np.uint32]:
        numbers = np.arange(first, first + len(words), dtype=np.uint64) * np.uint64(_STEP) + np.uint64(self._salt)
        return words.sum(axis=1, dtype=np.uint32) + numbers.astype(np.uint32)
