"""A map file, or the same tables in memory: rows in, rows out. The only truth about a map; what searches need is derived from it."""

from __future__ import annotations

import secrets
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from vpr_ros.errors import MapError
from vpr_ros.map import schema
from vpr_ros.map.key_table import COLUMNS
from vpr_ros.map.map_file import connect, connect_to_read, new_database, uri_of
from vpr_ros.map.rows import (
    TABLE_OF,
    CameraRow,
    Change,
    DescriptorRow,
    KeyframeRow,
    LinkRow,
    ReleasedRow,
    Removal,
    SessionRow,
    ThumbnailRow,
    Update,
    checked,
    keyframe_of,
    pose_of,
)
from vpr_ros.types import Keyframe, Pose

CHUNK = 4096
BACKUP_PAGES = 512
"""At a time, so that whoever needs the connection waits for milliseconds."""
LARGEST_NUMBER = 2**62
"""Of a keyframe, session, camera, moment or stamp in a file; SQLite has integers of 64 bits, and a map that grows counts on."""
SYNCHRONOUS = {"power": "FULL", "process": "NORMAL"}
"""By `map.durability`: SQLite's pragma. In WAL mode NORMAL waits for the disk at checkpoints alone; the file is whole either way."""
R = TypeVar("R", SessionRow, CameraRow, KeyframeRow, DescriptorRow, ThumbnailRow, LinkRow, ReleasedRow)


