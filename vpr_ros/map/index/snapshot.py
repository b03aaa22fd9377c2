"""What a large index keeps beside the map's file, so that it need not be built again. Derived data: it may be deleted at any time.

A folder with
- `sealed.vpri`: `VPRINDX1`, the length of a JSON header (uint32), the header, keys (int64), bits of what is alive, faiss's codes, and the
  CRC-32 of all that (uint32), little-endian. Written to another name and renamed.
- `rows-N.f32`: a `RowFile`, which the header names. It is mapped, never read into memory.
- `lock`: who has locked it writes here.

Anything that does not fit (another token, dimension, kind, version of faiss or of this format, damage of any byte that is read) counts as absent.
"""

from __future__ import annotations

import fcntl
import json
import re
import struct
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import faiss
import numpy as np

from vpr_ros.files import whole_file
from vpr_ros.map.index.codes import Codes
from vpr_ros.map.index.row_file import DamagedError, RowFile
from vpr_ros.map.index.sealed_rows import SealedRows, count_of

_MAGIC = b"VPRINDX1"
_ROWS = re.compile(r"rows-([0-9]{1,18})\.f32", re.ASCII)
_MOST_HEADER_BYTES = 1 << 16


class Snapshot:
    """The folder, for one index at a time."""

    def __init__(self, folder: Path, dim: int, kind: Codes, token: str) -> None:
        """`token` identifies the map."""
        self._folder, self._dim, self._kind, self._token = folder, dim, kind, token
        self._fault = ""
        self._is_tried = folder.exists()
        self._lock = self._locked() if self._is_tried else None
        self.count = 0
        """Rows that the folder has."""

    @property
    def is_writable(self) -> bool:
        """The folder is made when it is needed: a small map has none."""
        if not self._is_tried:
            self._is_tried, self._lock = True, self._locked()
        return self._lock is not None

    def faults(self) -> list[str]:
        return [self._fault] if self._fault else []

    def load(self) -> SealedRows | None:
        """What `save` wrote; None if there is nothing that fits."""
        try:
            sealed = self._read()
        except Exception:  # whatever damaged bytes cause: what is derived can be made again
            return None
        self.count = len(sealed)
        return sealed

    def new_rows(self) -> RowFile:
        """An empty file for rows, which becomes part of the snapshot with the next `save`; in memory where the folder cannot have it.

        Raises OSError where even that cannot be.
        """
        if self.is_writable:
            try:
                taken = [int(match[1]) for path in self._folder.iterdir() if (match := _ROWS.fullmatch(path.name))]
                path = self._folder / f"rows-{max(taken, default=0) + 1}.f32"
                return RowFile.create(path, self._dim, self._salt(path.name))
            except OSError as error:
                self._cannot_write(error)
        return RowFile.in_memory(self._dim)

    def save(self, sealed: SealedRows) -> None:
        """Put it in the place of what was there; what the disk refuses is a fault, and leaves what was there."""
        if not self.is_writable or sealed.file.path is None:
            return
        codes = faiss.serialize_index(sealed.index)
        header = {
            "faiss": faiss.__version__,
            "kind": repr(self._kind),
            "token": self._token,
            "dim": self._dim,
            "count": len(sealed),
            "rows": sealed.file.path.name,
            "trained_for": sealed.trained_for,
            "codes_bytes": len(codes),
        }
        text = json.dumps(header).encode()
        parts: list[Any] = [
            _MAGIC,
            struct.pack("<I", len(text)),
            text,
            sealed.keys.astype("<i8"),
            sealed.alive.copy(),
            codes,
        ]
        try:
            sealed.file.sync()
            with whole_file(self._folder / "sealed.vpri") as file:
                crc = 0
                for part in parts:
                    crc = zlib.crc32(part, crc)
                    file.write(part)
                file.write(struct.pack("<I", crc))
        except OSError as error:
            self._cannot_write(error)
            return
        self.count, self._fault = len(sealed), ""
        for path in self._folder.glob("rows-*.f32"):  # what was made anew, or not finished
            if path != sealed.file.path:
                with suppress(OSError):
                    path.unlink()

    def close(self) -> None:
        if self._lock is not None:
            self._lock.close()

    def _read(self) -> SealedRows:
        data = (self._folder / "sealed.vpri").read_bytes()
        if data[: len(_MAGIC)] != _MAGIC or zlib.crc32(memoryview(data)[:-4]) != struct.unpack("<I", data[-4:])[0]:
            raise DamagedError("not what was written")
        (text_bytes,) = struct.unpack_from("<I", data, len(_MAGIC))
        start = len(_MAGIC) + 4 + min(text_bytes, _MOST_HEADER_BYTES)
        header = json.loads(data[len(_MAGIC) + 4 : start])
        ours = {"faiss": faiss.__version__, "kind": repr(self._kind), "token": self._token, "dim": self._dim}
        if any(header[name] != value for name, value in ours.items()):
            raise DamagedError("another index")
        count = int(header["count"])
        keys = np.frombuffer(data, "<i8", count, start).astype(np.int64)
        alive = np.frombuffer(data, np.uint8, (count + 7) // 8, start + 8 * count).copy()
        codes = np.frombuffer(data, np.uint8, int(header["codes_bytes"]), start + 8 * count + len(alive))
        name = str(header["rows"])
        if not _ROWS.fullmatch(name):
            raise DamagedError("rows elsewhere")
        rows = RowFile.open(self._folder / name, self._dim, self._salt(name), count, self.is_writable)
        index = faiss.deserialize_index(codes)
        if index.ntotal != count or index.d != self._dim:
            raise DamagedError("codes of other rows")
        return SealedRows(
            self._kind, keys, rows, index, alive, count - count_of(alive, count), int(header["trained_for"])
        )

    def _salt(self, name: str) -> int:
        return zlib.crc32(f"{self._token} {self._dim} {name}".encode())

    def _locked(self) -> BinaryIO | None:
        """The open lock file, while which is open nobody else has the folder."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            file = (self._folder / "lock").open("ab")
        except OSError as error:
            self._cannot_write(error)
            return None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            self._fault = f"the index in {self._folder} belongs to another process: what this one builds is not kept"
            return None
        return file

    def _cannot_write(self, error: OSError) -> None:
        self._fault = f"the index in {self._folder} cannot be written ({error.strerror or error}): it works, but is built again at the next start"
