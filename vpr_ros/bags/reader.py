"""The messages of a rosbag2 bag, whole or damaged, compressed or not, in sqlite3 or mcap storage.

Its files are read one by one: whole ones with `rosbags`, damaged ones record by record up to their last good message.
`metadata.yaml`, which a killed recorder leaves out of date or does not write, tells no more than which files and
how many messages there should be.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from pathlib import Path

from rosbags.rosbag2 import Reader

import vpr_ros.bags.rosbags_bounds  # noqa: F401 (before rosbags opens anything)
from vpr_ros.bags.base import BagFile, Message, Topic, one_line
from vpr_ros.bags.compressed import MAX_UNPACKED_BYTES, UnpackedFiles, has_honest_chunks, is_compressed, message_data
from vpr_ros.bags.damaged import ScannedMcap, ScannedSqlite, hidden_damage
from vpr_ros.bags.metadata import Metadata
from vpr_ros.errors import SourceError
from vpr_ros.files import natural_order

BAG_SUFFIXES = frozenset({".db3", ".mcap"})

_END_OF_TIME = 2**63 - 1


def is_bag_file(path: Path) -> bool:
    """By its name: `x.mcap`, `x.db3`, or one of them compressed (`x.mcap.zstd`). Hidden files (`._x.mcap` of macOS) are none."""
    inner = Path(path.stem) if is_compressed(path) else path
    return inner.suffix.lower() in BAG_SUFFIXES and not path.name.startswith(".")


class Bag:
    """An open bag; a context manager. `topics` by name; `notes`: what was wrong with it.

    Raises `SourceError` where no message can be read, with what to do.
    """

    def __init__(self, path: Path | str, unpacked: UnpackedFiles | None = None) -> None:
        """`unpacked`: where compressed files go, for who opens one bag many times; by default they go when the bag is closed."""
        self.path = Path(path)
        self.notes: list[str] = []
        self._stack = ExitStack()
        self._unpacked = unpacked or UnpackedFiles()
        if unpacked is None:
            self._stack.callback(self._unpacked.close)
        try:
            self._files = self._open()
        except SourceError:
            self._stack.close()
            raise
        except OSError as error:
            self._stack.close()
            raise SourceError(f"{self.path}: {error.strerror or error}") from None
        self.topics: dict[str, Topic] = {}
        for file in self._files:
            self._stack.callback(file.close)
            for name, topic in file.topics.items():
                before = self.topics[name].messages if name in self.topics else 0
                self.topics[name] = topic._replace(messages=topic.messages + before)

    def messages(self, topics: Collection[str], start_ns: int = 0, stop_ns: int = _END_OF_TIME) -> Iterator[Message]:
        """Messages of `topics` received in [start_ns, stop_ns), file by file; a damaged file ends at the damage."""
        for file in self._files:
            try:
                for message in file.messages(topics, start_ns, stop_ns):
                    yield message._replace(data=message_data(message.data))
            except Exception as error:  # rosbags lets out whatever damaged bytes cause: struct.error, apsw.Error, ...
                self._note(f"{file.name} is damaged ({one_line(error)}): read to its last good message")

    def __enter__(self) -> Bag:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _open(self) -> list[BagFile]:
        if not self.path.exists():
            raise SourceError(f"{self.path}: no such file or folder")
        if self.path.is_file():
            return [self._open_file(self.path)]
        if not self.path.is_dir():
            raise SourceError(f"{self.path}: is neither a file nor a folder")
        present = _one_of_each(path for path in self.path.iterdir() if is_bag_file(path) and path.is_file())
        if not present:
            raise SourceError(f"{self.path}: holds no .db3 or .mcap file")
        metadata = self._metadata()
        files: list[BagFile] = []
        for path in self._chosen(present, metadata):
            try:
                files.append(self._open_file(path))
            except SourceError as error:
                self._note(str(error))
                refusal = error
        if not files:
            raise refusal
        if not _are_numbered(present) and not (metadata and metadata.lists(present)):
            files.sort(key=lambda file: file.start_ns)
        self._note_missing(present, metadata, sum(topic.messages for file in files for topic in file.topics.values()))
        return files

    def _metadata(self) -> Metadata | None:
        path = self.path / "metadata.yaml"
        if not path.exists():
            self._note("metadata.yaml is missing (a recording that was cut off?): the bag's files were read directly")
            return None
        try:
            return Metadata.read(path)
        except SourceError as error:
            self._note(f"{error}: the bag's files were read one by one")
            return None

    def _chosen(self, present: list[Path], metadata: Metadata | None) -> list[Path]:
        """The files that are the bag's, in order."""
        if metadata is None or metadata.missing(present):  # files may have been renamed
            return present
        listed = metadata.ordered(present)
        stems = {_split(path)[0] for path in listed}
        later = [path for path in present if path not in listed and _split(path)[0] in stems]
        if later:
            self._note(f"not in metadata.yaml, but read: {', '.join(path.name for path in later)}")
        if others := [path.name for path in present if path not in listed and path not in later]:
            self._note(f"not in metadata.yaml, and not read: {', '.join(others)}")
        return listed + later

    def _note_missing(self, present: list[Path], metadata: Metadata | None, found: int) -> None:
        if metadata is not None and metadata.messages is not None:
            if found >= metadata.messages:
                return
            self._note(f"metadata.yaml announces {metadata.messages} messages, of which {found} can be read")
        if metadata is not None:
            missing = metadata.missing(present)
        else:
            numbers = {number for path in present if (number := _split(path)[1]) is not None}
            stem = _split(present[0])[0]
            missing = [f"{stem}_{n}" for n in range(max(numbers, default=0)) if n not in numbers]
            if not _are_numbered(present):
                missing = []
        if missing:
            listed = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
            self._note(f"files of this bag are missing, with all their messages: {listed}")

    def _open_file(self, path: Path) -> BagFile:
        if not is_compressed(path):
            return self._open_plain(path)
        plain, problem = self._unpacked.of(path)
        if problem:
            self._note(f"{path.name}: {problem}: unpacked as far as it goes")
        try:
            return self._open_plain(plain)
        except SourceError as error:
            raise SourceError(str(error).replace(str(plain), str(path), 1)) from None

    def _open_plain(self, path: Path) -> BagFile:
        problem = hidden_damage(path)
        if not problem:
            try:
                whole = _Indexed(path)
                if not whole.unindexed:
                    return whole
                whole.close()
                return ScannedMcap(path)
            except Exception as error:
                problem = one_line(error)
        if path.suffix.lower() != ".mcap":
            self._note(f"{path.name} is truncated or unfinished ({problem}): read to its last good message")
            return ScannedSqlite(path)
        scanned = ScannedMcap(path)
        if not scanned.is_whole:
            self._note(f"{path.name} is truncated or unfinished ({problem}): read to its last good message")
        elif scanned.broken_chunks:
            self._note(
                f"{path.name}: {scanned.broken_chunks} chunks are damaged, or larger than {MAX_UNPACKED_BYTES >> 20} MiB unpacked; "
                "the others were read"
            )
        return scanned

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def _one_of_each(paths: Iterator[Path]) -> list[Path]:
    """In natural order. A recorder that is killed while it compresses a file leaves it both ways, and only the plain one is whole."""
    found = sorted(paths, key=natural_order)
    names = {path.name for path in found}
    return [path for path in found if not (is_compressed(path) and path.stem in names)]