class Store:
    """The tables of one map. Any thread may use it.

    A file is written by one connection and read by another, which never waits for the disk that the first one waits for.
    """

    def __init__(self, path: Path | None = None, *, writable: bool = True, durability: str = "power") -> None:
        """Opens a map file that exists; without a path empty tables in memory. Raises MapError."""
        self.path = path
        self._lock = threading.RLock()
        self._write_lock = self._lock if path is None else threading.RLock()
        with self._errors():
            if path is None:
                self._reader = self._writer = connect(":memory:")
                schema.create(self._writer)
                self.set_facts({"map_id": secrets.token_hex(16)})
                return
            self._writer = _connect_to_write(path, durability) if writable else connect_to_read(path)
            _check_schema(self._writer, path)
            self._reader = connect_to_read(path) if writable else self._writer

    def close(self) -> None:
        with self._write_lock, self._lock, suppress(sqlite3.Error):
            if self._reader is not self._writer:
                self._reader.close()
            self._writer.close()  # the last one folds the write-ahead log into the file

    @contextmanager
    def _errors(self) -> Iterator[None]:
        where = "the map in memory" if self.path is None else str(self.path)
        try:
            yield
        except sqlite3.OperationalError as error:  # full, read-only, locked
            raise MapError(f"{where}: {error}") from error
        except (sqlite3.Error, sqlite3.Warning, ValueError, TypeError, OverflowError) as error:
            advice = "" if self.path is None else f"; `vpr map check {where} --repair NEW` saves what is whole"
            raise MapError(f"{where} is corrupt: {error}{advice}") from error

    # --- facts ------------------------------------------------------------------------------------------------------

    def facts(self) -> dict[str, str]:
        """Of the map as a whole: `map_id`, `model_id`, `dim`, ..."""
        with self._errors(), self._lock:
            return dict(self._reader.execute("SELECT name, value FROM map"))

    def set_facts(self, facts: dict[str, str]) -> None:
        with self._errors(), self._write_lock, _transaction(self._writer) as cursor:
            cursor.executemany("INSERT OR REPLACE INTO map VALUES (?, ?)", facts.items())

    def highest_key(self) -> int:
        """That was ever given to a keyframe, 0 if none was."""
        with self._errors(), self._lock:
            row = self._reader.execute("SELECT seq FROM sqlite_sequence WHERE name = 'keyframe'").fetchone()
            return 0 if row is None else _with_room(int(row[0]))

    def highest_ids(self) -> dict[int, int]:
        """Of the keyframes of each session that has any."""
        with self._errors(), self._lock:
            return dict(self._reader.execute("SELECT session, max(id) FROM keyframe GROUP BY session"))

    # --- rows -------------------------------------------------------------------------------------------------------

    def rows(self, kind: type[R], where: str = "", values: Sequence[int] = ()) -> list[R]:
        """Of one table, by its primary key; `where` is an SQL condition. Raises MapError for one that was changed."""
        table = TABLE_OF[kind]
        key = kind._fields[0]
        query = f"SELECT * FROM {table} {'WHERE ' + where if where else ''} ORDER BY {key}"
        with self._errors(), self._lock:
            return [_checked(kind, row) for row in self._reader.execute(query, values)]

    def key_columns(self) -> Iterator[NDArray[np.int64]]:
        """(N, C): `key_table.COLUMNS` of all keyframes, by key, in chunks. Raises MapError for what cannot be such a number."""
        with self._errors(), self._lock:
            cursor = self._reader.execute(f"SELECT {', '.join(COLUMNS)} FROM keyframe ORDER BY key")
            while rows := cursor.fetchmany(16 * CHUNK):
                columns = np.array(rows, np.int64)
                _with_room(int(columns.max()))
                yield columns

    def descriptors(self, above: int = -1) -> Iterator[list[DescriptorRow]]:
        """Of the keyframes of higher keys, by key, in chunks."""
        while rows := self.rows(DescriptorRow, f"key > ? AND key <= (SELECT max(key) FROM (SELECT key FROM descriptor "
                                f"WHERE key > ? ORDER BY key LIMIT {CHUNK}))", (above, above)):  # fmt: skip
            yield rows
            above = rows[-1].key

    def key_of(self, session: int, id: int) -> int | None:
        """Of the keyframe of that name."""
        with self._errors(), self._lock:
            row = self._reader.execute(
                "SELECT key FROM keyframe WHERE session = ? AND id = ?", (session, id)
            ).fetchone()
            return None if row is None else int(row[0])

    def keyframe(self, key: int, session: SessionRow, camera: CameraRow, with_picture: bool = True) -> Keyframe:
        """With its descriptor, and its thumbnail if it has one. Raises MapError where a row is missing or was changed."""
        with self._errors():
            with self._lock:
                (row,) = self._one(KeyframeRow, key)
                (vector,) = self._one(DescriptorRow, key)
                picture = self.rows(ThumbnailRow, "key = ?", (key,)) if with_picture else []
            return keyframe_of(session, camera, row, vector, picture[0] if picture else None)

    def odometry(self, session: int) -> dict[int, Pose | None]:
        """`odom_from_body` by key, of the keyframes of a session."""
        query = "SELECT key, odom_from_body FROM keyframe WHERE session = ?"
        with self._errors(), self._lock:
            return {key: pose_of(content) for key, content in self._reader.execute(query, (session,))}

    def used_bytes(self) -> int:
        """Of the pages that hold rows."""
        with self._errors(), self._lock:
            count, free, size = (
                int(self._reader.execute(f"PRAGMA {name}").fetchone()[0])
                for name in ("page_count", "freelist_count", "page_size")
            )
        return (count - free) * size

    def first_with_odometry(self, robot: str | None = None) -> int | None:
        """The key of the oldest keyframe that has a pose, of one robot or of any."""
        query = "SELECT key FROM keyframe JOIN session USING (session) WHERE odom_from_body IS NOT NULL"
        values: tuple[str, ...] = ()
        if robot is not None:
            query, values = f"{query} AND robot = ?", (robot,)
        with self._errors(), self._lock:
            found = self._reader.execute(f"{query} ORDER BY key LIMIT 1", values).fetchone()
        return None if found is None else int(found[0])

    def _one(self, kind: type[R], key: int) -> list[R]:
        rows = self.rows(kind, "key = ?", (key,))
        if not rows:
            raise ValueError(f"keyframe {key} has no row in table {TABLE_OF[kind]}")
        return rows

    def write(self, rows: Iterable[Change]) -> None:
        """Add and remove, all or nothing; durable when this returns. Raises MapError."""
        with self._errors(), self._write_lock, _transaction(self._writer) as cursor:
            write_rows(cursor, rows)

    def delete_session(self, session: int) -> None:
        """With its keyframes, and all that refers to them."""
        with self._errors(), self._write_lock, _transaction(self._writer) as cursor:
            cursor.execute("DELETE FROM session WHERE session = ?", (session,))

    def shrink(self) -> None:
        """Give the room of what was removed back to the disk; needs as much again meanwhile."""
        with self._errors(), self._write_lock:
            self._writer.execute("VACUUM")

    def rename_session(self, row: SessionRow) -> None:
        """Give a session another robot or name. Raises MapError where that is taken."""
        with self._errors(), self._write_lock, _transaction(self._writer) as cursor:
            cursor.execute(
                "UPDATE session SET robot = ?, name = ?, crc = ? WHERE session = ?",
                (row.robot, row.name, schema.checksum(*row), row.session),
            )

    # --- copies -----------------------------------------------------------------------------------------------------

    def copy_to(self, path: Path, facts: dict[str, str], rows: Sequence[Change] = ()) -> int:
        """A whole, consistent copy as a file, made while this one grows; with other facts, and rows that may not be in it yet.

        The caller has the lock of the map at `path`. Returns how many keyframes it holds. Raises MapError, and leaves what lies
        at `path` as it was.
        """
        with new_database(path) as target:
            self._copy_into(target)
            target.execute("PRAGMA journal_mode = DELETE")  # nothing beside it until somebody records into it
            with _transaction(target) as cursor:
                cursor.executemany("INSERT OR REPLACE INTO map VALUES (?, ?)", facts.items())
                write_rows(cursor, rows, or_ignore=True)
            return int(target.execute("SELECT count(*) FROM keyframe").fetchone()[0])

    def copy_in_memory(self) -> Store:
        """The same map in memory; this one stays."""
        copy = Store()
        self._copy_into(copy._writer)
        return copy

    def _copy_into(self, target: sqlite3.Connection) -> None:
        with self._errors():
            if self.path is None:
                _in_steps(self._reader, target, self._lock)
                return
            source = connect_to_read(self.path)  # of its own: it sees one moment, and nobody waits for it
            try:
                source.backup(target)
            finally:
                source.close()


