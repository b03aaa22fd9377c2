"""How a command of training ends where its user can mend the reason: in one line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vpr_ros.errors import VprError
from vpr_ros.files import cannot_write
from vpr_ros.printable import on_one_line, printable

_NO_MEMORY = re.compile(
    r"out of memory|can't allocate memory|cannot allocate memory|bad_alloc|ALLOC_FAILED", re.IGNORECASE
)
"""In what torch raises: of its classes only CUDA's tells, on the CPU it is a RuntimeError like any other."""
_KILLED = re.compile(r"DataLoader worker .* (?:killed|exited)")


@contextmanager
def one_line(command: str) -> Iterator[None]:
    """Turn VprErrors, a lack of memory and what disks refuse into SystemExit with one line. Mistakes of ours stay tracebacks."""
    try:
        yield
    except (VprError, OSError, MemoryError, RuntimeError) as error:
        if (reason := _reason(error)) is None:
            raise
        raise SystemExit(f"{command}: {printable(on_one_line(reason))}") from error


def _reason(error: Exception) -> str | None:
    """None where only a traceback helps."""
    if isinstance(error, VprError):
        return str(error)
    if isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)):
        return (
            "out of memory: take smaller batches (sampling, with loop.accumulate for as many images a step; --batch), smaller "
            "images (network.width, network.height), fewer loop.workers, or loop.precision=bf16-mixed on a GPU; "
            f"--resume goes on from the last checkpoint ({_first_line(error)})"
        )
    if isinstance(error, OSError) and error.strerror:
        return str(cannot_write(Path(error.filename), error)) if error.filename else error.strerror
    if _KILLED.search(str(error)):
        return f"a process that reads images was killed, mostly for want of memory: lower loop.workers ({_first_line(error)})"
    return None


def _first_line(error: Exception) -> str:
    return (str(error).strip().partition("\n")[0] or type(error).__name__)[:160]
