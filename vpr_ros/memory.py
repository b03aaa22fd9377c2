"""Gives memory back that nobody uses any more: a robot shares its memory with others."""

from __future__ import annotations

import ctypes
import gc
import sys
from contextlib import suppress


def release_memory() -> None:
    """Frees objects that refer to one another in circles, and returns what the C library has kept of freed memory.

    Takes some 0.1 s; for when something large was closed.
    """
    gc.collect()
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # of glibc alone
            ctypes.CDLL(None).malloc_trim(0)
