"""A plan that is ready to run: the thread that owns it, and the engine that any thread may call."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from vpr_ros.engines.backend import BuildOptions
from vpr_ros.engines.tensorrt.execution import Execution
from vpr_ros.errors import EngineError, ModelError
from vpr_ros.model import PlaceModel

if TYPE_CHECKING:
    from vpr_ros.engines.tensorrt.backend import TensorRtBackend

T = TypeVar("T")


class TensorRtEngine:
    """A plan that is ready to run, with a thread of its own that alone touches the GPU."""

    def __init__(self, model: PlaceModel, plan: bytes, options: BuildOptions, backend: TensorRtBackend) -> None:
        """Raises EngineError."""
        self.model = model
        self.name = f"{backend.name} {options.precision}"
        self._lock = threading.Lock()
        self._worker = ThreadPoolExecutor(1, backend.name)
        self._closed = False
        try:
            self._execution = self._on_worker(lambda: Execution(model, plan, options.batch, backend))
        except BaseException:
            self._worker.shutdown()
            raise

    def describe(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, H, W, 3) RGB uint8 of the model's size -> (N, D) float32, unit length.

        Raises EngineError for images of another size, where CUDA or TensorRT fails, and after `close`.
        """
        return self._run(images)[0]

    def describe_with_mask(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """As `describe`, and masks (N, h, w) float32 in [0, 1]. Raises ModelError for a model that has none."""
        if self.model.mask_size is None:
            raise ModelError(f"model {self.model.name} has no mask: it has no attention that makes one")
        descriptors, masks = self._run(images)
        return descriptors, masks

    def close(self) -> None:
        """Free the GPU's memory and end the thread. A second call does nothing."""
        with self._lock:
            if self._closed:
                return
            with suppress(EngineError):  # after a failure of CUDA nothing can be freed; the end of the process will
                self._on_worker(self._execution.free)
            self._closed = True
            self._worker.shutdown()

    def _run(self, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        size = (self.model.height, self.model.width, 3)
        if images.shape[1:] != size or images.dtype != np.uint8:
            raise EngineError(f"images must be uint8 (N, {size[0]}, {size[1]}, 3), not {images.dtype} {images.shape}")
        return self._on_worker(lambda: self._execution.run(images))

    def _on_worker(self, work: Callable[[], T]) -> T:
        if self._closed:
            raise EngineError(f"the engine {self.name} is closed")
        try:
            return self._worker.submit(work).result()
        except EngineError:
            raise
        except Exception as error:  # pycuda's and pybind11's own classes
            raise EngineError(f"{self.name}: {error}") from error
