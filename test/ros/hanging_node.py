"""A vpr_node whose engine hangs: `hanging_node.py FILE [configure] --ros-args ...` while FILE exists, or already while it is configured."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vpr_ros.engines.onnxruntime_engine import OnnxRuntimeEngine
from vpr_ros.ros import recogniser
from vpr_ros.ros.vpr_node import main

real = OnnxRuntimeEngine.describe


def hang() -> None:
    """Without the interpreter's lock and deaf to signals, as a library does: a mutex is locked twice."""
    print("it hangs", flush=True)
    mutex = ctypes.create_string_buffer(64)  # zeros: PTHREAD_MUTEX_INITIALIZER
    libc = ctypes.CDLL(None)
    libc.pthread_mutex_lock(mutex)
    libc.pthread_mutex_lock(mutex)


def describe(self: OnnxRuntimeEngine, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    if switch.exists():
        hang()
    return real(self, images)


def open_reference(*_: Any) -> Any:
    hang()


switch = Path(sys.argv.pop(1))
if sys.argv[1] == "configure":
    recogniser.open_reference = open_reference  # type: ignore[assignment]
OnnxRuntimeEngine.describe = describe  # type: ignore[method-assign]
main()
