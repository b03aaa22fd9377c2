"""Bag files that `rosbags` refuses or misreads: read to their last good message."""

from __future__ import annotations

import mmap
import struct
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import apsw

from vpr_ros.bags.base import Message, Topic, one_line
from vpr_ros.bags.compressed import MAX_UNPACKED_BYTES, unpacked
from vpr_ros.errors import SourceError
from vpr_ros.machine import Machine

try:
    import lz4.frame
    import zstandard
    from mcap import records
    from mcap.data_stream import ReadDataStream
    from mcap.exceptions import McapError
    from mcap.opcode import Opcode

    HAS_MCAP = True
except ImportError:  # rosdep has no key for it; whole bags are read without it
    HAS_MCAP = False


def hidden_damage(path: Path) -> str:
    """What is wrong with a .db3 that rosbags would read without a word; empty where nothing is."""
    if path.suffix.lower() != ".db3":
        return ""
    if _has_write_ahead_log(path):
        return "it has an unmerged write-ahead log"
    with path.open("rb") as file:
        head = file.read(_SQLITE_HEADER)
    if len(head) == _SQLITE_HEADER and path.stat().st_size % _sqlite_page_size(head):
        return "its last page is incomplete"
    return ""


class ScannedSqlite:
    """A .db3 that was cut short or not closed: the rows that are still there, in the order they were written."""

    def __init__(self, path: Path) -> None:
        """Raises SourceError where there is no message."""
        self.name = path.name
        try:
            self._database = _open_sqlite(path)
            try:
                self._topics: dict[int, tuple[str, str]] = {
                    key: (name, kind) for key, name, kind in self._database.execute("SELECT id, name, type FROM topics")
                }
                counts = dict.fromkeys(self._topics, 0)
                # NOT INDEXED: an index is written last, so a cut takes it first. length() does not touch the pages of
                # the data itself.
                stamps: list[int] = []
                with suppress(apsw.Error):
                    for key, bag_ns, _ in self._database.execute(
                        "SELECT topic_id, timestamp, length(data) FROM messages NOT INDEXED"
                    ):
                        if key in counts:  # damaged pages can read as rows of nothing
                            counts[key] += 1
                            if not stamps and isinstance(bag_ns, int):
                                stamps.append(bag_ns)
                self.start_ns = stamps[0] if stamps else 0
                if not any(counts.values()):
                    raise apsw.CorruptError("no message is left in it")
            except apsw.Error:
                self._database.close()
                raise
        except apsw.Error as error:
            raise SourceError(
                f"{path}: no message can be read from it ({one_line(error)}); "
                f"try: sqlite3 {path.name} .recover | sqlite3 recovered.db3"
            ) from None
        self.topics = {name: Topic.of(kind, counts[key]) for key, (name, kind) in self._topics.items()}

    def messages(self, topics: Collection[str], start_ns: int, stop_ns: int) -> Iterator[Message]:
        keys = {key: name for key, (name, _) in self._topics.items() if name in topics}
        rows = self._database.execute(
            "SELECT topic_id, timestamp, data FROM messages NOT INDEXED "
            f"WHERE topic_id IN ({','.join('?' * len(keys))}) AND timestamp >= ? AND timestamp < ? "
            "AND typeof(data) = 'blob'",
            (*keys, start_ns, stop_ns),
        )
        with suppress(apsw.Error):  # the cut
            for key, bag_ns, data in rows:
                yield Message(keys[key], bag_ns, data)

    def close(self) -> None:
        self._database.close()


class ScannedMcap:
    """An .mcap without its index, read record by record up to where it breaks off."""

    def __init__(self, path: Path) -> None:
        """Raises SourceError where there is no message."""
        if not HAS_MCAP:
            raise SourceError(f"{path}: to read an .mcap without its index, {Machine().pip_install('mcap')}")
        self.name = path.name
        self._path = path
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise SourceError(f"{path}: is not an mcap file, or not even its first bytes were written")
        self.is_whole = False
        """Whether it has the record that ends the messages: what rosbags refuses may be its index alone."""
        self.broken_chunks = 0
        self.start_ns = 0
        counts: Counter[str] = Counter()
        found: dict[str, _Channel] = {}
        for channel, record in self._scan():
            found[channel.topic] = channel
            if not counts:
                self.start_ns = record.log_time
            counts[channel.topic] += 1
        if not counts:
            raise SourceError(
                f"{path}: no message can be read from it; try: mcap recover {path.name} -o recovered.mcap"
            )
        self.topics = {name: Topic.of(found[name].type, count, found[name].encoding) for name, count in counts.items()}

    def messages(self, topics: Collection[str], start_ns: int, stop_ns: int) -> Iterator[Message]:
        for channel, record in self._scan():
            if channel.topic in topics and start_ns <= record.log_time < stop_ns:
                yield Message(channel.topic, record.log_time, record.data)

    def close(self) -> None:
        """Nothing stays open between passes."""

    def _scan(self) -> Iterator[tuple[_Channel, records.Message]]:
        """Each message with its channel."""
        schemas: dict[int, str] = {}
        channels: dict[int, _Channel] = {}
        self.broken_chunks = 0
        with (
            self._path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
            suppress(McapError, struct.error, UnicodeDecodeError, RecursionError),  # a nonsensical record ends the scan
        ):
            for record in _mcap_records(data, len(_MAGIC)):
                if isinstance(record, records.Schema):
                    schemas[record.id] = record.name
                elif isinstance(record, records.Channel):
                    kind = schemas.get(record.schema_id, "")
                    channels[record.id] = _Channel(record.topic, kind, record.message_encoding)
                elif isinstance(record, records.DataEnd):
                    self.is_whole = True
                elif isinstance(record, records.Chunk):
                    self.broken_chunks += 1
                elif record.channel_id in channels:
                    yield channels[record.channel_id], record


