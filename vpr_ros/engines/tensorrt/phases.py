"""How far a build is: TensorRT's nested phases, as its progress monitor reports them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


class Phases:
    """TensorRT's nested phases -> text and share. Its threads call, another one reads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._phases: dict[str, tuple[str | None, int, int]] = {}  # name -> parent, steps done, steps; newest last

    def start(self, phase: str, parent: str | None, steps: int) -> None:
        with self._lock:
            self._phases[phase] = (parent, 0, max(steps, 1))

    def step(self, phase: str, step: int) -> None:
        with self._lock:
            if phase in self._phases:
                parent, _, steps = self._phases[phase]
                self._phases[phase] = (parent, step + 1, steps)

    def finish(self, phase: str) -> None:
        with self._lock:
            self._phases.pop(phase, None)

    def state(self) -> tuple[str, float | None]:
        """The newest phase with those around it, outermost first, and the share of the outermost that is done."""
        with self._lock:
            names: list[str] = []
            share = 0.0
            phase = next(reversed(self._phases), None)
            while phase is not None and phase in self._phases and phase not in names:
                parent, done, steps = self._phases[phase]
                share = min(1.0, (done + share) / steps)
                names.append(phase)
                phase = parent
        return " > ".join(reversed(names)), share if names else None


def can_monitor(trt: Any) -> bool:
    return hasattr(trt, "IProgressMonitor")


def monitor(trt: Any, phases: Phases, is_cancelled: Callable[[], bool]) -> Any:
    """A progress monitor, which TensorRT calls from its own threads, several at once; it ends a cancelled build."""

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)  # pybind11 wants the base's own, not super()'s

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            phases.start(phase_name, parent_phase, num_steps)

        def phase_finish(self, phase_name: str) -> None:
            phases.finish(phase_name)

        def step_complete(self, phase_name: str, step: int) -> bool:
            phases.step(phase_name, step)
            return not is_cancelled()

    return Monitor()
