"""What an engine takes of the memory of its process and of an NVIDIA GPU."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from ctypes import byref, c_int, c_size_t, c_void_p
from pathlib import Path

from vpr_ros.engines.backend import Backend
from vpr_ros.nvidia_driver import usable_driver

MB = 1e6


class PeakMemory:
    """Most that this process has held since, above what it held before."""

    def __init__(self) -> None:
        before = _memory_of_process()
        self._before, self._peak = before.get("VmRSS", 0), before.get("VmHWM", 0)
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
            self._peak = _memory_of_process().get("VmHWM", 0)

    def megabytes(self) -> float | None:
        """None where the system does not say, or has seen a higher peak before."""
        peak = _memory_of_process().get("VmHWM", 0)
        return (peak - self._before) * 1024 / MB if peak > self._peak else None


def _memory_of_process() -> dict[str, int]:
    """VmRSS and VmHWM in KiB; empty where there is no Linux."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return {}
    return {name: int(size) for name, size in re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB", status, re.MULTILINE)}


def device_memory(backend: Backend) -> Callable[[], float | None]:
    """Returns what tells how many megabytes the first NVIDIA GPU has less of since now; None for other devices.

    The driver is asked in its primary context, which is there before the engine is: what a context itself takes is not counted.
    """
    if not re.search("cuda|tensorrt", backend.name):
        return lambda: None
    driver = usable_driver()
    device, context = c_int(), c_void_p()
    driver.call("cuDeviceGet", byref(device), 0)
    driver.call("cuDevicePrimaryCtxRetain", byref(context), device)

    def free() -> int:
        available, total = c_size_t(), c_size_t()
        driver.call("cuCtxPushCurrent_v2", context)
        driver.call("cuMemGetInfo_v2", byref(available), byref(total))
        driver.call("cuCtxPopCurrent_v2", byref(c_void_p()))
        return available.value

    before = free()
    return lambda: (before - free()) / MB