def _split(path: Path) -> tuple[str, int | None]:
    """What the recorder's files of one bag share, and their number: `drive_12.mcap.zstd` is ("drive", 12)."""
    stem = Path(path.stem).stem if is_compressed(path) else path.stem
    numbered = re.fullmatch(r"(.*)_([0-9]{1,9})", stem, re.DOTALL)
    return (numbered[1], int(numbered[2])) if numbered else (stem, None)


def _are_numbered(paths: list[Path]) -> bool:
    """Whether they are splits of one recording, so that their names give the order."""
    stems = {_split(path)[0] for path in paths}
    return len(stems) == 1 and all(_split(path)[1] is not None for path in paths)


class _Indexed:
    """A whole file, through rosbags."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._reader = Reader(path)
        self._reader.open()
        topics: dict[str, Topic] = {}
        for one in self._reader.connections:
            known = topics.get(one.topic)
            encoding = getattr(one.ext, "serialization_format", "cdr")
            topics[one.topic] = Topic.of(one.msgtype, one.msgcount + (known.messages if known else 0), encoding)
        self.topics = topics
        self.start_ns = self._reader.start_time
        chunks = getattr(self._reader.storage, "chunks", None)
        # rosbags gives up on an mcap without chunks (ros2's `fastwrite`) at the first message out of order, and unpacks
        # chunks to whatever size they turn out to have.
        self.unindexed = chunks is not None and bool(self._reader.message_count) and not has_honest_chunks(path, chunks)

    def messages(self, topics: Collection[str], start_ns: int, stop_ns: int) -> Iterator[Message]:
        connections = [connection for connection in self._reader.connections if connection.topic in topics]
        if connections:  # to rosbags, none means all
            for connection, bag_ns, data in self._reader.messages(connections, start_ns, stop_ns):
                yield Message(connection.topic, bag_ns, data)

    def close(self) -> None:
        self._reader.close()
