"""TensorRT: every call of TensorRT and pycuda that vpr_ros makes.

Written for TensorRT 8.5 (JetPack 5.1), 8.6 (JetPack 6.0), 10 (JetPack 6.1 and 7, desktop) and 11 (desktop). **Nothing
here has run on a GPU yet**: names and signatures are compared with the bindings of 8.6.1, 10.0.1 and 11.4.0 (8.5's
could not be had) in test/engines/test_tensorrt_engine.py, the flow runs there against an imitation of them, the CUDA
calls ran with the real pycuda 2026.1 over a driver that is not one, and `vpr engine selftest` is how a machine with a
GPU answers.

- Precision is in the graph. From 10 on networks are strongly typed and obey it. 8 cannot: it is allowed FP16 or INT8
  and may then also lower operators that the graph keeps in float32; the parity gate judges the result.
- TensorRT takes uint8 only into a cast (NVIDIA/TensorRT#3985) and dequantises no int32 (onnxruntime#14229):
  `_readable` moves a transposition behind the cast and undoes quantised constants. What the model computes stays the
  same.
- One thread owns the context, stream, buffers and graphs of an engine. The context is current only while a call runs:
  pycuda aborts the process if a thread ends with a context on its stack.
- pycuda 2026.1 has no CUDA graphs; six functions of the driver, which is open anyway, do (`NvidiaDriver`). A graph
  belongs to one execution context and one batch size: batch 1 and the largest batch have them, sizes between run
  without.
- The GPU is device 0; CUDA_VISIBLE_DEVICES chooses which one that is.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import importlib.util
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from vpr_ros.engines.backend import BuildOptions, Progress
from vpr_ros.engines.layers import Layer, layers_of
from vpr_ros.engines.nvidia_driver import NvidiaDriver
from vpr_ros.errors import EngineError, ModelError
from vpr_ros.files import whole_file
from vpr_ros.model import MASK, PlaceModel

if TYPE_CHECKING:
    from onnx import GraphProto

VERSION_COMPATIBLE = "version-compatible"
"""In the identity of engines that outlive an update within their major version."""
WORKSPACE_BYTES = 1 << 30
"""Scratch memory that an operator may ask for. TensorRT's default is the whole GPU: on a Jetson all of the RAM."""
PERIOD_S = 0.5
"""A build reports, and notices that it shall end, this often."""
T = TypeVar("T")


