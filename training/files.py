"""What training writes: whole or not at all, and what happens where the disk does not take it."""

from __future__ import annotations

import errno
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import IO

from vpr_ros.errors import TrainingError
from vpr_ros.files import whole_file

_LOG = logging.getLogger(__name__)


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """Replace a result in one step. Raises TrainingError, the old file as it was, where the disk does not take it."""
    try:
        with whole_file(path) as file:
            file.write(content)
    except OSError as error:
        reason = f"cannot write {path}: {error.strerror}"
        if error.errno == errno.ENOSPC:
            kept = f"the last one is intact: make room, then go on from {path}" if path.exists() else "make room first"
            free = shutil.disk_usage(path.parent).free if path.parent.exists() else 0
            reason += f"; {kept} ({len(content) / 1e6:.0f} MB needed, {free / 1e6:.0f} MB free)"
        raise TrainingError(reason) from error


def write_cache(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Make a file that saves computing something again, of what `write` writes; not worth failing for: log a warning."""
    try:
        with whole_file(path) as file:
            write(file)
    except OSError as error:
        _LOG.warning("%s cannot be written (%s): it will be computed again next time", path, error.strerror)
