"""Prunes the map beside the running node: what can go is found in a thread of its own, and only removed under the detector's lock."""

from __future__ import annotations

import threading
from collections.abc import Callable

from vpr_ros.recognition.loop_detector import LoopDetector


class Pruning:
    """At most one pruning at a time; `say` and `fail` get a sentence about each."""

    def __init__(self, lock: threading.Lock, say: Callable[[str], object], fail: Callable[[str], object]) -> None:
        self._lock, self._say, self._fail = lock, say, fail
        self._thread: threading.Thread | None = None

    def start_if_due(self, detector: LoopDetector) -> None:
        """The caller holds the lock."""
        is_running = self._thread is not None and self._thread.is_alive()
        if detector.is_over_budget and not is_running:
            self._thread = threading.Thread(target=self._run, args=(detector,), name="vpr_map_pruning", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Waits for the one in work."""
        if self._thread is not None:
            self._thread.join()

    def _run(self, detector: LoopDetector) -> None:
        try:
            plan = detector.redundant()
            with self._lock:
                detector.prune(plan)
            self._say(f"pruned the map by {len(plan.removed)} keyframes to {len(detector.map)}")
            if not plan.removed:
                self._fail(
                    "the map is larger than its budget (map.max_keyframes, map.max_mb), but each keyframe is the last one of its place"
                )
        except Exception as error:  # a disk that is full, say: the node goes on with the map that it has
            self._fail(f"the map is not pruned: {error or type(error).__name__}")
