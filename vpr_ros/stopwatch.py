"""How long each stage takes. Callers own the clock; the algorithm only names its stages."""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray


class Stopwatch:
    """Collects durations in seconds by stage; keeps the last `keep` of each (None: all). Threads may share one."""

    def __init__(self, keep: int | None = None, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._seconds: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=keep))

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time what runs inside the `with`."""
        start = self._clock()
        try:
            yield
        finally:
            self.add(stage, self._clock() - start)

    def add(self, stage: str, seconds: float) -> None:
        with self._lock:
            self._seconds[stage].append(seconds)

    @property
    def seconds(self) -> dict[str, NDArray[np.float64]]:
        """Durations by stage, oldest first."""
        with self._lock:
            return {stage: np.array(values) for stage, values in self._seconds.items()}