def write_rows(cursor: sqlite3.Cursor, rows: Iterable[Change], or_ignore: bool = False) -> None:
    """In this order; with `or_ignore` rows that are there already are left out."""
    for _, group in groupby(rows, type):
        some = list(group)
        if isinstance(some[0], Removal):
            cursor.executemany("DELETE FROM keyframe WHERE key = ?", some)
            continue
        if isinstance(some[0], Update):
            values = ", ".join(f"{name} = ?" for name in (*KeyframeRow._fields, "crc"))
            present = [change.row for change in some if isinstance(change, Update)]
            cursor.executemany(
                f"UPDATE keyframe SET {values} WHERE key = ?",
                ((*row, schema.checksum(*row), row.key) for row in present),
            )
            continue
        kind = type(some[0])
        marks = ", ".join("?" * (len(kind._fields) + 1))
        may_be_there = or_ignore or kind in (LinkRow, ReleasedRow)  # two closures may join the same pair
        either = "OR IGNORE " if may_be_there else ""
        cursor.executemany(
            f"INSERT {either}INTO {TABLE_OF[kind]} VALUES ({marks})", ((*row, schema.checksum(*row)) for row in some)
        )


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Cursor]:
    cursor = connection.execute("BEGIN IMMEDIATE")
    try:
        yield cursor
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def _in_steps(source: sqlite3.Connection, target: sqlite3.Connection, lock: Any) -> None:
    """Of tables in memory, which have one connection: it is lent to others between steps."""

    def give_way(status: int, remaining: int, total: int) -> None:
        lock.release()
        lock.acquire()

    with lock:
        source.backup(target, pages=BACKUP_PAGES, progress=give_way, sleep=0)


def _with_room(number: int) -> int:
    """The number. Raises ValueError where too few are left above it for a map that grows."""
    if number > LARGEST_NUMBER:
        raise ValueError(f"{number} leaves no numbers for what is added")
    return number


def _checked(kind: type[R], row: Sequence[Any]) -> R:
    *values, crc = row
    _with_room(values[0])
    found: Any = checked(kind(*values), crc)
    return found


def _connect_to_write(path: Path, durability: str) -> sqlite3.Connection:
    connection = connect(uri_of(path, "rw"), uri=True)
    connection.execute("PRAGMA journal_mode = WAL")
    _migrate(connection)
    connection.execute(f"PRAGMA synchronous = {SYNCHRONOUS[durability]}")
    return connection


def _migrate(connection: sqlite3.Connection) -> None:
    while (version := int(connection.execute("PRAGMA user_version").fetchone()[0])) < schema.VERSION:
        with _transaction(connection):
            schema.MIGRATIONS[version](connection)
            connection.execute(f"PRAGMA user_version = {version + 1}")


def _check_schema(connection: sqlite3.Connection, path: Path) -> None:
    """A forged file could have triggers and views: only our own tables are opened. Raises MapError."""
    own = set(schema.TABLES)
    found = {
        sql
        for name, sql in connection.execute("SELECT name, sql FROM sqlite_master")
        if not str(name).startswith("sqlite_")
    }
    if found != own:
        raise MapError(f"{path} is corrupt or no map: it has other tables than a map of vpr_ros")
