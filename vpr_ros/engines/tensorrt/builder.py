"""Plans: an ONNX file in, what the library compiled of it out, built in a thread of its own."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Any

from vpr_ros.engines.backend import BuildOptions, BuildProgress
from vpr_ros.engines.tensorrt.library import logger
from vpr_ros.engines.tensorrt.phases import Phases, can_monitor, monitor
from vpr_ros.engines.tensorrt.readable import readable
from vpr_ros.errors import EngineError
from vpr_ros.files import whole_file

if TYPE_CHECKING:
    from vpr_ros.engines.tensorrt.backend import TensorRtBackend

WORKSPACE_BYTES = 1 << 30
"""Scratch memory that an operator may ask for. TensorRT's default is the whole GPU: on a Jetson all of the RAM."""
PERIOD_S = 0.5
"""A build reports, and notices that it shall end, this often."""


def build_plan(
    backend: TensorRtBackend, trt: Any, graph: bytes, options: BuildOptions, detailed: bool, progress: BuildProgress
) -> tuple[bytes, str]:
    """The plan; and its layers as the library's log has them, if it is to be `detailed`.

    `progress` is called in this thread while another one builds. Raises EngineError, and what `progress` raises.
    """
    build = _Build(backend, trt, graph, options, detailed)
    done: Future[bytes] = Future()

    def work() -> None:
        try:
            done.set_result(build.plan())
        except BaseException as error:
            done.set_exception(error)

    thread = threading.Thread(target=work, name="tensorrt-build", daemon=True)
    try:
        thread.start()
        progress(*build.state())
        while not wait([done], PERIOD_S).done:
            progress(*build.state())
    except BaseException:
        build.cancelled = True
        if can_monitor(trt):
            thread.join()
        raise
    try:
        plan = done.result()
    except EngineError:
        raise
    except Exception as error:  # pybind11's own classes
        raise EngineError(f"{backend.title} failed to build: {error}; {logger(trt).reason()}") from error
    progress(f"{backend.title} has built the engine", 1.0)
    return plan, build.layers


class _Build:
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
        self.phases = Phases()
        self._start = time.monotonic()

    def state(self) -> tuple[str, float | None]:
        """What is being done, for how long, and the share of it that is done."""
        phase, share = self.phases.state() if can_monitor(self._trt) else (logger(self._trt).said, None)
        elapsed = time.monotonic() - self._start
        return (
            f"{self._backend.title} builds the {self._options.precision} engine, {elapsed:.0f} s: {phase or 'reading'}",
            share,
        )

    def plan(self) -> bytes:
        """Raises EngineError with the library's reason."""
        trt, log = self._trt, logger(self._trt)
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
            raise EngineError("the build was interrupted") if self.cancelled else self._backend.refusal(log.reason())
        return bytes(plan)

    def _parse(self, network: Any) -> Any:
        """The parser that filled the network. Raises EngineError with the first error and its operator."""
        trt, log = self._trt, logger(self._trt)
        graph, outputs = readable(self._graph)
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
        if can_monitor(trt):
            self._monitor = config.progress_monitor = monitor(
                trt, self.phases, lambda: self.cancelled
            )  # kept: TensorRT takes no share in it
        image = network.get_input(0)
        count, *size = image.shape
        if count == -1:
            most = (self._options.batch, *size)
            profile = builder.create_optimization_profile()
            profile.set_shape(image.name, (1, *size), most, most)
            if config.add_optimization_profile(profile) < 0:
                raise EngineError(f"{self._backend.title} refuses batches of 1 to {most[0]}: {logger(trt).reason()}")

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


def _network_flags(trt: Any) -> int:
    """Types as in the graph where the version can (10 and later), the batch as a dimension where it is a choice (8)."""
    flag = trt.NetworkDefinitionCreationFlag
    return 1 << int(flag.STRONGLY_TYPED if _is_typed(trt) else flag.EXPLICIT_BATCH)


def _is_typed(trt: Any) -> bool:
    return hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")
