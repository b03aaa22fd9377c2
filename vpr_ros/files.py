"""Files that are written whole or not at all, and the order of numbered ones."""

from __future__ import annotations

import errno
import os
import re
import stat
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import IO


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that takes the place of `path` when the block ends; if the block raises, `path` stays as it was.

    Makes the folders above. Any number of processes may write the same file. Raises OSError where the disk refuses.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


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
