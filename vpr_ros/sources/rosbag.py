"""The messages of a rosbag2 bag, whole or damaged, in sqlite3 or mcap storage.

A whole bag is read with `rosbags`. What it refuses (a recording that was killed, a copy that broke off, a missing
metadata.yaml) is read file by file, and a damaged file record by record up to its last good message.
"""

from __future__ import annotations

import mmap
import struct
import sys
from collections.abc import Collection, Iterator
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple, Protocol
from urllib.parse import quote

import apsw
import lz4.frame
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from vpr_ros.errors import SourceError
from vpr_ros.sources.base import natural_order

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

BAG_SUFFIXES = frozenset({".db3", ".mcap"})

_END_OF_TIME = 2**63 - 1


@cache
def typestore() -> Typestore:
    """The standard message types. Those read and written here have not changed since ROS 2 Foxy."""
    return get_typestore(Stores.LATEST)


class Topic(NamedTuple):
    """A topic of a bag: its message type (`sensor_msgs/msg/Image`) and how many messages it has."""

    type: str
    messages: int


class Message(NamedTuple):
    """A message as recorded: `data` is CDR; `bag_ns` is when the recorder received it, not its header's stamp."""

    topic: str
    bag_ns: int
    data: bytes


class _BagFile(Protocol):
    """One file of a bag (or all of them, where rosbags reads them as one)."""

    name: str
    topics: dict[str, Topic]

    def messages(self, topics: Collection[str], start_ns: int, stop_ns: int) -> Iterator[Message]: ...

    def close(self) -> None: ...


class Bag:
    """An open bag; a context manager. `topics` by name; `notes`: what was wrong with it.

    Raises `SourceError` where no message can be read, with what to do.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.notes: list[str] = []
        self._stack = ExitStack()
        try:
            self._files = self._open()
        except OSError as error:
            raise SourceError(f"{self.path}: {error.strerror or error}") from None
        self.topics: dict[str, Topic] = {}
        for file in self._files:
            self._stack.callback(file.close)
            for name, (kind, count) in file.topics.items():
                self.topics[name] = Topic(kind, count + (self.topics[name].messages if name in self.topics else 0))

    def messages(self, topics: Collection[str], start_ns: int = 0, stop_ns: int = _END_OF_TIME) -> Iterator[Message]:
        """Messages of `topics` received in [start_ns, stop_ns), file by file; a damaged file ends at the damage."""
        for file in self._files:
            try:
                yield from file.messages(topics, start_ns, stop_ns)
            except Exception as error:  # rosbags lets out whatever damaged bytes cause: struct.error, apsw.Error, ...
                self._note(f"{file.name} is damaged ({_one_line(error)}): read to its last good message")

    def __enter__(self) -> Bag:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _open(self) -> list[_BagFile]:
        if not self.path.exists():
            raise SourceError(f"{self.path}: no such file or folder")
        if self.path.is_file():
            return [self._open_file(self.path)]
        refusal = ""
        if not (self.path / "metadata.yaml").exists():
            self._note("metadata.yaml is missing (a recording that was cut off?): the bag's files were read directly")
        elif not any(_hidden_damage(path) for path in self._paths()):
            try:
                whole = _Indexed(self.path)
                if not whole.unindexed:
                    return [whole]
                whole.close()
            except Exception as error:
                refusal = f"rosbags cannot open the bag ({_one_line(error)}): its files were read one by one"
        files = []
        for path in self._paths():
            try:
                files.append(self._open_file(path))
            except SourceError as error:
                self._note(str(error))
        if not files:
            raise SourceError(self.notes[-1] if self._paths() else f"{self.path}: holds no .db3 or .mcap file")
        if refusal and not self.notes:  # no single file was to blame
            self._note(refusal)
        return files

    def _open_file(self, path: Path) -> _BagFile:
        problem = _hidden_damage(path)
        if not problem:
            try:
                whole = _Indexed(path)
                if not whole.unindexed:
                    return whole
                whole.close()
                return _ScannedMcap(path)
            except Exception as error:
                problem = _one_line(error)
        scanned = _ScannedMcap(path) if path.suffix == ".mcap" else _ScannedSqlite(path)
        self._note(f"{path.name} is truncated or unfinished ({problem}): read to its last good message")
        return scanned

    def _paths(self) -> list[Path]:
        return sorted((path for path in self.path.iterdir() if path.suffix in BAG_SUFFIXES), key=natural_order)

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


class _Indexed:
    """A whole bag, or one whole file of it, through rosbags."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._reader = Reader(path)
        self._reader.open()
        self.topics = {name: Topic(topic.msgtype or "", topic.msgcount) for name, topic in self._reader.topics.items()}
        storages = getattr(self._reader.storage, "storages", [self._reader.storage])
        # rosbags gives up on an mcap without chunks (ros2's `fastwrite`) at the first message out of order.
        self.unindexed = any(not getattr(each, "chunks", True) and each.metadata.message_count for each in storages)

    def messages(self, topics: Collection[str], start_ns: int, stop_ns: int) -> Iterator[Message]:
        connections = [connection for connection in self._reader.connections if connection.topic in topics]
        if connections:  # to rosbags, none means all
            for connection, bag_ns, data in self._reader.messages(connections, start_ns, stop_ns):
                yield Message(connection.topic, bag_ns, data)

    def close(self) -> None:
        self._reader.close()


