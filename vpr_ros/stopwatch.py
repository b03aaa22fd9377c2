"""How long work takes: stages that an algorithm names, and calls that are compared with one another."""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

WARM_UP = 3
"""Calls that do not count: the first are slower."""
MIN_ROUNDS = 5
"""That even the slowest call gets."""


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


def in_turns(
    calls: Sequence[Callable[[], object]],
    rounds: int,
    *,
    warm_up: int = WARM_UP,
    limit_s: float = 30.0,
    clock: Callable[[], float] = time.perf_counter,
) -> list[NDArray[np.float64]]:
    """Seconds of each call in each of `rounds`, after a warm-up: what is compared is timed while the machine is as busy.

    Every other round is in reverse order, so that none gains from what ran before it. A call that has taken `limit_s`
    sits out the rounds that are left, after MIN_ROUNDS: results may have different lengths, and the same index is the same
    round. `clock` returns seconds; one for a GPU waits for its work.
    """
    for call in calls:
        for _ in range(warm_up):
            call()
    seconds: list[list[float]] = [[] for _ in calls]
    for number in range(rounds):
        for call, times in list(zip(calls, seconds, strict=True))[:: -1 if number % 2 else 1]:
            if number >= MIN_ROUNDS and sum(times) > limit_s:
                continue
            start = clock()
            call()
            times.append(clock() - start)
    return [np.array(times) for times in seconds]
