"""The NVIDIA driver, asked through ctypes: what sits on top of it has crashed where it is missing."""

from __future__ import annotations

import ctypes
from typing import Any

from vpr_ros.errors import EngineError


class NvidiaDriver:
    """The NVIDIA driver without pycuda: for CUDA graphs, and to ask for a GPU before importing what may crash.

    Raises EngineError, with a clause that names the fix, where there is none.
    """

    def __init__(self) -> None:
        try:
            self._library = _open_driver()
        except OSError as error:
            raise EngineError(
                "there is no NVIDIA driver (libcuda.so.1): install one, or start the container with --gpus all"
            ) from error
        try:
            self.call("cuInit", 0)
            count = ctypes.c_int()
            self.call("cuDeviceGetCount", ctypes.byref(count))
        except EngineError as error:
            raise EngineError(f"the NVIDIA driver finds no usable GPU ({error}): see what nvidia-smi says") from error
        if count.value == 0:
            raise EngineError("the NVIDIA driver sees no GPU: check CUDA_VISIBLE_DEVICES and nvidia-smi")

    def call(self, function: str, *arguments: Any) -> None:
        """Raises EngineError unless the driver answers CUDA_SUCCESS."""
        try:
            error = getattr(self._library, function)(*arguments)
        except AttributeError as missing:
            raise EngineError(f"the NVIDIA driver has no {function}") from missing
        if error:
            raise EngineError(f"{function}: CUDA error {error}")

    def device(self) -> str:
        """`Orin sm_87`."""
        name = ctypes.create_string_buffer(256)
        handle, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
        self.call("cuDeviceGet", ctypes.byref(handle), 0)
        self.call("cuDeviceGetName", name, len(name), handle)
        self.call("cuDeviceGetAttribute", ctypes.byref(major), 75, handle)  # COMPUTE_CAPABILITY_MAJOR
        self.call("cuDeviceGetAttribute", ctypes.byref(minor), 76, handle)
        return f"{name.value.decode(errors='replace')} sm_{major.value}{minor.value}"

    def version(self) -> str:
        """The newest CUDA that the driver knows: `CUDA 12.6`."""
        version = ctypes.c_int()
        self.call("cuDriverGetVersion", ctypes.byref(version))
        return f"CUDA {version.value // 1000}.{version.value % 1000 // 10}"


def _open_driver() -> Any:
    return ctypes.CDLL("libcuda.so.1")
