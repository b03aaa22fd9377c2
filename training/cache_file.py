"""Files that save computing something again: whole or not at all, and never worth failing for."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import IO

from vpr_ros.files import whole_file

_LOG = logging.getLogger(__name__)


def keep(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Make `path`, and folders above it, of what `write` writes; where the disk does not take it, log a warning."""
    try:
        with whole_file(path) as file:
            write(file)
    except OSError as error:
        _LOG.warning("%s cannot be written (%s): it will be computed again next time", path, error.strerror)
