"""What of a damaged map file is whole: every row is read and compared with its checksum, and with what it refers to."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vpr_ros.errors import MapError
from vpr_ros.map import schema
from vpr_ros.map.map_file import Kind, MapLock, connect_to_read, kind_of, new_database
from vpr_ros.map.rows import (
    ROWS,
    TABLE_OF,
    CameraRow,
    DescriptorRow,
    KeyframeRow,
    LinkRow,
    ReleasedRow,
    Row,
    SessionRow,
    ThumbnailRow,
    descriptors_of,
    keyframe_of,
)
from vpr_ros.map.store import write_rows

CHUNK = 1000
MOST_BLIND = 10**6
"""Numbers in a row that are tried where nothing shows whether a row has them."""
Progress = Callable[[Iterable[range]], Iterable[range]]


@dataclass(slots=True)
class Examination:
    """How many rows of each table are whole, and what is not."""

    whole: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    """Sentences, and how often each is true."""


def examine(path: Path, progress: Progress = iter) -> Examination:
    """Read all of a map file; `progress` wraps ranges of keys. Raises MapError for what is no map at all."""
    return _Pass(path).run(lambda rows: None, progress)


def repair(path: Path, new: Path, progress: Progress = iter) -> Examination:
    """Write what is whole of a map to another file; the damaged one stays as it is. Raises MapError."""
    if new.exists():
        raise MapError(f"{new} exists: name a file that does not")
    found = _Pass(path)
    with MapLock(new), new_database(new) as target:
        schema.create(target)
        target.execute("BEGIN")
        cursor = target.cursor()
        cursor.executemany("INSERT INTO map VALUES (?, ?)", found.facts.items())
        examination = found.run(lambda rows: write_rows(cursor, rows), progress)
        target.execute("COMMIT")
    return examination


class _Pass:
    """One reading of a file that SQLite may refuse in part."""

    def __init__(self, path: Path) -> None:
        self._path = path
        if kind_of(path, is_whole=False) is not Kind.DATABASE:
            raise MapError(f"{path} is not there, or a map of before there were databases: record into it once")
        self.examination = Examination()
        self._connection = connect_to_read(path, is_whole=False)
        self.facts = self._facts()

    def _facts(self) -> dict[str, str]:
        try:
            facts = dict(self._connection.execute("SELECT name, value FROM map"))
        except sqlite3.Error as error:
            raise MapError(f"{self._path} does not tell its model any more ({error}): nothing can be saved") from error
        if "model_id" not in facts or not str(facts.get("dim")).isdigit():
            raise MapError(f"{self._path} does not tell its model any more: nothing can be saved")
        return facts

    def run(self, use: Callable[[list[Row]], object], progress: Progress) -> Examination:
        """`use` gets all rows that are whole, those that others refer to first."""
        sessions = {row.session: row for row in self._table(SessionRow)}
        cameras = {row.camera: row for row in self._table(CameraRow) if row.session in sessions}
        self._use(use, [*sessions.values(), *cameras.values()])
        known: set[int] = set()
        for keys in progress(self._ranges("keyframe")):
            vectors = {row.key: row for row in self._rows(DescriptorRow, keys)}
            pictures = {row.key: row for row in self._rows(ThumbnailRow, keys)}
            for row in self._rows(KeyframeRow, keys):
                rows = self._keyframe(row, sessions, cameras, vectors.get(row.key), pictures.get(row.key))
                known.update(each.key for each in rows if isinstance(each, KeyframeRow))
                self._use(use, rows)
        links = [row for row in self._table(LinkRow) if {row.first, row.second} <= known]
        self._use(use, links)
        self._use(use, self._table(ReleasedRow))
        self._connection.close()
        return self.examination

    def _use(self, use: Callable[[list[Row]], object], rows: Iterable[Row]) -> None:
        used = list(rows)
        self.examination.whole.update(TABLE_OF[type(row)] for row in used)
        use(used)

    def _keyframe(
        self,
        row: KeyframeRow,
        sessions: dict[int, SessionRow],
        cameras: dict[int, CameraRow],
        vector: DescriptorRow | None,
        picture: ThumbnailRow | None,
    ) -> list[Row]:
        """Its rows, without a picture where that is lost; none where it cannot be a keyframe any more."""
        if row.session not in sessions or row.camera not in cameras or vector is None:
            self._fault("a keyframe is lost: its session, camera or descriptor is")
            return []
        try:
            descriptors_of([vector], int(self.facts["dim"]))
            keyframe_of(sessions[row.session], cameras[row.camera], row, vector, picture)
        except ValueError as error:
            self._fault(f"a keyframe is lost: {error}")
            return []
        if row.thumbnail_bytes and picture is None:
            self._fault("a keyframe has lost its picture")
            row = row._replace(thumbnail_bytes=0)
        return [row, vector] if picture is None else [row, vector, picture]

    def _fault(self, sentence: str, times: int = 1) -> None:
        self.examination.faults[sentence] += times

    def _table(self, kind: type[Any]) -> Iterator[Any]:
        for keys in self._ranges(TABLE_OF[kind]):
            yield from self._rows(kind, keys)

    def _ranges(self, table: str) -> Iterator[range]:
        """Of the first column, as far as the table is readable at its end, or by the numbers that were given.

        Numbers that no row has are passed over where the pages on the way can be read, and else only so many of them: one
        damaged byte makes an end that nobody reaches.
        """
        end, start, blind = 0, 0, 0
        for query in (
            f"SELECT max({ROWS[table]._fields[0]}) FROM {table}",
            "SELECT max(seq) FROM sqlite_sequence",
        ):
            try:
                end = max(end, int(self._connection.execute(query).fetchone()[0] or 0))
            except sqlite3.Error as error:
                self._fault(f"the end of table {table} cannot be read ({error})")
        key = ROWS[table]._fields[0]
        while start <= end:
            yield range(start, min(start + CHUNK, end + 1))
            start += CHUNK
            try:
                found = self._connection.execute(
                    f"SELECT min({key}) FROM {table} WHERE {key} >= ?", (start,)
                ).fetchone()[0]
                start, blind = end + 1 if found is None else max(start, int(found)), 0
            except sqlite3.Error:
                blind += CHUNK
                if blind > MOST_BLIND:
                    self._fault(f"table {table} was not read to its end, number {end}")
                    return

    def _rows(self, kind: type[Any], keys: range) -> list[Any]:
        """Of whole rows; where a page cannot be read, each key is tried by itself."""
        table, columns = TABLE_OF[kind], kind._fields
        query = f"SELECT * FROM {table} WHERE {columns[0]} BETWEEN ? AND ? ORDER BY {columns[0]}"
        try:
            found = self._connection.execute(query, (keys.start, keys.stop - 1)).fetchall()
        except sqlite3.Error:
            found = []
            for key in keys:
                try:
                    found += self._connection.execute(query, (key, key)).fetchall()
                except sqlite3.Error as error:
                    self._fault(f"part of table {table} cannot be read ({error})")
        rows = [kind(*values) for *values, crc in found if _is_whole(values, crc)]
        if changed := len(found) - len(rows):
            self._fault(f"a row of table {table} was changed", changed)
        return rows


def _is_whole(values: list[Any], crc: object) -> bool:
    try:
        return schema.checksum(*values) == crc
    except UnicodeError:
        return False
