"""Gives memory back that nobody uses any more: a robot shares its memory with others."""

from __future__ import annotations

import ctypes
import gc
import sys
from contextlib import suppress

M_MMAP_THRESHOLD, MMAP_BYTES = -3, 1 << 16


def return_large_blocks() -> None:
    """From now on the C library takes every large block from the system, and gives it back as soon as it is freed.

    By default it keeps ever larger ones (up to 32 MB) in its heap, whose end some small object that lives on then holds: a node that left a large map for an
    empty one while images came kept half of the memory.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # of glibc alone
            ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, MMAP_BYTES)


def release_memory() -> None:
    """Frees objects that refer to one another in circles, and returns what the C library has kept of freed memory.

    Takes some 0.1 s; for when something large was closed.
    """
    gc.collect()
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # of glibc alone
            ctypes.CDLL(None).malloc_trim(0)
