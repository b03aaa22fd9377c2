"""An imitation of TensorRT, pycuda and the CUDA driver that computes with ONNX Runtime, for machines without a GPU.

It has the names of one real version and no others: `tensorrt_names.json` is read out of the real bindings, which import
over empty libraries; versions 1.x are TensorRT for RTX. To make it again (needs gcc and binutils; `pip download
--no-deps` fetches the wheels):

    python test/support/fake_tensorrt.py tensorrt*.whl > test/support/tensorrt_names.json
"""

from __future__ import annotations

import importlib.machinery
import json
import subprocess
import sys
import tempfile
import threading
import time
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

NAMES: dict[str, dict[str, dict[str, Any]]] = (
    json.loads(path.read_text()) if (path := Path(__file__).with_name("tensorrt_names.json")).is_file() else {}
)
"""version -> class -> name -> None for an attribute, a number for a value, or each overload's argument names."""
MAGIC = b"plan of the imitation\n"
KERNELS = b"kernels of the imitation "
STREAM = 0x7F0012345678
"""Handle of every stream: more than a C int holds."""


def is_for_rtx(version: str) -> bool:
    """TensorRT for RTX counts its versions anew."""
    return int(version.partition(".")[0]) < 8


class ThreadState(threading.local):
    """What each thread has of its own: the depth of pycuda's stack, and, as each engine has one thread, its stream."""

    def __init__(self) -> None:
        self.depth = 0
        self.queue: list[Callable[[], None]] = []
        self.recording: list[Callable[[], None]] | None = None


class Gpu:
    """A GPU whose memory is the host's. Work waits in the stream until somebody synchronises; misuse raises."""

    def __init__(self, devices: int = 1, steps: int = 4, step_s: float = 0.0) -> None:
        self.devices = devices
        self.steps = steps
        self.step_s = step_s
        self.live: list[str] = []
        self.launches = 0
        self.fails = ""
        self.forgets_kernels = False
        self.started = threading.Event()
        self.finished = threading.Event()
        self.capability = (8, 7)
        self.flags: set[str] = set()
        self.capabilities: list[int] = []
        """What the last plan of TensorRT for RTX was built for."""
        self.compiled: list[tuple[str, tuple[int, ...]]] = []
        """Strategy and shape of each kernel that TensorRT for RTX had to compile."""
        self.graphs: dict[int, list[Callable[[], None]]] = {}
        self.blocks: list[np.ndarray] = []
        self.freed: list[np.ndarray] = []
        """Kept, so that an address is never that of another block, and using it is an error and no crash."""
        self.local = ThreadState()

    def at(self, address: int, size: int) -> np.ndarray:
        """(size,) bytes of the block that holds them all."""
        for block in self.blocks:
            offset = address - block.ctypes.data
            if offset >= 0 and offset + size <= block.nbytes:
                return block[offset : offset + size]
        raise AssertionError(f"an illegal memory access: {size} bytes at {address:#x}")

    def need_context(self) -> None:
        if not self.local.depth:
            raise LogicError("invalid device context: none is current in this thread")

    def need_devices(self) -> None:
        if not self.devices:
            raise LogicError("no CUDA device")

    def enqueue(self, work: Callable[[], None]) -> None:
        self.need_context()
        (self.local.queue if self.local.recording is None else self.local.recording).append(work)

    def synchronize(self) -> None:
        self.need_context()
        while self.local.queue:
            self.local.queue.pop(0)()


class Error(Exception):
    pass


class LogicError(Error):
    pass


