"""The engine that was asked for, opened beside the running node: a robot does not wait for a compiler."""

from __future__ import annotations

import threading
from collections.abc import Callable

from vpr_ros.engines.backend import BuildProgress, Engine
from vpr_ros.errors import VprError


class _Cancelled(Exception):
    """Ends a build from within its progress."""


class EngineBuild:
    """Calls `open_engine(progress)` in a thread of its own and hands the engine to `use`; `fail` hears why there is none.

    `state` says what is being done, for diagnostics; empty when it is over. None of the calls comes after `cancel`.
    """

    def __init__(
        self,
        open_engine: Callable[[BuildProgress], Engine],
        use: Callable[[Engine], None],
        fail: Callable[[str], None],
        say: Callable[[str], object],
    ) -> None:
        self._open_engine, self._use, self._fail, self._say = open_engine, use, fail, say
        self._is_cancelled = threading.Event()
        self.state = "opening the engine"
        self._thread = threading.Thread(target=self._run, name="vpr_engine_build", daemon=True)
        self._thread.start()

    def cancel(self, timeout_s: float) -> bool:
        """End the build at its next step, and wait for that, but not longer; whether the thread has ended."""
        self._is_cancelled.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _progress(self, text: str, share: float | None) -> None:
        if self._is_cancelled.is_set():
            raise _Cancelled
        self.state = text if share is None else f"{text}: {100 * share:.0f} %"
        if share is None:
            self._say(text)

    def _fail_unless_cancelled(self, reason: str) -> None:
        if not self._is_cancelled.is_set():
            self._fail(reason)

    def _run(self) -> None:
        try:
            engine = self._open_engine(self._progress)
            if self._is_cancelled.is_set():
                engine.close()
            else:
                self._use(engine)
        except _Cancelled:
            pass
        except VprError as error:
            self._fail_unless_cancelled(str(error))
        except Exception as error:  # whatever a library throws: the node goes on with the engine it has
            self._fail_unless_cancelled(f"the engine failed to open: {type(error).__name__}: {error}")
        finally:
            self.state = ""