@dataclass
class TensorRtBackend:
    """Compiles models with TensorRT and runs them.

    `cache` is a folder for timing caches, which make later builds faster; None keeps none. A `version_compatible`
    engine also runs in later versions of TensorRT, somewhat slower. `cuda_graphs` launches a whole inference at once.
    """

    cache: Path | None = None
    version_compatible: bool = False
    cuda_graphs: bool = True

    name = "tensorrt"
    title = "TensorRT"
    module = "tensorrt"
    oldest = (8, 5)
    how_to_install = (
        "on a Jetson `sudo apt install python3-libnvinfer` and a virtual environment made with --system-site-packages;"
        " elsewhere `pip install tensorrt`"
    )
    how_to_update = "update to 8.5 (JetPack 5.1) or later"
    precisions = ("fp32", "fp16", "int8")
    needs_symmetric_int8 = True

    def missing(self) -> str:
        """Why TensorRT cannot run here, as one clause that names the fix; empty if it can.

        The driver is asked before TensorRT and pycuda are imported: without one, TensorRT crashes where it should
        raise.
        """
        if importlib.util.find_spec(self.module) is None:
            return f"{self.title} is not installed: {self.how_to_install}"
        if importlib.util.find_spec("pycuda") is None:
            return "pycuda is not installed: `pip install pycuda` with /usr/local/cuda/bin in PATH"
        try:
            NvidiaDriver()
        except EngineError as error:
            return str(error)
        try:
            trt, _ = _libraries(self.module)
        except Exception as error:  # ImportError, or what a broken installation raises
            fix = ": start with LD_PRELOAD set to that file" if "static TLS" in str(error) else ""
            return f"{self.title} or pycuda is installed but cannot be imported ({error}){fix}"
        if _version(trt) < self.oldest:
            return f"{self.title} {trt.__version__} is too old: {self.how_to_update}"
        return ""

    def cannot_build(self) -> str:
        """Why it cannot build here, as `missing`. TensorRT times kernels: what cannot run it cannot build."""
        return self.missing()

    def identity(self) -> Mapping[str, str]:
        """What a plan depends on: TensorRT's version, the GPU with its capability, and the driver's CUDA version.

        Raises EngineError where `missing` says why.
        """
        trt = self.usable()
        driver = NvidiaDriver()
        version = f"TensorRT {trt.__version__}"
        if self.version_compatible:  # such a plan outlives an update within its major version
            version = f"TensorRT {_version(trt)[0]} ({VERSION_COMPATIBLE})"
        return {"library": version, "device": driver.device(), "driver": driver.version()}

    def build(self, model: PlaceModel, graph: bytes, options: BuildOptions, progress: Progress) -> bytes:
        """A plan of the ONNX file `graph`, for batches of 1 to `options.batch`.

        `progress` is called in this thread, about twice a second, while another one builds. What it raises, or
        Ctrl-C, ends the build: at once from TensorRT 10 on. 8.6 has no progress monitor: the share is None, the text
        is its log, and an unwanted build runs on unseen until it is done. Raises EngineError.
        """
        return self._built(graph, options, progress, detailed=False)[0]

    def inspect(self, graph: bytes, options: BuildOptions, progress: Progress) -> tuple[bytes, tuple[Layer, ...]]:
        """As `build`, and the layers that the library made of the graph, in the order in which they run."""
        plan, log = self._built(graph, options, progress, detailed=True)
        return plan, layers_of(log, _readable(graph)[0])

    def _built(self, graph: bytes, options: BuildOptions, progress: Progress, detailed: bool) -> tuple[bytes, str]:
        """The plan; and its layers as the library's log has them, if it is to be `detailed`."""
        if options.precision not in self.precisions:
            raise EngineError(f"{self.title} has no precision {options.precision}; choose {', '.join(self.precisions)}")
        if reason := self.cannot_build():
            raise EngineError(reason)
        trt = importlib.import_module(self.module)
        building = _Building(self, trt, graph, options, detailed)
        done: Future[bytes] = Future()

        def work() -> None:
            try:
                done.set_result(building.plan())
            except BaseException as error:
                done.set_exception(error)

        thread = threading.Thread(target=work, name="tensorrt-build", daemon=True)
        try:
            thread.start()
            progress(*building.state())
            while not wait([done], PERIOD_S).done:
                progress(*building.state())
        except BaseException:
            building.cancelled = True
            if _can_monitor(trt):
                thread.join()
            raise
        try:
            plan = done.result()
        except EngineError:
            raise
        except Exception as error:  # pybind11's own classes
            raise EngineError(f"{self.title} failed to build: {error}; {_logger(trt).reason()}") from error
        progress(f"{self.title} has built the engine", 1.0)
        return plan, building.layers

    def load(self, model: PlaceModel, content: bytes, options: BuildOptions) -> TensorRtEngine:
        """An engine from a plan. Raises EngineError for a plan that it refuses or that is not this model's."""
        self.usable()
        if not content.strip(b"\0"):
            raise EngineError("the engine file is empty; build it again")
        return TensorRtEngine(model, content, options, self)

    def usable(self) -> Any:
        """The library's module. Raises EngineError where it, pycuda or a GPU are missing."""
        if reason := self.missing():
            raise EngineError(reason)
        return _libraries(self.module)[0]

    def timings(self) -> Path | None:
        """The file of what a build measured, one for each version and device: another one's would be refused."""
        return self.side_file("timings")

    def side_file(self, what: str) -> Path | None:
        """A file in the cache for this version on this device; None without a cache."""
        if self.cache is None:
            return None
        name = f"{what} {self.title} {self.usable().__version__} {NvidiaDriver().device()}.bin"
        return self.cache / re.sub(r"[^\w.]+", "_", name)

    def configure(self, trt: Any, config: Any) -> None:
        """What of the builder's configuration is this backend's own. Raises EngineError for what it cannot do."""
        if self.version_compatible:
            if not hasattr(trt.BuilderFlag, "VERSION_COMPATIBLE"):
                raise EngineError(
                    f"TensorRT {trt.__version__} cannot build version-compatible engines; 8.6 and later can"
                )
            # The plan brings the lean runtime of its version along (no EXCLUDE_LEAN_RUNTIME): after an update of
            # TensorRT nothing else on the robot could run it.
            config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)

    def started(self, kind: Any, log: Any) -> Any:
        """A builder or runtime. Raises EngineError where the library cannot use CUDA, as with too old a driver."""
        log.clear()
        made = kind(log)
        if log.failed():
            # 11.4's lean runtime then hands out an object that crashes the process when it is used, or freed: it never is
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(made))
            raise EngineError(f"{self.title} cannot start, update the NVIDIA driver: {log.reason()}")
        return made

    def refusal(self, reason: str) -> str:
        """What the user reads where the library refuses to build."""
        return f"{self.title} refuses it: {reason}"

    def contexts(self, engine: Any) -> Contexts:
        """What makes execution contexts of a loaded engine."""
        return Contexts(engine)