def pycuda_driver(gpu: Gpu) -> types.ModuleType:
    """What the backend uses of pycuda.driver."""
    module = types.ModuleType("pycuda.driver")

    class Context:
        def push(self) -> None:
            gpu.local.depth += 1

        @staticmethod
        def pop() -> None:
            gpu.need_context()
            gpu.local.depth -= 1

        def detach(self) -> None:
            if gpu.local.depth:
                raise LogicError("still on the stack: pycuda would abort the process when the thread ends")
            gpu.live.remove("context")

    class Device:
        def __init__(self, index: int) -> None:
            assert index < gpu.devices

        def retain_primary_context(self) -> Context:
            gpu.live.append("context")
            return Context()

    class Stream:
        def __init__(self, flags: int = 0) -> None:
            gpu.need_context()
            self.handle = STREAM
            gpu.live.append("stream")

        def synchronize(self) -> None:
            gpu.synchronize()

        def __del__(self) -> None:
            gpu.live.remove("stream")

    class Allocation:
        def __init__(self, size: int, kind: str) -> None:
            gpu.need_context()
            self.bytes = np.full(max(size, 1), 0xA5, np.uint8)
            self.kind = kind
            gpu.live.append(kind)
            gpu.blocks.append(self.bytes)

        def __int__(self) -> int:
            return self.bytes.ctypes.data

        def free(self) -> None:
            gpu.need_context()
            gpu.live.remove(self.kind)
            # by identity: arrays compare element by element
            gpu.blocks[:] = [block for block in gpu.blocks if block is not self.bytes]
            gpu.freed.append(self.bytes)

    class Pinned(Allocation):
        def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
            super().__init__(int(np.prod(shape)) * np.dtype(dtype).itemsize, "pinned")
            typestr = np.dtype(dtype).str
            self.__array_interface__ = {"shape": shape, "typestr": typestr, "data": (int(self), False), "version": 3}

    def pagelocked_empty(shape: tuple[int, ...], dtype: Any, order: str = "C", mem_flags: int = 0) -> Any:
        return np.asarray(Pinned(shape, dtype))

    def copy(target: int, source: int, size: int) -> None:
        def work() -> None:
            gpu.at(target, size)[:] = gpu.at(source, size)

        gpu.enqueue(work)

    def memcpy_htod_async(dest: Allocation, src: Any, stream: Stream) -> None:
        assert src.flags.c_contiguous
        assert src.nbytes <= dest.bytes.nbytes
        copy(int(dest), src.ctypes.data, src.nbytes)

    def memcpy_dtoh_async(dest: Any, src: Allocation, stream: Stream) -> None:
        assert dest.flags.c_contiguous
        assert dest.nbytes <= src.bytes.nbytes
        copy(dest.ctypes.data, int(src), dest.nbytes)

    def mem_alloc(size: int) -> Allocation:
        return Allocation(size, "device")

    for item in (Context, Device, Stream, Error, LogicError, pagelocked_empty, mem_alloc):
        setattr(module, item.__name__, item)
    vars(module).update(memcpy_htod_async=memcpy_htod_async, memcpy_dtoh_async=memcpy_dtoh_async, init=lambda: None)
    return module