class _ScannedSqlite:
    """A .db3 that was cut short or not closed: the rows that are still there, in the order they were written."""

    def __init__(self, path: Path) -> None:
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
                with suppress(apsw.Error):
                    for key, _ in self._database.execute("SELECT topic_id, length(data) FROM messages NOT INDEXED"):
                        if key in counts:  # damaged pages can read as rows of nothing
                            counts[key] += 1
                if not any(counts.values()):
                    raise apsw.CorruptError("no message is left in it")
            except apsw.Error:
                self._database.close()
                raise
        except apsw.Error as error:
            raise SourceError(
                f"{path}: no message can be read from it ({_one_line(error)}); "
                f"try: sqlite3 {path.name} .recover | sqlite3 recovered.db3"
            ) from None
        self.topics = {name: Topic(kind, counts[key]) for key, (name, kind) in self._topics.items()}

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


class _ScannedMcap:
    """An .mcap without its index, read record by record (mcap.dev/spec) up to where it breaks off."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._path = path
        with path.open("rb") as file:
            if file.read(len(_MCAP_MAGIC)) != _MCAP_MAGIC:
                raise SourceError(f"{path}: is not an mcap file, or not even its first bytes were written")
        counts: dict[str, int] = {}
        kinds: dict[str, str] = {}
        for channel, _ in self._scan():
            kinds[channel.topic] = channel.type
            counts[channel.topic] = counts.get(channel.topic, 0) + 1
        if not counts:
            raise SourceError(
                f"{path}: no message can be read from it; try: mcap recover {path.name} -o recovered.mcap"
            )
        self.topics = {name: Topic(kinds[name], count) for name, count in counts.items()}

    def messages(self, topics: Collection[str], start_ns: int, stop_ns: int) -> Iterator[Message]:
        for channel, record in self._scan():
            if channel.topic in topics:
                (bag_ns,) = struct.unpack_from("<Q", record, 6)
                if start_ns <= bag_ns < stop_ns:
                    yield Message(channel.topic, bag_ns, record[_MCAP_MESSAGE_HEADER:])

    def close(self) -> None:
        """Nothing stays open between passes."""

    def _scan(self) -> Iterator[tuple[_Channel, bytes]]:
        """Each message record and the channel it belongs to."""
        schemas: dict[int, str] = {}
        channels: dict[int, _Channel] = {}
        with (
            self._path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
            suppress(struct.error, UnicodeDecodeError, RecursionError),  # a record that is nonsense ends the scan
        ):
            for kind, record in _mcap_records(data, len(_MCAP_MAGIC)):
                if kind == _MCAP_SCHEMA:
                    (key,) = struct.unpack_from("<H", record)
                    schemas[key] = _mcap_string(record, 2)[0]
                elif kind == _MCAP_CHANNEL:
                    key, schema = struct.unpack_from("<HH", record)
                    channels[key] = _Channel(_mcap_string(record, 4)[0], schemas.get(schema, ""))
                elif kind == _MCAP_MESSAGE and len(record) >= _MCAP_MESSAGE_HEADER:
                    (key,) = struct.unpack_from("<H", record)
                    if key in channels:
                        yield channels[key], record


class _Channel(NamedTuple):
    topic: str
    type: str


_MCAP_MAGIC = b"\x89MCAP0\r\n"
_MCAP_SCHEMA, _MCAP_CHANNEL, _MCAP_MESSAGE, _MCAP_CHUNK, _MCAP_DATA_END = 0x03, 0x04, 0x05, 0x06, 0x0F
_MCAP_MESSAGE_HEADER = 22  # channel, sequence, log time, publish time


def _mcap_records(data: bytes | mmap.mmap, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """Kind and content of each whole record from `offset` on, those in chunks included, to the end of the data."""
    while offset + 9 <= len(data):
        kind, size = struct.unpack_from("<BQ", data, offset)
        offset += 9
        record = data[offset : offset + size]
        offset += size
        if kind == _MCAP_DATA_END:
            return
        if kind == _MCAP_CHUNK:  # of which the end may be missing
            yield from _mcap_records(_mcap_chunk(record))
        elif len(record) == size:
            yield kind, record


def _mcap_chunk(record: bytes) -> bytes:
    """The records in a chunk; as many as can be unpacked where it is damaged or its end is missing."""
    try:
        compression, offset = _mcap_string(record, 28)
        packed = record[offset + 8 :]
        # Streaming decompressors hand out what they have where the rest is missing.
        if compression == "zstd":
            return zstd.ZstdDecompressor().decompress(packed)
        if compression == "lz4":
            return lz4.frame.LZ4FrameDecompressor().decompress(packed)
        return packed
    except (struct.error, UnicodeDecodeError, zstd.ZstdError, RuntimeError):
        return b""


def _mcap_string(record: bytes, offset: int) -> tuple[str, int]:
    """A length-prefixed string and the offset after it."""
    (size,) = struct.unpack_from("<I", record, offset)
    end = offset + 4 + size
    return record[offset + 4 : end].decode(), end


def _hidden_damage(path: Path) -> str:
    """What is wrong with a .db3 that rosbags would read without a word; empty where nothing is."""
    if path.suffix != ".db3":
        return ""
    if _has_write_ahead_log(path):
        return "it has an unmerged write-ahead log"
    with path.open("rb") as file:
        head = file.read(_SQLITE_HEADER)
    if len(head) == _SQLITE_HEADER and path.stat().st_size % _sqlite_page_size(head):
        return "its last page is incomplete"
    return ""


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


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
