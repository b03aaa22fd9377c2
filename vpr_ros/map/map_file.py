"""What a file is before it is opened as a map, who may write to it, and how one comes to be whole."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path

from vpr_ros.errors import MapError
from vpr_ros.files import whole_file
from vpr_ros.map import schema

HEADER_BYTES = 100
SQLITE = b"SQLite format 3\0"
SIDE_FILES = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a file while it is open."""


LONGEST_NAME_BYTES = 200
"""File systems take 255, of which what lies beside a map while it is written needs some."""


def is_map_name(name: str) -> bool:
    """One word for a file in the folder of maps: no path, nothing hidden, nothing that steers a terminal."""
    is_word = bool(name) and name == Path(name).name and not name.startswith(".") and name.isprintable()
    return is_word and len(os.fsencode(name)) <= LONGEST_NAME_BYTES


class Kind(Enum):
    """What lies at the path of a map."""

    NOTHING = "nothing"
    DATABASE = "a map of this version or an older one"
    ARCHIVE = "a map of before there were databases, an .npz file"


def kind_of(path: Path, is_whole: bool = True) -> Kind:
    """Of a path; `is_whole` refuses what was cut short. Raises MapError, which names what is wrong, for anything that is neither a map nor nothing."""
    try:
        if not path.exists():
            if path.is_symlink():
                raise MapError(f"{path} is a link to nothing: remove it")
            return Kind.NOTHING
        if not path.is_file():
            raise MapError(f"{path} is not a regular file")
        with path.open("rb") as file:
            header, size = file.read(HEADER_BYTES), os.fstat(file.fileno()).st_size
    except OSError as error:
        raise MapError(f"cannot read {path}: {error.strerror or error}") from error
    if header.startswith(b"PK"):
        return Kind.ARCHIVE
    if not header:
        raise MapError(f"{path} is empty, and no map: remove it")
    if not header.startswith(SQLITE) or len(header) < HEADER_BYTES:
        raise MapError(f"{path} is corrupt or no map: it does not begin like one")
    _check_header(path, header, size if is_whole else None)
    return Kind.DATABASE


def _check_header(path: Path, header: bytes, size: int | None) -> None:
    """By SQLite's database header (sqlite.org/fileformat.html, 1.3)."""

    def number(offset: int, length: int = 4) -> int:
        return int.from_bytes(header[offset : offset + length], "big")

    if number(68) != schema.APPLICATION_ID:
        raise MapError(f"{path} is an SQLite database, but no map of vpr_ros")
    if number(60) > schema.VERSION:
        raise MapError(
            f"{path} is a map of a newer vpr_ros (format {number(60)}, this one knows {schema.VERSION}): install that version"
        )
    page = number(16, 2)
    pages, is_exact = number(28), number(24) == number(92)
    bytes_announced = pages * (65536 if page == 1 else page)
    if size is not None and is_exact and size < bytes_announced and not _has_wal(path):
        raise MapError(
            f"{path} is corrupt: {size} bytes of {bytes_announced} are there; `vpr map check {path} --repair NEW` saves what is"
        )


def _has_wal(path: Path) -> bool:
    with suppress(OSError):
        return path.with_name(path.name + "-wal").stat().st_size > 0
    return False


class MapLock:
    """The right to write a map file, of one process at a time; it ends with the process, however that ends."""

    def __init__(self, path: Path) -> None:
        """Makes the folders above. Raises MapError where another process has it, or the folder takes no file."""
        self._path = path.with_name(f".{path.name}.lock")
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            while True:
                self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
                try:
                    fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError as error:
                    if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP):  # of some network file systems
                        os.close(self._file)
                        raise
                if self._is_in_place():
                    break
                os.close(self._file)  # its owner has just removed it
        except BlockingIOError as error:
            raise MapError(f"{path} is in use by another process: only one may write to a map") from error
        except OSError as error:
            raise MapError(f"cannot write to {path}: {error.strerror or error}") from error

    def _is_in_place(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._file), os.stat(self._path, follow_symlinks=False))
        except FileNotFoundError:
            return False

    def __enter__(self) -> MapLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
        os.close(self._file)


def _fold(path: Path) -> None:
    """Whatever SQLite keeps beside a map goes into it: left there, it would be taken for that of the file that replaces it."""
    if any(path.with_name(path.name + suffix).exists() for suffix in SIDE_FILES):
        sqlite3.connect(path, isolation_level=None).execute("PRAGMA wal_checkpoint(TRUNCATE)").connection.close()
        for suffix in SIDE_FILES:
            path.with_name(path.name + suffix).unlink(missing_ok=True)


@contextmanager
def new_database(path: Path) -> Iterator[sqlite3.Connection]:
    """An empty database that takes the place of `path` when the block ends; if that raises, `path` stays as it was.

    The caller has the lock of the map at `path`. Raises MapError where the disk refuses, and where something else than a map
    lies there.
    """
    kind_of(path)
    try:
        with whole_file(path, is_private=True) as file:  # a map has pictures of people's homes
            connection = sqlite3.connect(file.name, isolation_level=None)
            try:
                connection.execute("PRAGMA journal_mode = OFF")
                connection.execute("PRAGMA synchronous = OFF")  # whole_file waits for the disk
                yield connection
            finally:
                connection.close()
            _fold(path)
    except OSError as error:
        raise MapError(f"cannot save map {path}: {error.strerror or error}") from error
    except sqlite3.Error as error:
        raise MapError(f"cannot save map {path}: {error}") from error


def connect(database: str, uri: bool = False) -> sqlite3.Connection:
    """In autocommit mode, for any thread, wary of what a foreign file could ask of SQLite."""
    connection = sqlite3.connect(database, uri=uri, isolation_level=None, check_same_thread=False, timeout=5.0)
    for pragma in ("trusted_schema = OFF", "cell_size_check = ON", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def connect_to_read(path: Path, is_whole: bool = True) -> sqlite3.Connection:
    """From a folder that takes no file, too, as long as the map was closed properly; not `is_whole`: what was cut short, too."""
    connection = connect(uri_of(path, "ro"), uri=True)
    if not is_whole:
        connection.execute("PRAGMA writable_schema = ON")  # SQLite then takes a file as long as it is
    try:
        connection.execute("SELECT name FROM sqlite_master LIMIT 1").fetchall()
    except sqlite3.OperationalError:
        connection.close()
        if path.with_name(path.name + "-wal").exists():
            raise
        connection = connect(uri_of(path, "ro") + "&immutable=1", uri=True)
    return connection


def uri_of(path: Path, mode: str) -> str:
    """For `connect`."""
    return f"{path.absolute().as_uri()}?mode={mode}"
