"""The messages of a rosbag2 bag, whole or damaged, in sqlite3 or mcap storage.

A whole bag is read with `rosbags`. What it refuses (a recording that was killed, a copy that broke off, a missing
metadata.yaml) is read file by file, and a damaged file record by record up to its last good message.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack
from pathlib import Path

from rosbags.rosbag2 import Reader

from vpr_ros.bags.base import BagFile, Message, Topic, one_line
from vpr_ros.bags.damaged import ScannedMcap, ScannedSqlite, hidden_damage
from vpr_ros.errors import SourceError
from vpr_ros.files import natural_order

BAG_SUFFIXES = frozenset({".db3", ".mcap"})

_END_OF_TIME = 2**63 - 1


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
        refusal = ""
        if not (self.path / "metadata.yaml").exists():
            self._note("metadata.yaml is missing (a recording that was cut off?): the bag's files were read directly")
        elif not any(hidden_damage(path) for path in self._paths()):
            try:
                whole = _Indexed(self.path)
                if not whole.unindexed:
                    return [whole]
                whole.close()
            except Exception as error:
                refusal = f"rosbags cannot open the bag ({one_line(error)}): its files were read one by one"
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

    def _open_file(self, path: Path) -> BagFile:
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
        scanned = ScannedMcap(path) if path.suffix == ".mcap" else ScannedSqlite(path)
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
