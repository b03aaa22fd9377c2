"""What an engine has on the GPU: contexts, buffers, a stream, and recorded CUDA graphs."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vpr_ros.engines.tensorrt.library import libraries, logger
from vpr_ros.errors import EngineError
from vpr_ros.model import MASK, PlaceModel
from vpr_ros.nvidia_driver import usable_driver

if TYPE_CHECKING:
    from vpr_ros.engines.tensorrt.backend import TensorRtBackend


class Contexts:
    """Makes execution contexts of an engine. `for_one_size`: of batches of one size, which is worth preparing for."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def new(self, for_one_size: bool) -> Any:
        return self._engine.create_execution_context()

    def has_run(self) -> None:
        """Called after the first inference of each context."""


@dataclass
class _Buffer:
    """One input or output: pinned memory of the host and memory of the GPU, for the largest batch."""

    name: str
    host: Any
    device: Any


@dataclass
class _Run:
    """An execution context and, once recorded, the CUDA graph of copy, inference and copy for one batch size."""

    context: Any
    is_new: bool = True
    graph: int = 0


class Execution:
    """What an engine has on the GPU. Made, used and freed by one thread."""

    def __init__(self, model: PlaceModel, plan: bytes, batch: int, backend: TensorRtBackend) -> None:
        self._backend = backend
        self._trt, self._cuda = libraries(backend.module)
        self._driver = usable_driver()
        self._runs: dict[int, _Run] = {}
        self._buffers: list[_Buffer] = []
        self._runtime: Any = None
        self._engine: Any = None
        self._contexts: Any = None
        self._stream: Any = None
        self._cuda.init()
        self._context = self._cuda.Device(0).retain_primary_context()  # the one that TensorRT and other libraries use
        try:
            with self._current():
                self._open(model, plan, batch)
        except BaseException:
            with suppress(Exception):  # the first failure is the one to tell
                self.free()
            raise

    def run(self, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """(N, H, W, 3) -> the descriptors and, for a model that has them, masks. Cuts what is larger than the batch."""
        image, *outputs = self._buffers
        results = [np.empty((len(images), *output.host.shape[1:]), np.float32) for output in outputs]
        with self._current():
            for start in range(0, len(images), self._most):
                part = images[start : start + self._most]
                image.host[: len(part)] = part
                self._execute(max(len(part), self._least))  # a plan of one batch size computes rows that nobody reads
                for output, result in zip(outputs, results, strict=True):
                    result[start : start + len(part)] = output.host[: len(part)]
        return results

    def free(self) -> None:
        """Everything in the opposite order of its making."""
        with self._current():
            for run in self._runs.values():
                if run.graph:
                    self._driver.call("cuGraphExecDestroy", ctypes.c_void_p(run.graph))
                run.context = None
            self._runs.clear()
            self._contexts = None
            self._engine = None
            self._runtime = None
            for buffer in self._buffers:
                buffer.device.free()
                buffer.host.base.free()
            self._buffers.clear()
            self._stream = None
        self._context.detach()

    @contextmanager
    def _current(self) -> Iterator[None]:
        self._context.push()
        try:
            yield
        finally:
            self._cuda.Context.pop()

    def _open(self, model: PlaceModel, plan: bytes, batch: int) -> None:
        trt, log = self._trt, logger(self._trt)
        self._runtime = runtime = self._backend.started(trt.Runtime, log)
        if self._backend.version_compatible:
            runtime.engine_host_code_allowed = True  # the plan brings a library; our cache vouches for the file
        self._engine = engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise EngineError(f"{self._backend.title} refuses the engine file: {log.reason()}; build it again")
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        descriptors = [name for name in names if name not in inputs and name != MASK]
        masks = [MASK] if MASK in names else []
        expected = [((model.height, model.width, 3), trt.DataType.UINT8), ((model.dim,), trt.DataType.FLOAT)]
        if model.mask_size is not None:
            expected.append((model.mask_size, trt.DataType.FLOAT))
        ordered = inputs + descriptors + masks
        found = [(tuple(engine.get_tensor_shape(name))[1:], engine.get_tensor_dtype(name)) for name in ordered]
        if found != expected:
            raise EngineError(f"the engine file is of another model: {found} instead of {expected}; build it again")
        self._least = self._most = engine.get_tensor_shape(inputs[0])[0]
        if self._least == -1:
            least, _, most = engine.get_tensor_profile_shape(inputs[0], 0)
            self._least, self._most = least[0], min(batch, most[0])
        self._contexts = self._backend.contexts(engine)
        self._stream = self._cuda.Stream(1)  # CU_STREAM_NON_BLOCKING: no other library's default stream may stall it
        for name, (shape, dtype) in zip(ordered, expected, strict=True):
            kind = np.uint8 if dtype == trt.DataType.UINT8 else np.float32
            host = self._cuda.pagelocked_empty((self._most, *shape), kind)
            host[:] = 0
            self._buffers.append(_Buffer(name, host, self._cuda.mem_alloc(host.nbytes)))

    def _execute(self, size: int) -> None:
        """The first `size` images in the input buffer -> the output buffers."""
        own = size in (self._least, self._most)
        run = self._runs.get(size if own else 0) or self._prepare(size, own)
        if run.graph:
            self._driver.call("cuGraphLaunch", ctypes.c_void_p(run.graph), self._handle())
            self._stream.synchronize()
            return
        if not own and not run.context.set_input_shape(self._buffers[0].name, (size, *self._buffers[0].host.shape[1:])):
            raise EngineError(f"{self._backend.title} refuses a batch of {size}: {logger(self._trt).reason()}")
        self._enqueue(run, size)
        self._stream.synchronize()
        if run.is_new:
            run.is_new = False
            self._contexts.has_run()
            if own and self._backend.cuda_graphs:
                run.graph = self._record(run, size)

    def _prepare(self, size: int, own: bool) -> _Run:
        """A context for batches of `size`, or for all that have none of their own."""
        title = self._backend.title
        context = self._contexts.new(for_one_size=own)
        if context is None:
            raise EngineError(f"no memory for {title}'s activations: {logger(self._trt).reason()}")
        image = self._buffers[0]
        for buffer in self._buffers:
            if not context.set_tensor_address(buffer.name, int(buffer.device)):
                raise EngineError(f"{title} refuses the buffer of {buffer.name}: {logger(self._trt).reason()}")
        if own and not context.set_input_shape(image.name, (size, *image.host.shape[1:])):
            raise EngineError(f"{title} refuses a batch of {size}: {logger(self._trt).reason()}")
        run = self._runs[size if own else 0] = _Run(context)
        return run

    def _enqueue(self, run: _Run, size: int) -> None:
        image, *outputs = self._buffers
        self._cuda.memcpy_htod_async(image.device, image.host[:size], self._stream)
        if not run.context.execute_async_v3(self._stream.handle):
            raise EngineError(f"{self._backend.title} failed to run: {logger(self._trt).reason()}")
        for output in outputs:
            self._cuda.memcpy_dtoh_async(output.host[:size], output.device, self._stream)

    def _record(self, run: _Run, size: int) -> int:
        """The handle of a graph of what just ran, 0 if that cannot be recorded or does not repeat itself.

        It follows a plain run because TensorRT does work at the first run after a change of shape that no graph can
        hold.
        """
        plain = [output.host[:size].copy() for output in self._buffers[1:]]
        graph, executable = ctypes.c_void_p(), ctypes.c_void_p()
        try:
            self._driver.call("cuStreamBeginCapture_v2", self._handle(), 1)  # mode THREAD_LOCAL: others go on
            try:
                self._enqueue(run, size)
            finally:
                self._driver.call("cuStreamEndCapture", self._handle(), ctypes.byref(graph))
            try:
                self._driver.call("cuGraphInstantiateWithFlags", ctypes.byref(executable), graph, ctypes.c_ulonglong(0))
            finally:
                self._driver.call("cuGraphDestroy", graph)
            for output in self._buffers[1:]:  # so that what stays from the plain run cannot pass for the graph's
                output.host[:size] = np.nan
                self._cuda.memcpy_htod_async(output.device, output.host[:size], self._stream)
            self._driver.call("cuGraphLaunch", executable, self._handle())
            self._stream.synchronize()
            replayed = [output.host[:size] for output in self._buffers[1:]]
            if all(np.allclose(a, b, atol=1e-4) for a, b in zip(plain, replayed, strict=True)):
                return executable.value or 0
            self._driver.call("cuGraphExecDestroy", executable)
        except (EngineError, self._cuda.Error):
            pass  # without a graph it is slower, not wrong
        for output, result in zip(self._buffers[1:], plain, strict=True):
            output.host[:size] = result
        return 0

    def _handle(self) -> ctypes.c_void_p:
        return ctypes.c_void_p(self._stream.handle)
