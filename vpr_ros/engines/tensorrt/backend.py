"""TensorRT as a backend: can it run here, what its plans depend on, how they are built and loaded."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vpr_ros.engines.backend import BuildOptions, BuildProgress
from vpr_ros.engines.tensorrt.builder import build_plan
from vpr_ros.engines.tensorrt.engine import TensorRtEngine
from vpr_ros.engines.tensorrt.execution import Contexts
from vpr_ros.engines.tensorrt.layers import Layer, layers_of
from vpr_ros.engines.tensorrt.library import libraries, version_of
from vpr_ros.engines.tensorrt.readable import readable
from vpr_ros.errors import EngineError
from vpr_ros.model import PlaceModel
from vpr_ros.nvidia_driver import usable_driver

VERSION_COMPATIBLE = "version-compatible"
"""In the identity of engines that outlive an update within their major version."""


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
            usable_driver()
        except EngineError as error:
            return str(error)
        try:
            trt, _ = libraries(self.module)
        except Exception as error:  # ImportError, or what a broken installation raises
            fix = ": start with LD_PRELOAD set to that file" if "static TLS" in str(error) else ""
            return f"{self.title} or pycuda is installed but cannot be imported ({error}){fix}"
        if version_of(trt) < self.oldest:
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
        driver = usable_driver()
        version = f"TensorRT {trt.__version__}"
        if self.version_compatible:  # such a plan outlives an update within its major version
            version = f"TensorRT {version_of(trt)[0]} ({VERSION_COMPATIBLE})"
        return {"library": version, "device": driver.device(), "driver": driver.version()}

    def build(self, model: PlaceModel, graph: bytes, options: BuildOptions, progress: BuildProgress) -> bytes:
        """A plan of the ONNX file `graph`, for batches of 1 to `options.batch`.

        `progress` is called in this thread, about twice a second, while another one builds. What it raises, or
        Ctrl-C, ends the build: at once from TensorRT 10 on. 8.6 has no progress monitor: the share is None, the text
        is its log, and an unwanted build runs on unseen until it is done. Raises EngineError.
        """
        return self._built(graph, options, progress, detailed=False)[0]

    def inspect(self, graph: bytes, options: BuildOptions, progress: BuildProgress) -> tuple[bytes, tuple[Layer, ...]]:
        """As `build`, and the layers that the library made of the graph, in the order in which they run."""
        plan, log = self._built(graph, options, progress, detailed=True)
        return plan, layers_of(log, readable(graph)[0])

    def _built(self, graph: bytes, options: BuildOptions, progress: BuildProgress, detailed: bool) -> tuple[bytes, str]:
        """The plan; and its layers as the library's log has them, if it is to be `detailed`."""
        if options.precision not in self.precisions:
            raise EngineError(f"{self.title} has no precision {options.precision}; choose {', '.join(self.precisions)}")
        if reason := self.cannot_build():
            raise EngineError(reason)
        return build_plan(self, importlib.import_module(self.module), graph, options, detailed, progress)

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
        return libraries(self.module)[0]

    def timings(self) -> Path | None:
        """The file of what a build measured, one for each version and device: another one's would be refused."""
        return self.side_file("timings")

    def side_file(self, what: str) -> Path | None:
        """A file in the cache for this version on this device; None without a cache."""
        if self.cache is None:
            return None
        name = f"{what} {self.title} {self.usable().__version__} {usable_driver().device()}.bin"
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

    def refusal(self, reason: str) -> EngineError:
        """The error where the library refuses to build."""
        return EngineError(f"{self.title} refuses it: {reason}")

    def contexts(self, engine: Any) -> Contexts:
        """What makes execution contexts of a loaded engine."""
        return Contexts(engine)