class Contexts:
    """Makes execution contexts of an engine. `for_one_size`: of batches of one size, which is worth preparing for."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def new(self, for_one_size: bool) -> Any:
        return self._engine.create_execution_context()

    def has_run(self) -> None:
        """Called after the first inference of each context."""


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
            self._gpu = self._on_worker(lambda: _Gpu(model, plan, options.batch, backend))
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
                self._on_worker(self._gpu.free)
            self._closed = True
            self._worker.shutdown()

    def _run(self, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        size = (self.model.height, self.model.width, 3)
        if images.shape[1:] != size or images.dtype != np.uint8:
            raise EngineError(f"images must be uint8 (N, {size[0]}, {size[1]}, 3), not {images.dtype} {images.shape}")
        return self._on_worker(lambda: self._gpu.run(images))

    def _on_worker(self, work: Callable[[], T]) -> T:
        if self._closed:
            raise EngineError(f"the engine {self.name} is closed")
        try:
            return self._worker.submit(work).result()
        except EngineError:
            raise
        except Exception as error:  # pycuda's and pybind11's own classes
            raise EngineError(f"{self.name}: {error}") from error


# --- building ---------------------------------------------------------------------------------------------------------


class _Building:
    """One build. `plan` runs in a thread of its own; others read `state` and may set `cancelled`."""

    def __init__(self, backend: TensorRtBackend, trt: Any, graph: bytes, options: BuildOptions, detailed: bool) -> None:
        self.cancelled = False
        self.layers = ""
        self._backend = backend
        self._trt = trt
        self._graph = graph
        self._options = options
        self._detailed = detailed
        self._timings = backend.timings()
        self.phases = _Phases()
        self._start = time.monotonic()

    def state(self) -> tuple[str, float | None]:
        """What is being done, for how long, and the share of it that is done."""
        phase, share = self.phases.state() if _can_monitor(self._trt) else (_logger(self._trt).said, None)
        elapsed = time.monotonic() - self._start
        return (
            f"{self._backend.title} builds the {self._options.precision} engine, {elapsed:.0f} s: {phase or 'reading'}",
            share,
        )

    def plan(self) -> bytes:
        """Raises EngineError with the library's reason."""
        trt, log = self._trt, _logger(self._trt)
        builder = self._backend.started(trt.Builder, log)
        network = builder.create_network(_network_flags(trt))
        parser = self._parse(network)
        config = builder.create_builder_config()
        self._configure(builder, network, config)
        cache = self._load_timings(config)
        with log.listening_for_layers(self._detailed):
            plan = builder.build_serialized_network(network, config)
        self.layers = log.layers
        del parser  # not earlier: the network's weights are the parser's
        if cache is not None:  # of an interrupted build too: the next one starts with what this one measured
            self._save_timings(cache)
        if plan is None:
            raise EngineError("the build was interrupted" if self.cancelled else self._backend.refusal(log.reason()))
        return bytes(plan)

    def _parse(self, network: Any) -> Any:
        """The parser that filled the network. Raises EngineError with the first error and its operator."""
        trt, log = self._trt, _logger(self._trt)
        graph, outputs = _readable(self._graph)
        parser = trt.OnnxParser(network, log)
        if not parser.parse(graph):
            if not parser.num_errors:
                raise EngineError(f"{self._backend.title} cannot read the model: {log.reason()}")
            error = parser.get_error(0)
            where = f"node {error.node()}"
            if hasattr(error, "node_operator"):  # TensorRT 10
                where = f"operator {error.node_operator()} ({error.node_name()})"
            raise EngineError(f"{self._backend.title} cannot read the model: {where}: {' '.join(error.desc().split())}")
        if network.num_inputs != 1 or network.num_outputs != outputs:  # so it drops what it cannot cast from uint8
            lost = f"{self._backend.title} lost {outputs - network.num_outputs} outputs of the model"
            raise EngineError(f"{lost}: {log.reason()}")
        return parser

    def _configure(self, builder: Any, network: Any, config: Any) -> None:
        trt = self._trt
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
        config.clear_flag(trt.BuilderFlag.TF32)  # it halves the mantissa of what calls itself float32
        if not _is_typed(trt) and self._options.precision == "fp16":
            config.set_flag(trt.BuilderFlag.FP16)
        if not _is_typed(trt) and self._options.precision == "int8":
            config.set_flag(trt.BuilderFlag.INT8)
        if self._detailed:
            config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        self._backend.configure(trt, config)
        if _can_monitor(trt):
            self._monitor = config.progress_monitor = _monitor(trt, self)  # kept: TensorRT takes no share in it
        image = network.get_input(0)
        count, *size = image.shape
        if count == -1:
            most = (self._options.batch, *size)
            profile = builder.create_optimization_profile()
            profile.set_shape(image.name, (1, *size), most, most)
            if config.add_optimization_profile(profile) < 0:
                raise EngineError(f"{self._backend.title} refuses batches of 1 to {most[0]}: {_logger(trt).reason()}")

    def _load_timings(self, config: Any) -> Any:
        """The timing cache that the build uses, None without a folder. One that is refused is dropped."""
        if self._timings is None:
            return None
        known = self._timings.read_bytes() if self._timings.is_file() else b""
        for content in (known, b""):
            try:
                cache = config.create_timing_cache(content)
            except Exception:  # pybind11 raises what C++ does; a timing cache is never worth a failure
                continue
            if cache is not None and config.set_timing_cache(cache, False):
                return cache
        return None

    def _save_timings(self, cache: Any) -> None:
        assert self._timings is not None
        try:  # neither a full disk nor a cache that cannot be serialised is worth a failure
            content = bytes(cache.serialize())
            with whole_file(self._timings) as file:
                file.write(content)
        except Exception:
            return


