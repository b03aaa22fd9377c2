from __future__ import annotations

import pytest
import torch

from training.command import one_line
from vpr_ros.errors import SourceError


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (SourceError("no images\nhere"), "train: no images here"),
        (MemoryError(), r"train: out of memory: .*\(MemoryError\)"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "train: out of memory: .*Tried"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
            "train: out of memory: ",
        ),
        (RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed."), "train: .*lower loop.workers"),
        (OSError(28, "No space left on device"), "train: No space left on device"),
        (
            OSError(30, "Read-only file system", "/x/a\x1b[31m"),
            r"train: cannot write /x/a\\x1b\[31m: Read-only file system",
        ),
    ],
)
def test_what_a_user_can_mend_is_one_line(error: Exception, line: str) -> None:
    with pytest.raises(SystemExit, match=f"^{line}") as end, one_line("train"):
        raise error
    assert "\n" not in str(end.value)


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes differ"), KeyError("x"), OSError("no errno"), KeyboardInterrupt()]
)
def test_what_is_our_mistake_stays_a_traceback(error: BaseException) -> None:
    with pytest.raises(type(error)), one_line("train"):
        raise error


def test_memory_that_nobody_has_is_one_line() -> None:
    with pytest.raises(SystemExit, match=r"^train: out of memory"), one_line("train"):
        torch.empty(2**55)
