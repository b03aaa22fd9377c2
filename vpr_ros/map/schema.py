"""The tables of a map file, an SQLite database; docs/place_map.md describes them for other readers.

Every row has a checksum, because SQLite itself does not notice a changed byte.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Callable

APPLICATION_ID = 0x7670726D
"""`vprm`: at byte 68 of a map file."""
VERSION = 1
"""`PRAGMA user_version`. A file of a higher one is refused, one of a lower one is brought up to date by `MIGRATIONS`."""
PAGE_BYTES = 8192

TABLES = (
    "CREATE TABLE map (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE TABLE session (session INTEGER PRIMARY KEY AUTOINCREMENT, robot TEXT NOT NULL, name TEXT NOT NULL, "
    "crc INTEGER NOT NULL, UNIQUE (robot, name)) STRICT",
    "CREATE TABLE camera (camera INTEGER PRIMARY KEY AUTOINCREMENT, "
    "session INTEGER NOT NULL REFERENCES session ON DELETE CASCADE, name TEXT NOT NULL, frame_id TEXT NOT NULL, "
    "intrinsics TEXT, body_from_camera BLOB, crc INTEGER NOT NULL) STRICT",
    "CREATE TABLE keyframe (key INTEGER PRIMARY KEY AUTOINCREMENT, "
    "session INTEGER NOT NULL REFERENCES session ON DELETE CASCADE, id INTEGER NOT NULL, "
    "camera INTEGER NOT NULL REFERENCES camera ON DELETE CASCADE, stamp_ns INTEGER NOT NULL, elapsed_ns INTEGER NOT NULL, "
    "moment INTEGER NOT NULL, odometry_segment INTEGER NOT NULL, travelled_m REAL, odom_from_body BLOB, "
    "thumbnail_bytes INTEGER NOT NULL, crc INTEGER NOT NULL, UNIQUE (session, id)) STRICT",
    "CREATE TABLE descriptor (key INTEGER PRIMARY KEY REFERENCES keyframe ON DELETE CASCADE, vector BLOB NOT NULL, "
    "crc INTEGER NOT NULL) STRICT",
    "CREATE TABLE thumbnail (key INTEGER PRIMARY KEY REFERENCES keyframe ON DELETE CASCADE, scale REAL NOT NULL, "
    "jpeg BLOB NOT NULL, crc INTEGER NOT NULL) STRICT",
    "CREATE TABLE link (first INTEGER NOT NULL REFERENCES keyframe ON DELETE CASCADE, "
    "second INTEGER NOT NULL REFERENCES keyframe ON DELETE CASCADE, first_from_second BLOB, covariance BLOB, "
    "scale_known INTEGER NOT NULL, crc INTEGER NOT NULL, PRIMARY KEY (first, second)) "
    "STRICT, WITHOUT ROWID",
    "CREATE TABLE released (moment INTEGER PRIMARY KEY, crc INTEGER NOT NULL) STRICT",
    "CREATE INDEX keyframe_camera ON keyframe (camera)",
    "CREATE INDEX link_second ON link (second)",
)

MIGRATIONS: dict[int, Callable[[sqlite3.Connection], None]] = {}
"""By version: brings a file of that version to the next one, within the caller's transaction."""


def create(connection: sqlite3.Connection) -> None:
    """The empty tables, in one transaction."""
    connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute("BEGIN")
    for statement in TABLES:
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")


def checksum(*values: int | float | str | bytes | None) -> int:
    """CRC-32 of the values of a row, in the order of its columns.

    Each value counts as its type's letter, the length of its text and its text: decimal digits, Python's shortest form of a
    float, UTF-8, or the bytes themselves.
    """
    crc = 0
    for value in values:
        content = value if isinstance(value, bytes) else b"" if value is None else str(value).encode()
        letter = {int: "i", float: "f", str: "s", bytes: "b"}.get(type(value), "n")
        crc = zlib.crc32(content, zlib.crc32(f"{letter}{len(content)}:".encode(), crc))
    return crc
