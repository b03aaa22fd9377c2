"""OpenVINO: on the CPU, and on Intel's GPUs."""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vpr_ros.engines.backend import BuildOptions, BuildProgress, UnsupportedPrecision
from vpr_ros.engines.cores import bound_to
from vpr_ros.errors import EngineError, ModelError
from vpr_ros.model import MASK, PlaceModel

if TYPE_CHECKING:
    import openvino

_HINTS = {"fp32": "f32", "fp16": "f16", "bf16": "bf16", "int8": "f32"}
"""Precision of what a graph leaves open. Without a hint OpenVINO takes bf16 or f16 where the device has it."""
_PRECISIONS = {"CPU": ("fp32", "bf16", "int8"), "GPU": ("fp32", "fp16", "int8")}


class OpenVinoEngine:
    """Runs a model that OpenVINO has read, one call at a time.

    It is compiled for one image and for `options.batch` images, since a fixed number runs 5 to 10 % faster than any; the
    first call with another number compiles it for any. `options.cores` bind the calling thread while it computes, which
    is all that computes with one thread; more would leave them. Raises EngineError for cores with several threads, and
    where OpenVINO refuses the model.
    """

    def __init__(
        self,
        model: PlaceModel,
        graph: openvino.Model,
        core: openvino.Core,
        device: str,
        name: str,
        options: BuildOptions,
    ) -> None:
        self.model = model
        self.name = name
        self._graph, self._core, self._device, self._cores = graph, core, device, options.cores
        self._settings = {"INFERENCE_PRECISION_HINT": _HINTS[options.precision], "PERFORMANCE_HINT": "LATENCY"}
        if device == "CPU":
            # a robot's cores are shared, and OpenVINO would pin every process to the same ones
            self._settings["ENABLE_CPU_PINNING"] = "NO"
            if threads := options.threads or len(options.cores):
                self._settings["INFERENCE_NUM_THREADS"] = str(threads)
            if options.cores and threads > 1:
                # measured: whatever they inherit or are bound to, they go back to all cores of the process
                raise EngineError(
                    f"{name} binds its own threads: with engine.cores set engine.threads to 1, or leave it empty and start "
                    f"the process with taskset -c {','.join(map(str, options.cores))}"
                )
        self._lock = threading.Lock()
        self._requests: dict[int, openvino.InferRequest] = {}  # by number of images, -1 for any
        for count in {1, options.batch}:
            self._requests[count] = self._compiled(count)

    def describe(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, H, W, 3) RGB uint8 of the model's size -> (N, D) float32, unit length.

        Raises EngineError where OpenVINO fails, as for images of another size.
        """
        (descriptors,) = self._run(images, 0)
        return descriptors

    def describe_with_mask(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """As `describe`, and masks (N, h, w) float32 in [0, 1]. Raises ModelError for a model that has none."""
        if self.model.mask_size is None:
            raise ModelError(f"model {self.model.name} has no mask: it has no attention that makes one")
        descriptors, masks = self._run(images, 0, MASK)
        return descriptors, masks

    def close(self) -> None:
        """Give back memory; nothing may be described afterwards. OpenVINO's threads stay: they are the process's."""
        with self._lock:
            self._requests.clear()

    def _run(self, images: NDArray[np.uint8], *outputs: int | str) -> list[NDArray[np.float32]]:
        with self._lock:
            count = len(images) if len(images) in self._requests else -1
            if count not in self._requests:
                self._requests[count] = self._compiled(count)
            request = self._requests[count]
            try:
                with bound_to(self._cores):  # the calling thread does its share of the work
                    # without a copy of the images; outputs are copied, the next call overwrites them
                    found = request.infer({0: images}, share_inputs=True, share_outputs=True)
                    return [np.array(found[output]) for output in outputs]
            except RuntimeError as error:
                raise EngineError(f"{self.name} failed: {_one_line(error)}") from error

    def _compiled(self, count: int) -> openvino.InferRequest:
        """Ready to run on `count` images, -1 for any number."""
        try:
            graph = self._graph.clone()
            if count > 0:
                graph.reshape([count, self.model.height, self.model.width, 3])
            with bound_to(self._cores):
                compiled = self._core.compile_model(graph, self._device, self._settings)
                request = compiled.create_infer_request()
                # here, for the first run starts threads and takes longer than others
                request.infer({0: np.zeros((max(count, 1), self.model.height, self.model.width, 3), np.uint8)})
            return request
        except RuntimeError as error:
            raise EngineError(f"{self.name} cannot compile the model: {_one_line(error)}") from error


class OpenVinoBackend:
    """OpenVINO on a `device`: `CPU` or `GPU`."""

    needs_symmetric_int8 = False

    def __init__(self, device: str = "CPU") -> None:
        self._device = device
        self.name = "openvino" if device == "CPU" else f"openvino_{device.lower()}"
        self.precisions = _PRECISIONS[device]

    def missing(self) -> str:
        """Why it cannot run here, as one clause that names the fix; empty if it can."""
        try:
            devices = _core().available_devices
        except EngineError as error:
            return str(error)
        if not any(device.partition(".")[0] == self._device for device in devices):
            return f"OpenVINO finds no {self._device}, only {', '.join(devices)}: install its driver (Intel compute runtime)"
        return ""

    def identity(self) -> Mapping[str, str]:
        """OpenVINO's version and the device's full name. Raises EngineError where `missing` says why."""
        if reason := self.missing():
            raise EngineError(reason)
        openvino = _openvino()
        device = _core().get_property(self._device, "FULL_DEVICE_NAME")
        return {"library": f"OpenVINO {openvino.__version__}", "device": str(device)}

    def build(self, model: PlaceModel, graph: bytes, options: BuildOptions, progress: BuildProgress) -> bytes:
        """The graph: OpenVINO compiles it as it loads, in a fraction of a second on a CPU.

        What it could export is bound to one number of images. Raises EngineError for a graph that it refuses, or a
        precision that the device has not.
        """
        progress(f"{self.name} compiles the model", None)
        self.load(model, graph, options).close()
        return graph

    def load(self, model: PlaceModel, content: bytes, options: BuildOptions) -> OpenVinoEngine:
        """An engine from a graph. Raises EngineError for one that it refuses or a precision that the device has not."""
        if options.precision not in self.precisions:
            raise EngineError(f"{self.name} runs {', '.join(self.precisions)}, not {options.precision}")
        core = _core()
        if options.precision == "bf16" and "BF16" not in core.get_property(self._device, "OPTIMIZATION_CAPABILITIES"):
            raise UnsupportedPrecision(f"{self.name}: this {self._device} cannot compute in bf16; use fp32 or int8")
        name = f"{self.name} {options.precision}"
        try:
            graph = core.read_model(content, b"")
        except RuntimeError as error:
            raise EngineError(f"{name} cannot read the model: {_one_line(error)}") from error
        return OpenVinoEngine(model, graph, core, self._device, name, options)


def _core() -> openvino.Core:
    """Raises EngineError without OpenVINO."""
    return _openvino().Core()


def _openvino() -> ModuleType:
    """The module `openvino`, without the reports to its maker that its import sends. Raises EngineError without it."""
    if importlib.util.find_spec("openvino") is None:
        raise EngineError("OpenVINO is not installed: pip install openvino")
    name = "openvino_telemetry"
    known = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment]  # an import of it fails, and OpenVINO takes a stub of its own
    try:
        return importlib.import_module("openvino")
    finally:
        if known is None:
            del sys.modules[name]
        else:
            sys.modules[name] = known


def _one_line(error: Exception) -> str:
    """Without the places in OpenVINO's source that it begins with."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join([line for line in lines if not line.startswith(("Exception from ", "Check '"))] or lines)
