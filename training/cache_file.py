"""Files that save computing something again: whole or not at all, and never worth failing for."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO

_LOG = logging.getLogger(__name__)


def keep(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Make `path`, and folders above it, of what `write` writes; where the disk does not take it, log a warning."""
    part = path.with_suffix(f".{os.getpid()}.part")  # processes of one training may make the same file at once
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("wb") as file:
                write(file)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        _LOG.warning("%s cannot be written (%s): it will be computed again next time", path, error.strerror)
