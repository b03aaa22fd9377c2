"""The library itself and pycuda, its version, and its one logger."""

from __future__ import annotations

import functools
import importlib
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def libraries(module: str) -> tuple[Any, Any]:
    """The module and pycuda.driver. Only after `usable_driver` has found a GPU. Raises ImportError."""
    import pycuda.driver

    return importlib.import_module(module), pycuda.driver


def version_of(trt: Any) -> tuple[int, ...]:
    return tuple(int(part) for part in trt.__version__.split(".")[:2])


@functools.cache
def logger(trt: Any) -> Any:
    """One for the process: TensorRT keeps the first that it is given."""
    severity = trt.ILogger.Severity

    class Logger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)  # pybind11 wants the base's own, not super()'s
            self.said = ""
            self.layers = ""
            self._listens = False
            self._errors: deque[str] = deque(maxlen=8)
            self._failed: set[int] = set()  # threads in which there was an error
            self._warnings: deque[str] = deque(maxlen=8)

        def log(self, level: Any, message: str) -> None:
            """TensorRT calls it from its own threads."""
            if level in (severity.INTERNAL_ERROR, severity.ERROR):
                self._errors.append(message)
                self._failed.add(threading.get_ident())
            elif level == severity.WARNING:
                self._warnings.append(message)
            elif level == severity.INFO:
                self.said = message
            elif self._listens and message.startswith("Layers:"):
                self.layers = message

        @contextmanager
        def listening_for_layers(self, wanted: bool) -> Iterator[None]:
            """The library describes what it has built at level VERBOSE; it describes a thousand other things there."""
            self._listens, self.layers = wanted, ""
            try:
                yield
            finally:
                self._listens = False

        def clear(self) -> None:
            self.said = ""
            self._errors.clear()
            self._warnings.clear()
            self._failed.discard(threading.get_ident())

        def failed(self) -> bool:
            """Whether there was an error in this thread since `clear`; a build in another one logs its own."""
            return threading.get_ident() in self._failed

        def reason(self) -> str:
            """The last error since `clear`, or else the last warning."""
            for kept in (self._errors, self._warnings):
                if kept:
                    return " ".join(kept[-1].split())
            return "TensorRT gave no reason"

    return Logger()