class Driver:
    """libcuda.so.1 as ctypes shows it; every function returns a CUresult."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu

    def cuInit(self, flags: int) -> int:
        return 0 if self._gpu.devices else 100

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = self._gpu.devices
        return 0

    def cuDeviceGet(self, device: Any, index: int) -> int:
        device._obj.value = index
        return 0

    def cuDeviceGetName(self, name: Any, size: int, device: Any) -> int:
        name.value = b"Imitation"
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> int:
        value._obj.value = dict(zip((75, 76), self._gpu.capability, strict=True))[attribute]
        return 0

    def cuDriverGetVersion(self, version: Any) -> int:
        version._obj.value = 12060
        return 0

    def cuStreamBeginCapture_v2(self, stream: Any, mode: int) -> int:
        self._gpu.local.recording = []
        return 0 if stream.value == STREAM else 400  # ctypes would cut a bare int to 32 bits

    def cuStreamEndCapture(self, stream: Any, graph: Any) -> int:
        recorded, self._gpu.local.recording = self._gpu.local.recording, None
        if self._gpu.fails == "capture":
            return 901
        graph._obj.value = len(self._gpu.graphs) + 0x7F00AAAA0001
        self._gpu.graphs[graph._obj.value] = recorded or []
        return 0

    def cuGraphInstantiateWithFlags(self, executable: Any, graph: Any, flags: Any) -> int:
        executable._obj.value = graph.value
        self._gpu.live.append("graph")
        return 0

    def cuGraphDestroy(self, graph: Any) -> int:
        return 0

    def cuGraphExecDestroy(self, executable: Any) -> int:
        self._gpu.live.remove("graph")
        return 0

    def cuGraphLaunch(self, executable: Any, stream: Any) -> int:
        if stream.value != STREAM:
            return 400
        for work in self._gpu.graphs[executable.value]:
            self._gpu.enqueue(work)
        self._gpu.launches += 1
        return 0


def tensorrt(version: str, gpu: Gpu) -> types.ModuleType:
    """The module `tensorrt` of a version in NAMES, `tensorrt_rtx` of versions 1."""
    names = NAMES[version]
    is_rtx = is_for_rtx(version)
    module = types.ModuleType("tensorrt_rtx" if is_rtx else "tensorrt")
    module.__version__ = version  # type: ignore[attr-defined]
    enums = {
        name: types.SimpleNamespace(**values)
        for name, values in names.items()
        if values and all(isinstance(value, int) for value in values.values())
    }
    severity = enums["ILogger.Severity"]
    data_type = enums["DataType"]

    class ILogger:
        Severity = severity

        def __init__(self) -> None:
            self.made = True

        def log(self, severity: int, msg: str) -> None:
            raise NotImplementedError

    class IProgressMonitor:
        def __init__(self) -> None:
            self.made = True

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None: ...

        def phase_finish(self, phase_name: str) -> None: ...

        def step_complete(self, phase_name: str, step: int) -> bool:
            raise NotImplementedError

    def start(logger: ILogger) -> None:
        if gpu.fails == "driver":
            logger.log(severity.ERROR, "Error Code 6: CUDA initialization failure with error: 35")

    class IHostMemory(bytearray):
        pass

    class ITensor:
        def __init__(self, name: str, shape: tuple[int, ...]) -> None:
            self.name = name
            self.shape = shape

    class INetworkDefinition:
        def __init__(self) -> None:
            self.content = b""
            self.inputs: list[ITensor] = []
            self.num_outputs = 0

        @property
        def num_inputs(self) -> int:
            return len(self.inputs)

        def get_input(self, index: int) -> ITensor:
            return self.inputs[index]

    class IOptimizationProfile:
        def set_shape(self, input: str, min: tuple, opt: tuple, max: tuple) -> None:
            self.limits = [tuple(min), tuple(opt), tuple(max)]

    class ITimingCache:
        def __init__(self, content: bytes) -> None:
            self.content = content

        def serialize(self) -> IHostMemory:
            return IHostMemory(self.content)

    class IBuilderConfig:
        def __init__(self) -> None:
            self.set = {"TF32"}
            self.profiles: list[IOptimizationProfile] = []
            self.timing: ITimingCache | None = None
            self.progress_monitor: Any = None
            self.profiling_verbosity = 0
            self.num_compute_capabilities = 0
            self.capabilities: dict[int, int] = {}

        def set_compute_capability(self, compute_capability: int, index: int) -> bool:
            self.capabilities[index] = compute_capability
            return 0 <= index < self.num_compute_capabilities

        def set_memory_pool_limit(self, pool: int, pool_size: int) -> None:
            assert pool == enums["MemoryPoolType"].WORKSPACE
            assert 0 < pool_size <= 1 << 31

        def set_flag(self, flag: int) -> None:
            self.set |= {name for name, value in vars(enums["BuilderFlag"]).items() if value == flag}

        def clear_flag(self, flag: int) -> None:
            self.set -= {name for name, value in vars(enums["BuilderFlag"]).items() if value == flag}

        def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
            self.profiles.append(profile)
            return 0 if profile.limits[0][0] <= profile.limits[2][0] else -1

        def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache | None:
            refused = serialized_timing_cache and not serialized_timing_cache.startswith(b"timings ")
            return None if refused else ITimingCache(serialized_timing_cache)

        def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
            if cache.content not in (b"", b"timings " + version.encode()):
                return False
            self.timing = cache
            return True

    class Builder:
        def __init__(self, logger: ILogger) -> None:
            assert isinstance(logger, ILogger)
            assert logger.made
            self.logger = logger
            start(logger)

        def create_network(self, flags: int = 0) -> INetworkDefinition:
            kinds = enums["NetworkDefinitionCreationFlag"]
            wanted = kinds.STRONGLY_TYPED if hasattr(kinds, "STRONGLY_TYPED") else kinds.EXPLICIT_BATCH
            assert flags == 1 << wanted
            return INetworkDefinition()

        def create_builder_config(self) -> IBuilderConfig:
            return IBuilderConfig()

        def create_optimization_profile(self) -> IOptimizationProfile:
            return IOptimizationProfile()

        def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> IHostMemory | None:
            gpu.started.set()
            gpu.flags = config.set
            gpu.capabilities = list(config.capabilities.values())
            if is_rtx:
                assert len(gpu.capabilities) == config.num_compute_capabilities > 0
                if config.capabilities[0] == enums["ComputeCapability"].CURRENT:
                    gpu.need_devices()
            if gpu.fails == "build":
                self.logger.log(severity.ERROR, "Error Code 10: no implementation for node\n  /conv1")
                return None
            if gpu.fails == "raise":
                raise TypeError("factory function returned nullptr")
            if not self._work(config):
                self.logger.log(severity.ERROR, "Error Code 9: the build was cancelled")
                return None
            if config.timing is not None:
                config.timing.content = b"timings " + version.encode()
            fixed = network.inputs[0].shape
            limits = config.profiles[0].limits if config.profiles else [fixed, fixed, fixed]
            if config.profiling_verbosity == enums["ProfilingVerbosity"].DETAILED:
                self.logger.log(severity.VERBOSE, "Layers:\nName: all, LayerType: kgen, Inputs: [], Outputs: []")
            head = {"version": version, "limits": limits, "lean": "VERSION_COMPATIBLE" in config.set}
            return IHostMemory(MAGIC + json.dumps(head).encode() + b"\n" + network.content)

        def _work(self, config: IBuilderConfig) -> bool:
            monitor = config.progress_monitor
            if monitor is None:
                for step in range(gpu.steps):
                    self.logger.log(severity.INFO, f"tactics of layer {step}")
                    time.sleep(gpu.step_s)
                gpu.finished.set()
                return True
            assert isinstance(monitor, IProgressMonitor)
            assert monitor.made
            monitor.phase_start("Building", None, 2)
            monitor.phase_start("Tactics", "Building", gpu.steps)
            for step in range(gpu.steps):
                time.sleep(gpu.step_s)
                if not monitor.step_complete("Tactics", step):
                    monitor.phase_finish("Tactics")
                    monitor.phase_finish("Building")
                    return False
            monitor.phase_finish("Tactics")
            monitor.phase_finish("Building")
            gpu.finished.set()
            return True

    class ParserError:
        def __init__(self, node: Any, index: int) -> None:
            self._node, self._index = node, index

        def desc(self) -> str:
            return "No importer registered for op"

        def node(self) -> int:
            return self._index

        def node_operator(self) -> str:
            return self._node.op_type

        def node_name(self) -> str:
            return self._node.name

    class OnnxParser:
        def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
            self.network, self.logger = network, logger
            self.errors: list[ParserError] = []

        @property
        def num_errors(self) -> int:
            return len(self.errors)

        def parse(self, model: bytes, path: str | None = None) -> bool:
            import onnx

            proto = onnx.load_from_string(model)
            for index, node in enumerate(proto.graph.node):
                if node.domain not in ("", "ai.onnx"):
                    self.errors.append(ParserError(node, index))
                    return False
            image = proto.graph.input[0]
            shape = tuple(size.dim_value or -1 for size in image.type.tensor_type.shape.dim)
            self.network.content, self.network.inputs = model, [ITensor(image.name, shape)]
            if all(node.op_type == "Cast" for node in proto.graph.node if image.name in node.input):
                self.network.num_outputs = len(proto.graph.output)
            else:  # NVIDIA/TensorRT#3985
                self.logger.log(severity.ERROR, "uint8 tensors may only be cast")
            return True

        def get_error(self, index: int) -> ParserError:
            return self.errors[index]

    class IExecutionContext:
        def __init__(self, engine: ICudaEngine) -> None:
            self.engine = engine
            self.shape: tuple[int, ...] = ()
            self.addresses: dict[str, int] = {}
            self.runtime: IRuntimeConfig | None = None

        def set_tensor_address(self, name: str, memory: int) -> bool:
            self.addresses[name] = memory
            return memory != 0

        def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
            low, _, high = self.engine.limits
            self.shape = tuple(shape)
            return name == self.engine.names[0] and all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True))

        def execute_async_v3(self, stream_handle: int) -> bool:
            assert stream_handle == STREAM
            if self.runtime is not None:
                self.runtime.compile(self.shape)
            if gpu.fails == "run":
                self.engine.logger.log(severity.ERROR, "CUDA error 700: an illegal memory access")
                return False
            shape, addresses, engine = self.shape, dict(self.addresses), self.engine

            def work() -> None:
                image = gpu.at(addresses[engine.names[0]], int(np.prod(shape))).reshape(shape)
                results = engine.session.run(engine.names[1:], {engine.names[0]: image})
                for name, result in zip(engine.names[1:], results, strict=True):
                    gpu.at(addresses[name], result.nbytes)[:] = np.ascontiguousarray(result).view(np.uint8).ravel()

            if gpu.local.recording is None or not gpu.forgets_kernels:
                gpu.enqueue(work)
            return True

    class ICudaEngine:
        def __init__(self, content: bytes, limits: list[list[int]], logger: ILogger) -> None:
            import onnxruntime

            self.session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
            tensors = [*self.session.get_inputs(), *reversed(self.session.get_outputs())]  # an order of its own
            self.names = [tensor.name for tensor in tensors]
            self.tensors = dict(zip(self.names, tensors, strict=True))
            self.limits = limits
            self.logger = logger

        @property
        def num_io_tensors(self) -> int:
            return len(self.names)

        def get_tensor_name(self, index: int) -> str:
            return self.names[index]

        def get_tensor_mode(self, name: str) -> int:
            modes = enums["TensorIOMode"]
            return modes.INPUT if name == self.names[0] else modes.OUTPUT

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            return tuple(size if isinstance(size, int) else -1 for size in self.tensors[name].shape)

        def get_tensor_dtype(self, name: str) -> int:
            return {"tensor(uint8)": data_type.UINT8, "tensor(float)": data_type.FLOAT}[self.tensors[name].type]

        def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[list[int]]:
            return self.limits

        def create_execution_context(self) -> IExecutionContext | None:
            return None if gpu.fails == "memory" else IExecutionContext(self)

        def create_runtime_config(self) -> IRuntimeConfig:
            return IRuntimeConfig()

    class IRuntimeCache:
        def __init__(self) -> None:
            self.kernels: set[str] = set()

        def deserialize(self, blob: bytes) -> bool:
            gpu.need_context()
            if not blob.startswith(KERNELS + version.encode()):
                return False
            self.kernels = set(json.loads(blob.splitlines()[1]))
            return True

        def serialize(self) -> IHostMemory:
            return IHostMemory(KERNELS + version.encode() + b"\n" + json.dumps(sorted(self.kernels)).encode())

    class IRuntimeConfig:
        def __init__(self) -> None:
            self.cuda_graph_strategy = -1
            self.dynamic_shapes_kernel_specialization_strategy = -1
            self.cache: IRuntimeCache | None = None

        def create_runtime_cache(self) -> IRuntimeCache:
            return IRuntimeCache()

        def set_runtime_cache(self, cache: IRuntimeCache) -> bool:
            self.cache = cache
            return True

        def compile(self, shape: tuple[int, ...]) -> None:
            assert self.cuda_graph_strategy == enums["CudaGraphStrategy"].DISABLED
            strategies = vars(enums["DynamicShapesKernelSpecializationStrategy"]).items()
            (strategy,) = (n for n, v in strategies if v == self.dynamic_shapes_kernel_specialization_strategy)
            assert self.cache is not None
            if str(shape) not in self.cache.kernels:
                self.cache.kernels.add(str(shape))
                gpu.compiled.append((strategy, shape))

    if is_rtx:

        def create_execution_context(self: ICudaEngine, runtime_config: IRuntimeConfig) -> IExecutionContext | None:
            context = None if gpu.fails == "memory" else IExecutionContext(self)
            if context is not None:
                context.runtime = runtime_config
            return context

        ICudaEngine.create_execution_context = create_execution_context  # type: ignore[method-assign, assignment]

    class Runtime:
        def __init__(self, logger: ILogger) -> None:
            assert gpu.devices, "the real one crashes here"
            gpu.need_context()
            self.logger = logger
            self.engine_host_code_allowed = False
            start(logger)

        def __del__(self) -> None:
            if gpu.fails == "driver":
                gpu.live.append("crash")  # as the real one does

        def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
            try:
                head, content = serialized_engine.removeprefix(MAGIC).split(b"\n", 1)
                header = json.loads(head)
                if header["lean"] and not self.engine_host_code_allowed:
                    raise ValueError("host code is not allowed")
                if header["version"] != version and not header["lean"]:
                    raise ValueError("the engine plan file is not compatible with this version")
                return ICudaEngine(content, header["limits"], self.logger)
            except Exception as error:
                self.logger.log(severity.WARNING, "a warning before")
                self.logger.log(severity.ERROR, f"Error Code 1: Serialization ({error})")
                return None

    classes = [item for item in list(locals().values()) if isinstance(item, type)]
    for item in classes:
        if item.__name__ not in names:
            continue
        for name in [name for name in vars(item) if not name.startswith("_")]:
            if name == "compile":  # ours
                continue
            if name not in names[item.__name__] and f"{item.__name__}.{name}" not in names:
                delattr(item, name)
        setattr(module, item.__name__, item)
    for name, enum in enums.items():
        if "." not in name:
            setattr(module, name, enum)
    return module


def install(monkeypatch: Any, version: str, gpu: Gpu) -> None:
    """`import tensorrt` or `tensorrt_rtx`, `import pycuda.driver` and the driver are the imitation until the test ends."""
    imitation = tensorrt(version, gpu)
    modules = {imitation.__name__: imitation, "pycuda": types.ModuleType("pycuda")}
    modules["pycuda.driver"] = modules["pycuda"].driver = pycuda_driver(gpu)  # type: ignore[attr-defined]
    for name, module in modules.items():
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr("vpr_ros.nvidia_driver._open_driver", lambda: Driver(gpu))


CLASSES = (
    "Builder BuilderFlag DataType IBuilderConfig ICudaEngine IExecutionContext IHostMemory ILogger ILogger.Severity"
    " INetworkDefinition IOptimizationProfile IProgressMonitor IRuntimeCache IRuntimeConfig ITensor ITimingCache"
    " MemoryPoolType NetworkDefinitionCreationFlag OnnxParser ParserError ProfilingVerbosity Runtime TensorIOMode"
    " ComputeCapability CudaGraphStrategy DynamicShapesKernelSpecializationStrategy"
)
READ_NAMES = """
import importlib, inspect, json, re, sys
trt = importlib.import_module(sys.argv[2])
table = {}
for name in sys.argv[1].split():
    item = trt
    for part in name.split("."):
        item = getattr(item, part, None)
    if item is None:
        continue
    if hasattr(item, "__members__"):
        table[name] = {member: int(value) for member, value in item.__members__.items()}
        continue
    table[name] = {}
    for member in ["__init__", *(key for key in dir(item) if not key.startswith("_"))]:
        value = inspect.getattr_static(item, member)
        if isinstance(value, type) or name == "INetworkDefinition" and member.startswith("add_"):
            continue
        text = getattr(item, member).__doc__ or ""
        calls = re.findall(rf"^(?:\\d+\\. )?{member}\\((.*)\\) -> ", text, re.M)
        calls = calls if callable(getattr(item, member)) else []
        plain = [re.sub(r"<[^>]*>", "", call) for call in calls]
        table[name][member] = [re.findall(r"(\\w+): ", call)[1:] for call in plain] or None