class _Phases:
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


def _readable(graph: bytes) -> tuple[bytes, int]:
    """The same model written as TensorRT can read it, and how many outputs it has.

    Raises EngineError without the onnx package, and for what is no ONNX file.
    """
    try:
        import onnx
    except ImportError as error:
        raise EngineError("building for TensorRT needs the onnx package: pip install onnx") from error
    try:
        proto = onnx.load_from_string(graph)
    except Exception as error:  # of protobuf's own classes
        raise EngineError(f"the graph is no ONNX file: {' '.join(str(error).split())}") from error
    del proto.graph.value_info[:]  # the rewriting changes types in between
    _cast_first(proto.graph)
    _quantise_from_float(proto.graph)
    return proto.SerializeToString(), len(proto.graph.output)


def _cast_first(graph: GraphProto) -> None:
    """Cast the image before it is transposed, not behind: of uint8 TensorRT knows nothing but the cast."""
    from onnx import helper

    nodes, image = graph.node, graph.input[0].name
    for turn in [node for node in nodes if node.op_type == "Transpose" and image in node.input]:
        casts = [node for node in nodes if turn.output[0] in node.input]
        if any(cast.op_type != "Cast" for cast in casts):
            continue
        for index, cast in enumerate(casts):
            between = f"{image}_as_number_{index}"
            moved = helper.make_node("Transpose", [between], [cast.output[0]], f"{turn.name}_{index}")
            moved.attribute.extend(turn.attribute)
            cast.input[0], cast.output[0] = image, between
            nodes.insert(list(nodes).index(cast) + 1, moved)
        nodes.remove(turn)