class _Channel(NamedTuple):
    topic: str
    type: str
    encoding: str


_MAGIC = b"\x89MCAP0\r\n"
_FRAME = struct.Struct("<BQ")
"""Kind and size in front of each record (mcap.dev/spec)."""


def _mcap_records(
    data: bytes | mmap.mmap, offset: int = 0
) -> Iterator[records.Schema | records.Channel | records.Message | records.Chunk | records.DataEnd]:
    """The whole records from `offset` on, those in chunks included, to the end of the data; a chunk that is not whole follows
    what could be read of it.
    """
    while offset + _FRAME.size <= len(data):
        kind, size = _FRAME.unpack_from(data, offset)
        offset += _FRAME.size
        content = data[offset : offset + size]
        offset += size
        record = ReadDataStream(BytesIO(content))
        if kind == Opcode.DATA_END:
            if len(content) == size:
                yield records.DataEnd.read(record)
            return
        if kind == Opcode.CHUNK:  # of which the end may be missing
            chunk = records.Chunk.read(record)
            unpacked_records = _unpacked(chunk)
            yield from _mcap_records(unpacked_records)
            if len(unpacked_records) != chunk.uncompressed_size:
                yield chunk
        elif len(content) < size:
            return
        elif kind == Opcode.SCHEMA:
            yield records.Schema.read(record)
        elif kind == Opcode.CHANNEL:
            yield records.Channel.read(record)
        elif kind == Opcode.MESSAGE and size >= _MESSAGE_HEADER:
            yield records.Message.read(record, size)


_MESSAGE_HEADER = 22
"""Channel, sequence, log time, publish time."""


def _unpacked(chunk: records.Chunk) -> bytes:
    """As much as can be unpacked where the chunk is damaged or its end is missing: streaming decompressors hand out what they have."""
    try:
        if chunk.compression == "zstd":
            return unpacked(chunk.data)
        if chunk.compression == "lz4":
            return lz4.frame.LZ4FrameDecompressor().decompress(chunk.data, max_length=MAX_UNPACKED_BYTES)
        return chunk.data
    except (zstandard.ZstdError, RuntimeError):
        return b""


def _has_write_ahead_log(path: Path) -> bool:
    """Whether SQLite's log is still beside the file, for its recorder was killed: it holds messages of its own."""
    log = path.with_name(path.name + "-wal")
    return log.exists() and log.stat().st_size > 0


_SQLITE_HEADER = 100


def _sqlite_page_size(head: bytes) -> int:
    size = int.from_bytes(head[16:18], "big")
    return size if size > 1 else 65536


def _open_sqlite(path: Path) -> apsw.Connection:
    """Read-only. Raises apsw.Error."""
    # `immutable` needs neither a lock nor write permission in the folder, but ignores the write-ahead log.
    ways: list[tuple[str, str | None]] = [("immutable=1", _whole_pages().vfs_name)]
    if _has_write_ahead_log(path):
        ways.insert(0, ("mode=ro", None))
    for mode, vfs in ways:
        uri = f"file:{quote(str(path.absolute()))}?{mode}"
        database = apsw.Connection(uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI, vfs=vfs)
        try:
            # SQLite refuses a file that is shorter than its header says, unless the schema is said to be under repair.
            database.execute("PRAGMA writable_schema=ON")
            database.execute("SELECT id, name, type FROM topics")
        except apsw.Error as error:
            database.close()
            problem = error
        else:
            return database
    raise problem


class _WholePages(apsw.VFS):
    """Hides a last page that was cut in two: SQLite would fill it up with zeros, and an image would end in them."""

    vfs_name = "vpr_ros_whole_pages"

    def __init__(self) -> None:
        super().__init__(self.vfs_name, "")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        return _WholePagesFile("", name, flags)


class _WholePagesFile(apsw.VFSFile):
    def xFileSize(self) -> int:
        size = super().xFileSize()
        if size < _SQLITE_HEADER:
            return size
        return size - size % _sqlite_page_size(super().xRead(_SQLITE_HEADER, 0))


@cache
def _whole_pages() -> _WholePages:
    return _WholePages()  # registers itself with SQLite while it lives
