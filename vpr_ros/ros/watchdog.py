"""What never returns does not hold up the rest: an inference, a compiler, the opening of a model."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import rclpy

STALLED_S = 10.0
"""A frame that is in work for so long is an error on /diagnostics, and logged."""
STOP_S = 3.0
"""How long the node waits for a frame in work, or an engine that is built, when it stops. `ros2 launch` kills after 10 s."""
_LOOK_S = 0.2


@contextmanager
def ends_with_ros() -> Iterator[None]:
    """Ends the process where ROS is shut down (by a signal, say) and the block does not end within `STOP_S`.

    For calls that may never return, in whatever thread: signals only reach Python between two of its own steps.
    """
    is_over = threading.Event()

    def watch() -> None:
        while rclpy.ok():
            if is_over.wait(_LOOK_S):
                return
        if not is_over.wait(STOP_S):
            print("vpr_node: ends while it starts, in the midst of what does not return", file=sys.stderr)
            exit_now(1)

    threading.Thread(target=watch, name="vpr_watchdog", daemon=True).start()
    try:
        yield
    finally:
        is_over.set()


def exit_now(status: int) -> NoReturn:
    """End the process without what Python and libraries do last: they would wait for a thread that never ends, or crash."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