def _quantise_from_float(graph: GraphProto) -> None:
    """Constants that are stored quantised, as ONNX Runtime's tools write them, become float32 with the same values.

    TensorRT dequantises no int32, which biases are, and 8 no int8 constants: its weights are float32 that is
    quantised and dequantised in the graph.
    """
    from onnx import helper, numpy_helper

    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    readers = [node for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] in constants]
    quantised = {name for node in readers for name in node.input}
    for node in readers:
        stored, scale = constants[node.input[0]], constants[node.input[1]]
        zero = constants[node.input[2]] if len(node.input) > 2 else np.zeros_like(scale, stored.dtype)
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
        along = [-1 if index == axis % stored.ndim else 1 for index in range(stored.ndim)] if scale.size > 1 else []
        values = (stored.astype(np.float32) - zero.astype(np.float32).reshape(along)) * scale.reshape(along)
        if stored.dtype == np.int32:
            graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
            graph.node.remove(node)
        else:
            number, whole = f"{node.output[0]}_float", f"{node.output[0]}_stored"
            graph.initializer.append(numpy_helper.from_array(values, number))
            quantise = helper.make_node("QuantizeLinear", [number, *node.input[1:]], [whole], f"{node.name}_stored")
            quantise.attribute.extend(attribute for attribute in node.attribute if attribute.name == "axis")
            graph.node.insert(list(graph.node).index(node), quantise)
            node.input[0] = whole
    used = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name in quantised - used]:
        graph.initializer.remove(tensor)


def _network_flags(trt: Any) -> int:
    """Types as in the graph where the version can (10 and later), the batch as a dimension where it is a choice (8)."""
    flag = trt.NetworkDefinitionCreationFlag
    return 1 << int(flag.STRONGLY_TYPED if _is_typed(trt) else flag.EXPLICIT_BATCH)


def _is_typed(trt: Any) -> bool:
    return hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")


def _can_monitor(trt: Any) -> bool:
    return hasattr(trt, "IProgressMonitor")


def _monitor(trt: Any, building: _Building) -> Any:
    """TensorRT calls it from its own threads, several at once."""

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)  # pybind11 wants the base's own, not super()'s

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            building.phases.start(phase_name, parent_phase, num_steps)

        def phase_finish(self, phase_name: str) -> None:
            building.phases.finish(phase_name)

        def step_complete(self, phase_name: str, step: int) -> bool:
            building.phases.step(phase_name, step)
            return not building.cancelled

    return Monitor()


# --- running ----------------------------------------------------------------------------------------------------------


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


class _Gpu:
    """What an engine has on the GPU. Made, used and freed by one thread."""

    def __init__(self, model: PlaceModel, plan: bytes, batch: int, backend: TensorRtBackend) -> None:
        self._backend = backend
        self._trt, self._cuda = _libraries(backend.module)
        self._driver = NvidiaDriver()
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
        trt, log = self._trt, _logger(self._trt)
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
            raise EngineError(f"{self._backend.title} refuses a batch of {size}: {_logger(self._trt).reason()}")
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
            raise EngineError(f"no memory for {title}'s activations: {_logger(self._trt).reason()}")
        image = self._buffers[0]
        for buffer in self._buffers:
            if not context.set_tensor_address(buffer.name, int(buffer.device)):
                raise EngineError(f"{title} refuses the buffer of {buffer.name}: {_logger(self._trt).reason()}")
        if own and not context.set_input_shape(image.name, (size, *image.host.shape[1:])):
            raise EngineError(f"{title} refuses a batch of {size}: {_logger(self._trt).reason()}")
        run = self._runs[size if own else 0] = _Run(context)
        return run

    def _enqueue(self, run: _Run, size: int) -> None:
        image, *outputs = self._buffers
        self._cuda.memcpy_htod_async(image.device, image.host[:size], self._stream)
        if not run.context.execute_async_v3(self._stream.handle):
            raise EngineError(f"{self._backend.title} failed to run: {_logger(self._trt).reason()}")
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


# --- libraries --------------------------------------------------------------------------------------------------------


def _libraries(module: str) -> tuple[Any, Any]:
    """The module and pycuda.driver. Only after `NvidiaDriver` has found a GPU. Raises ImportError."""
    import pycuda.driver

    return importlib.import_module(module), pycuda.driver


def _version(trt: Any) -> tuple[int, ...]:
    return tuple(int(part) for part in trt.__version__.split(".")[:2])


@functools.cache
def _logger(trt: Any) -> Any:
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
