"""Files that are written whole or not at all, where results may go, and the order of numbered files."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from vpr_ros.errors import ConfigError, OutputError

_PART = re.compile(r"\..+\.[0-9a-f]{32}\.part")
"""Names of what is not whole yet."""
STALE_S = 86400.0
"""What nobody has written to for so long, a killed process has left."""
TRIAL_BYTES = 65536
"""More than a file system takes on a disk that is full."""


@contextmanager
def whole_file(path: Path, is_private: bool = False) -> Iterator[IO[bytes]]:
    """A file to write that takes the place of `path` when the block ends; if the block raises, `path` stays as it was.

    Makes the folders above, and removes there what killed processes left. Any number of processes may write the same file.
    One that `is_private` only its user may read, and a folder that is made for it only its user may look into.
    A link stays one: what it points to is written. Raises OSError where the disk refuses.
    """
    path = Path(os.path.realpath(path))
    path.parent.mkdir(mode=0o700 if is_private else 0o777, parents=True, exist_ok=True)
    remove_stale_parts(path.parent)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        with open(part, "xb", opener=_private if is_private else None) as file:
            with suppress(OSError):  # some network file systems have no locks
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        with suppress(OSError):  # so that the name, too, outlives a loss of power
            sync_folder(path.parent)
    finally:
        part.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def remove_stale_parts(folder: Path) -> None:
    """Remove the unfinished files that killed processes left in `folder`: a day old, and locked by nobody.

    A robot's clock may jump by years, so age alone does not tell. What cannot be removed stays, without a word.
    """
    before = time.time() - STALE_S
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _PART.fullmatch(entry.name):
                with suppress(OSError):
                    _remove_if_stale(entry, before)


def _remove_if_stale(entry: os.DirEntry[str], before: float) -> None:
    found = entry.stat(follow_symlinks=False)
    if not stat.S_ISREG(found.st_mode) or found.st_mtime > before:
        return
    with open(entry.path, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # OSError: its writer lives
        os.unlink(entry.path)


def check_writable(folder: Path) -> None:
    """Make `folder` and try to write there: before hours of work, not after. Raises OutputError, one line."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder) as file:
            file.write(bytes(TRIAL_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise cannot_write(folder, error) from error


def cannot_write(path: Path, error: OSError) -> OutputError:
    """What to raise where the disk does not take a result."""
    advice = {
        errno.ENOSPC: "; make room, or choose another place",
        errno.EROFS: "; choose another place",
        errno.EACCES: "; it belongs to somebody else: choose another place",
    }.get(error.errno or 0, "")
    return OutputError(f"cannot write {path}: {error.strerror or error}{advice}")


def expanded(path: str | Path) -> Path:
    """`path` with `~` and `~user` replaced by their home. Raises ConfigError for a user, or a process, that has none."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:  # pathlib's way to report it
        user = Path(path).parts[0]
        whose = "this user has no home; set HOME" if user == "~" else f"there is no user {user[1:]!r} with a home"
        raise ConfigError(f"{path}: {whose}, or write the path from / on") from error


def read_regular_file(path: Path | str) -> bytes:
    """Raises OSError, also for a pipe or a device, which would be waited for or never end."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "is not a regular file", os.fspath(path))
    return Path(path).read_bytes()


def natural_order(path: Path) -> list[tuple[int, str]]:
    """Sort key under which `frame_9.png` comes before `frame_10.png`."""
    parts = re.split(r"([0-9]+)", path.name)  # every second one is a number; "²" is none, though a digit to Python
    return [(int(part), "") if i % 2 else (-1, part) for i, part in enumerate(parts)]


def numeric_order(paths: Iterable[Path]) -> list[Path]:
    """By the numbers that the names are where all are some (-1, 0.25, 1e3), in natural order elsewhere."""
    found = sorted(paths, key=natural_order)
    numbers = [
        re.fullmatch(r"[+-]?[0-9]{1,30}(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?", path.stem, re.ASCII) for path in found
    ]
    return sorted(found, key=lambda path: Decimal(path.stem)) if all(numbers) else found
