"""The NVIDIA driver, asked through ctypes: what sits on top of it has crashed where it is missing."""

from __future__ import annotations

import ctypes
from typing import Any

from vpr_ros.errors import EngineError


class NvidiaDriver:
    """The driver, whether or not it can use a GPU. Raises OSError where there is none.

    `error` is the code of the function that failed when it was started, 0 if none did; `count` is the number of GPUs that
    it sees, 0 after an error.
    """

    def __init__(self) -> None:
        self._library = _open_driver()
        count = ctypes.c_int()
        self.failed, self.error, self.count = "", 0, 0
        for function, arguments in (("cuInit", (0,)), ("cuDeviceGetCount", (ctypes.byref(count),))):
            self.error = getattr(self._library, function)(*arguments)
            if self.error:
                self.failed = function
                return
        self.count = count.value

    def call(self, function: str, *arguments: Any) -> None:
        """Raises EngineError unless the driver returns CUDA_SUCCESS."""
        try:
            error = getattr(self._library, function)(*arguments)
        except AttributeError as missing:
            raise EngineError(f"the NVIDIA driver has no {function}") from missing
        if error:
            raise EngineError(f"{function}: CUDA error {error}")

    def device(self, index: int = 0) -> str:
        """`Orin sm_87`."""
        name = ctypes.create_string_buffer(256)
        handle, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
        self.call("cuDeviceGet", ctypes.byref(handle), index)
        self.call("cuDeviceGetName", name, len(name), handle)
        self.call("cuDeviceGetAttribute", ctypes.byref(major), 75, handle)  # COMPUTE_CAPABILITY_MAJOR
        self.call("cuDeviceGetAttribute", ctypes.byref(minor), 76, handle)  # COMPUTE_CAPABILITY_MINOR
        return f"{name.value.decode(errors='replace')} sm_{major.value}{minor.value}"

    def version(self) -> str:
        """The newest CUDA that the driver knows: `CUDA 12.6`."""
        version = ctypes.c_int()
        self.call("cuDriverGetVersion", ctypes.byref(version))
        return f"CUDA {version.value // 1000}.{version.value % 1000 // 10}"


def usable_driver() -> NvidiaDriver:
    """The driver of a machine with a GPU. Raises EngineError, with a clause that names the fix, where there is none."""
    try:
        driver = NvidiaDriver()
    except OSError as error:
        raise EngineError(
            "there is no NVIDIA driver (libcuda.so.1): install one, or start the container with --gpus all"
        ) from error
    if driver.error:
        raise EngineError(
            f"the NVIDIA driver finds no usable GPU ({driver.failed}: CUDA error {driver.error}): see nvidia-smi"
        )
    if driver.count == 0:
        raise EngineError("the NVIDIA driver sees no GPU: check CUDA_VISIBLE_DEVICES and nvidia-smi")
    return driver


def _open_driver() -> Any:
    return ctypes.CDLL("libcuda.so.1")
