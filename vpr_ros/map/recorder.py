"""Writes to a map file in a thread of its own: whoever adds a keyframe never waits for the disk."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from vpr_ros.errors import MapError
from vpr_ros.map.rows import Change

RETRY_S = 1.0
"""A disk that was full may have room again."""
MOST_GROUPS = 200
"""In one transaction."""


class Sink(Protocol):
    """What a recorder needs of a store."""

    def write(self, rows: Sequence[Change], /) -> None:
        """All or none; durable when it returns. Raises MapError."""


class Recorder:
    """Groups of rows are written in the order in which they came, as many at a time as have gathered, in one transaction.

    What the disk refuses waits in memory and is tried again; `fault` has the reason meanwhile.
    """

    def __init__(self, sink: Sink, on_written: Callable[[Sequence[Change]], object]) -> None:
        """`on_written` is called in the recorder's thread with rows that are durable now."""
        self.fault = ""
        self._sink, self._on_written = sink, on_written
        self._groups: list[Sequence[Change]] = []
        self._added = self._written = self._attempts = 0
        self._changed = threading.Condition()
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="vpr_map_recorder", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> list[Change]:
        """Rows that are not durable yet, oldest first."""
        with self._changed:
            return [row for group in self._groups for row in group]

    def add(self, group: Sequence[Change]) -> None:
        """All of its rows will be there, or none."""
        with self._changed:
            self._groups.append(group)
            self._added += 1
            self._changed.notify_all()

    def flush(self) -> None:
        """Wait until everything that was added before is durable. Raises MapError where the disk refuses."""
        with self._changed:
            goal, attempts = self._added, self._attempts
            self._changed.notify_all()  # tried again at once
            self._changed.wait_for(lambda: self._written >= goal or (self.fault and self._attempts > attempts))
            if self._written < goal:
                raise MapError(self.fault)

    def close(self) -> None:
        """Ends the thread, after a last attempt at what waits. Raises MapError where that fails."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        self._thread.join()
        if self._groups:
            raise MapError(self.fault)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._groups or self._is_closing)
                groups = self._groups[:MOST_GROUPS]
                is_last = self._is_closing
            if not groups:
                return
            fault = self._write([row for group in groups for row in group])
            with self._changed:
                self.fault = fault
                self._attempts += 1
                if not fault:
                    del self._groups[: len(groups)]
                    self._written += len(groups)
                self._changed.notify_all()
                if fault and is_last:
                    return
                if fault:
                    self._changed.wait(RETRY_S)

    def _write(self, rows: Sequence[Change]) -> str:
        """What the disk refused, empty if nothing."""
        try:
            self._sink.write(rows)
        except Exception as error:  # no memory, say: rows stay, and are tried again
            return str(error) or type(error).__name__
        try:
            self._on_written(rows)
        except Exception:
            logging.getLogger(__name__).exception("a keyframe was recorded, but not announced")
        return ""
