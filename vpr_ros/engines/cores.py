"""Which CPU cores inference may use."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from vpr_ros.errors import ConfigError, EngineError

_MOST = 4096
"""More cores than Linux runs on: a slip of the finger must not fill the memory."""


def parse_cores(text: str) -> tuple[int, ...]:
    """Of `engine.cores`: "2,3,6-7" -> (2, 3, 6, 7), sorted, each once; "" -> (). Raises ConfigError for another form."""
    cores: set[int] = set()
    for part in text.split(",") if text.strip() else ():
        found = re.fullmatch(r"\s*(\d{1,4})\s*(?:-\s*(\d{1,4})\s*)?", part, re.ASCII)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if not first <= last < _MOST:
            raise ConfigError(f"engine.cores must be cores like 2,3 or 4-7, not {text!r}")
        cores.update(range(first, last + 1))
    return tuple(sorted(cores))


@contextmanager
def bound_to(cores: tuple[int, ...]) -> Iterator[None]:
    """The calling thread, and threads that are born meanwhile, run on these cores; () leaves it as it is.

    Afterwards the calling thread may run where it could before. Raises EngineError for cores that it cannot have.
    """
    if not cores:
        yield
        return
    if not hasattr(os, "sched_setaffinity"):
        raise EngineError("engine.cores cannot bind threads on this system; leave it empty")
    before = os.sched_getaffinity(0)
    try:
        # of cores that do not exist, the system takes the rest without a word
        if not _bind(set(cores)):
            wanted, present = ", ".join(map(str, cores)), os.cpu_count()
            raise EngineError(f"engine.cores: not all of {wanted} can be used here; this machine has {present} cores")
        yield
    finally:
        os.sched_setaffinity(0, before)


def _bind(cores: set[int]) -> bool:
    try:
        os.sched_setaffinity(0, cores)
    except OSError:
        return False
    return os.sched_getaffinity(0) == cores
