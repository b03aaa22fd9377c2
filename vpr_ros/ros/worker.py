"""One thread that works on the newest item; an item that comes while it is busy replaces the one that waits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class LatestWorker(Generic[T]):
    """Calls `work(item)` in its own thread, never queueing: a robot wants the newest image, not the oldest."""

    def __init__(self, work: Callable[[T], None], on_error: Callable[[Exception], None]) -> None:
        self._work, self._on_error = work, on_error
        self._condition = threading.Condition()
        self._waiting: list[T] = []
        self._is_stopping = False
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="vpr_worker", daemon=True)
        self._thread.start()

    def offer(self, item: T) -> None:
        """Hand over an item; one that still waited is dropped and counted."""
        with self._condition:
            self.dropped += len(self._waiting)
            self._waiting = [item]
            self._condition.notify()

    def stop(self) -> None:
        """Finish the item in work and join the thread."""
        with self._condition:
            self._is_stopping = True
            self._condition.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._waiting or self._is_stopping)
                if self._is_stopping:
                    return
                item = self._waiting.pop()
            try:
                self._work(item)
            except Exception as error:
                self._on_error(error)
