"""One thread that works on the newest items; one that comes while it is busy replaces the one that waits of its source."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

T = TypeVar("T")


class LatestWorker(Generic[T]):
    """Calls `work({source: item})` in its own thread, never queueing: a robot wants the newest images, not the oldest.

    A batch is all that waits, at most one item of each source, in the order of arrival. It never waits for a source: one that
    falls silent does not hold up the others, and sources that come together while the thread is busy form one batch.
    """

    def __init__(
        self, work: Callable[[Mapping[str, T]], None], on_error: Callable[[Mapping[str, T], Exception], None]
    ) -> None:
        self._work, self._on_error = work, on_error
        self._condition = threading.Condition()
        self._waiting: dict[str, T] = {}
        self._is_stopping = False
        self._busy_since_s: float | None = None
        self.dropped: Counter[str] = Counter()
        """By source."""
        self._thread = threading.Thread(target=self._run, name="vpr_worker", daemon=True)
        self._thread.start()

    def offer(self, source: str, item: T) -> None:
        """Hand over an item; one of the same source that still waited is dropped and counted."""
        with self._condition:
            if source in self._waiting:
                del self._waiting[source]  # so that the new one is last in the order of arrival
                self.dropped[source] += 1
            self._waiting[source] = item
            self._condition.notify()

    @property
    def busy_s(self) -> float:
        """How long the batch in work has been that; 0 if there is none."""
        since = self._busy_since_s
        return 0.0 if since is None else time.monotonic() - since

    def stop(self, timeout_s: float) -> bool:
        """Wait for the batch in work, but not longer; whether the thread has ended. It ends with that batch in any case."""
        with self._condition:
            self._is_stopping = True
            self._condition.notify()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._waiting or self._is_stopping)
                if self._is_stopping:
                    return
                batch, self._waiting = self._waiting, {}
            self._busy_since_s = time.monotonic()
            try:
                self._work(batch)
            except Exception as error:
                self._on_error(batch, error)
            finally:
                self._busy_since_s = None
