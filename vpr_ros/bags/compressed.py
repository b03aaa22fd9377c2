"""zstd as rosbag2 writes it: whole files (`x_0.mcap.zstd`), or each message by itself. No more comes out than is allowed."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from vpr_ros.errors import SourceError
from vpr_ros.machine import Machine

try:
    import zstandard

    HAS_ZSTD = True
except ImportError:  # comes with mcap, for which rosdep has no key
    HAS_ZSTD = False

COMPRESSED_SUFFIXES = frozenset({".zstd", ".zst"})

MAX_UNPACKED_BYTES = 1 << 29
"""Of a message or a chunk: an image of 134 megapixels with 4 bytes each. A kilobyte of zstd can hold 30 MB of zeros."""

_MAGIC = b"\x28\xb5\x2f\xfd"
_PIECE = 1 << 16
_FRAME_HEADER = 18
"""Bytes of zstd's frame header, at most."""
_FREE_SHARE = 0.9
"""Of the free disk, which unpacked files may take."""


def is_compressed(path: Path) -> bool:
    return path.suffix.lower() in COMPRESSED_SUFFIXES


def unpacked(data: bytes) -> bytes:
    """What zstd data holds, as far as it is whole. Empty where it would be more than `MAX_UNPACKED_BYTES`.

    Raises zstandard.ZstdError.
    """
    if zstandard.frame_content_size(data) > MAX_UNPACKED_BYTES:
        return b""
    found = unpacked_to(data, MAX_UNPACKED_BYTES + 1)
    return found if len(found) <= MAX_UNPACKED_BYTES else b""


def unpacked_to(data: bytes, size: int) -> bytes:
    """The first `size` bytes of what zstd data holds. Raises zstandard.ZstdError for damage before them."""
    found = bytearray()
    for piece in _pieces(data):
        found += piece
        if len(found) >= size:
            break
    return bytes(found[:size])


def message_data(data: bytes) -> bytes:
    """The CDR of a message, which begins with 0: a recorder with message compression left zstd's magic number there.

    What cannot be unpacked comes back as it is, and will not decode.
    """
    if not data.startswith(_MAGIC) or not HAS_ZSTD:
        return data
    try:
        return unpacked(data) or data
    except zstandard.ZstdError:
        return data


def has_honest_chunks(path: Path, chunks: Sequence[Any]) -> bool:
    """Whether an mcap has chunks (rosbags' `ChunkInfo`), all of which announce, and in zstd's own header have, a size that is allowed."""
    if not chunks or any(chunk.uncompressed_size > MAX_UNPACKED_BYTES for chunk in chunks):
        return False
    with path.open("rb") as file:
        for chunk in chunks:
            if chunk.compression == "zstd" and HAS_ZSTD:
                # A record's kind and size, times, size, checksum, the compression's name, and the size of what follows.
                file.seek(chunk.chunk_start_offset + 9 + 28 + 4 + len(chunk.compression) + 8)
                if zstandard.frame_content_size(file.read(_FRAME_HEADER)) != chunk.uncompressed_size:
                    return False
    return True


class UnpackedFiles:
    """What compressed files hold, in a temporary folder that lasts as long as this object; each is unpacked once."""

    def __init__(self) -> None:
        self._folder: TemporaryDirectory[str] | None = None
        self._found: dict[Path, tuple[Path, str]] = {}

    def of(self, path: Path) -> tuple[Path, str]:
        """A file with what `path` holds, and what was wrong; empty where nothing was.

        A file that breaks off is unpacked as far as it goes. Raises SourceError where nothing comes out, or the disk is too
        small.
        """
        if path not in self._found:
            self._folder = self._folder or TemporaryDirectory(prefix="vpr_bag_")
            self._found[path] = _unpack_file(path, Path(self._folder.name))
        return self._found[path]

    def close(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()
        self._folder, self._found = None, {}


def _unpack_file(path: Path, folder: Path) -> tuple[Path, str]:
    if not HAS_ZSTD:
        raise SourceError(f"{path}: to read a compressed file, {Machine().pip_install('mcap')}")
    target = folder / path.stem
    room = int(shutil.disk_usage(folder).free * _FREE_SHARE)
    written, problem = 0, ""
    with path.open("rb") as packed, target.open("wb") as file:
        try:
            for piece in _pieces(packed):
                written += len(piece)
                if written > room:
                    raise SourceError(
                        f"{path}: unpacked it does not fit into {folder.parent}, of which {room >> 20} MiB may be used; "
                        f"set TMPDIR to a larger disk, or unpack it: zstd -d {shlex.quote(str(path))}"
                    )
                file.write(piece)
        except zstandard.ZstdError as error:
            problem = f"its compression is damaged ({error})"
        except SourceError:
            target.unlink()
            raise
    if not written:
        raise SourceError(f"{path}: nothing can be unpacked from it{f': {problem}' if problem else ''}")
    return target, problem


def _pieces(packed: bytes | BinaryIO) -> Iterator[bytes]:
    """Raises zstandard.ZstdError at damage, after what is before it."""
    with zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True, closefd=False) as reader:
        while piece := reader.read(_PIECE):
            yield piece
