from __future__ import annotations

import multiprocessing
import os
import signal

import pytest
from small_benchmarks import go_wrong, wait_for_ever

from vpr_ros.engines.benchmark.process import _end, _work, in_process
from vpr_ros.errors import EngineError, SourceError


def test_what_a_process_tells_and_raises_comes_back() -> None:
    ours, theirs = multiprocessing.Pipe()
    for error in (SourceError("no poses"), ZeroDivisionError("by zero")):
        ours.send((go_wrong, (error,)))
        _work(theirs)
    (told, failed), (_, other) = [(ours.recv(), ours.recv()) for _ in range(2)]
    assert told == ("told", ("going wrong", 0.5))
    assert (failed[0], type(failed[1]), str(failed[1])) == ("failed", SourceError, "no poses")
    assert (type(other[1]), str(other[1])) == (EngineError, "ZeroDivisionError: by zero")


def test_a_process_without_work_ends() -> None:
    ours, theirs = multiprocessing.Pipe()
    ours.close()  # as an interrupt does before anything was sent
    _work(theirs)


def test_how_a_process_ended() -> None:
    assert _end(-signal.SIGSEGV) == "crashed (SIGSEGV)"
    assert _end(-signal.SIGKILL) == "was killed (SIGKILL: most likely memory ran out)"
    assert _end(3) == "ended (status 3)"


def test_an_interrupt_ends_the_process() -> None:
    pids: list[int] = []

    def interrupt(text: str, share: float | None) -> None:
        pids.append(int(text))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        in_process(interrupt, wait_for_ever)
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)
