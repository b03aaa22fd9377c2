"""A process of its own for what may crash, and whose memory is counted."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from vpr_ros.engines.backend import BuildProgress
from vpr_ros.errors import EngineError, VprError

T = TypeVar("T")


def in_process(progress: BuildProgress, work: Callable[..., T], *arguments: Any) -> T:
    """What `work(progress, *arguments)` returns in a process of its own, which is ended if this is interrupted.

    Raises the VprError that it raises, and EngineError for what else ends it: a crash, or no memory.
    """
    context = multiprocessing.get_context("spawn")  # threads of libraries do not survive a fork
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs,), daemon=True)
    last = "before it had begun"
    try:
        # Ctrl-C reaches the whole group: it is for us to end the process, without its traceback on the screen
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # is inherited
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        theirs.close()
        ours.send((work, arguments))  # not with the start: a process whose start is interrupted has nothing to do
        while True:
            kind, value = ours.recv()
            if kind == "told":
                last = f"while {value[0].partition(':')[0]}"
                progress(*value)
            elif kind == "failed":
                raise value
            else:
                return value
    except (EOFError, ConnectionError):
        process.join()
        raise EngineError(f"the process {_end(process.exitcode)} {last}") from None
    finally:
        theirs.close()
        ours.close()
        if process.pid is not None:
            process.terminate()
            process.join()


def _work(theirs: Connection) -> None:
    """In the process: do what is sent, and send what is told and what came of it."""

    def progress(text: str, share: float | None) -> None:
        theirs.send(("told", (text, share)))

    try:
        work, arguments = theirs.recv()
    except EOFError:  # interrupted
        return
    try:
        answer = ("done", work(progress, *arguments))
    except VprError as error:
        answer = ("failed", error)
    except Exception as error:
        answer = ("failed", EngineError(f"{type(error).__name__}: {error}"))
    theirs.send(answer)


def _end(exitcode: int | None) -> str:
    if exitcode == -signal.SIGKILL:
        return "was killed (SIGKILL: most likely memory ran out)"
    if exitcode is not None and exitcode < 0:
        return f"crashed ({signal.Signals(-exitcode).name})"
    return f"ended (status {exitcode})"