print(json.dumps({trt.__version__: table}))
"""


def read_names(wheel: Path) -> dict[str, Any]:
    """The names in a wheel of bindings, for this Python. Their libraries are replaced by empty ones."""
    with tempfile.TemporaryDirectory() as folder:
        zipfile.ZipFile(wheel).extractall(folder)
        (binary,) = map(str, Path(folder).glob("tensorrt*_bindings/tensorrt*.so"))
        dynamic = subprocess.run(["readelf", "-d", binary], capture_output=True, text=True, check=True).stdout
        symbols = subprocess.run(["nm", "-D", "--undefined-only", binary], capture_output=True, text=True, check=True)
        foreign = [
            line.split()[1] for line in symbols.stdout.splitlines() if line.split()[0] == "U" and "@" not in line
        ]
        source = Path(folder, "empty.c")
        source.write_text("\n".join(f"void *{name}(void) {{ return 0; }}" for name in foreign if "Py" not in name))
        for library in {part.strip("[]") for part in dynamic.split() if part.startswith(("[libnv", "[libtensorrt"))}:
            command = ["gcc", "-shared", "-fPIC", "-o", f"{folder}/{library}", str(source), f"-Wl,-soname,{library}"]
            subprocess.run(command, check=True)
        command = [sys.executable, "-c", READ_NAMES, CLASSES, Path(binary).parent.name]
        environment = {"LD_LIBRARY_PATH": folder, "PYTHONPATH": folder}
        return json.loads(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


if __name__ == "__main__":
    tables: dict[str, Any] = {}
    for argument in sys.argv[1:]:
        tables |= read_names(Path(argument))
    versions = (
        f'"{version}": {{\n'
        + ",\n".join(f'  "{name}": {json.dumps(members)}' for name, members in tables[version].items())
        + "\n}"
        for version in sorted(tables, key=lambda text: [int(part) for part in text.split(".")])
    )
    print("{\n" + ",\n".join(versions) + "\n}")
