"""TensorRT for RTX: what differs from TensorRT.

NVIDIA's library for desktop GPUs, on PyPI with all it needs: `pip install tensorrt-rtx-cu13` (or `-cu12`), module
`tensorrt_rtx`. Parser, builder, runtime and names are TensorRT 10's with strongly typed networks, and it reads the same
graphs. Written for 1.4 to 1.7; read against the bindings of 1.4.0 and 1.7.1, and every test run builds with the real
library where it is installed (test/engines/tensorrt/test_rtx_builder.py). It differs in this:

- It does not time kernels. The builder only plans, needs no GPU, and takes a second; the plan is compiled on the user's
  GPU when a context is made. So there are no timings to keep, but compiled kernels (IRuntimeCache): they are kept in a
  file for this version and GPU, which the next start loads.
- A plan is for the compute capabilities it was built for, or for the GPU that is here. It is no machine code, and one
  plan may be for several.
- It can compile for one shape: worth it for the two batch sizes that have a context of their own, which are also what
  CUDA graphs are recorded of, so it must be done before (EAGER). Sizes between share a context that compiles beside the
  inference (LAZY). Its own recording of CUDA graphs stays off.
- There is no lean runtime, so no version-compatible plan, and neither DLA nor Jetson.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vpr_ros.engines.backend import UnsupportedPrecision
from vpr_ros.engines.tensorrt.backend import TensorRtBackend
from vpr_ros.engines.tensorrt.capabilities import CAPABILITIES, known_capabilities
from vpr_ros.engines.tensorrt.execution import Contexts
from vpr_ros.errors import EngineError
from vpr_ros.files import whole_file
from vpr_ros.nvidia_driver import usable_driver


@dataclass
class TensorRtRtxBackend(TensorRtBackend):
    """Plans models with TensorRT for RTX and runs them.

    `capabilities`: compute capabilities that plans are built for, `("sm86", "sm89")`; () is the GPU that is here.
    `cache` is a folder for compiled kernels; None compiles at every start.
    """

    capabilities: tuple[str, ...] = ()

    name = "tensorrt_rtx"
    title = "TensorRT for RTX"
    module = "tensorrt_rtx"
    oldest = (1, 4)
    how_to_install = "`pip install tensorrt-rtx-cu13`, or tensorrt-rtx-cu12 for a driver of CUDA 12"
    how_to_update = "`pip install -U tensorrt-rtx-cu13`"

    def missing(self) -> str:
        """As `TensorRtBackend.missing`; also for a GPU that the library does not know."""
        if reason := super().missing():
            return reason
        trt, here = importlib.import_module(self.module), usable_driver().device().rpartition(" sm_")[2]
        if f"sm{here}" not in (known := known_capabilities(trt)):
            return (
                f"TensorRT for RTX {trt.__version__} does not know this GPU's compute capability sm{here}, only "
                f"{', '.join(known)}: use tensorrt"
            )
        return ""

    def cannot_build(self) -> str:
        """Why it cannot build here; empty if it can, which needs no GPU if the capabilities are named."""
        if not self.capabilities:
            reason = self.missing()
            return f"{reason}; without a GPU set engine.capabilities" if reason and self._is_installed() else reason
        if not self._is_installed():
            return f"{self.title} is not installed: {self.how_to_install}"
        try:
            trt = importlib.import_module(self.module)
        except Exception as error:  # ImportError, or what a broken installation raises
            return f"{self.title} is installed but cannot be imported ({error})"
        unknown = [name for name in self.capabilities if name not in known_capabilities(trt)]
        if unknown:
            return (
                f"{self.title} {trt.__version__} does not know {', '.join(unknown)}, only {', '.join(known_capabilities(trt))}: "
                "change engine.capabilities"
            )
        return ""

    def identity(self) -> Mapping[str, str]:
        """As `TensorRtBackend.identity`, and the capabilities that were named: another plan, and compared again."""
        self.usable()
        driver = usable_driver()
        return {**self.identity_ahead(), "device": driver.device(), "driver": driver.version()}

    def identity_ahead(self) -> Mapping[str, str]:
        """What a plan depends on that was built where no GPU is: library and capabilities. Raises EngineError."""
        if reason := self.cannot_build():
            raise EngineError(reason)
        version = {"library": f"{self.title} {importlib.import_module(self.module).__version__}"}
        return {**version, CAPABILITIES: ",".join(self.capabilities)} if self.capabilities else version

    def timings(self) -> None:
        """None: nothing is timed."""

    def configure(self, trt: Any, config: Any) -> None:
        """For which GPUs. Raises EngineError for capabilities that it refuses."""
        compute = trt.ComputeCapability
        named = [getattr(compute, name.upper()) for name in self.capabilities] or [compute.CURRENT]
        config.num_compute_capabilities = len(named)
        for index, capability in enumerate(named):
            if not config.set_compute_capability(capability, index):
                raise EngineError(f"{self.title} cannot build for {self.capabilities[index]}")

    def refusal(self, reason: str) -> EngineError:
        """Turing has no matrix product in fp32 there, which NetVLAD and every projection are."""
        if "for Turing (SM75)" in reason:
            return UnsupportedPrecision(f"{self.title} refuses it: {reason}; for sm75 use engine.precision fp16")
        return super().refusal(reason)

    def contexts(self, engine: Any) -> Contexts:
        """As `TensorRtBackend.contexts`, with the kernels that earlier ones compiled."""
        return _CompiledContexts(importlib.import_module(self.module), engine, self.side_file("kernels"))

    def _is_installed(self) -> bool:
        return importlib.util.find_spec(self.module) is not None


class _CompiledContexts(Contexts):
    """Contexts that share one cache of compiled kernels, loaded from `path` and written there when it has grown."""

    def __init__(self, trt: Any, engine: Any, path: Path | None) -> None:
        super().__init__(engine)
        self._trt, self._path, self._bytes = trt, path, 0
        runtime_config = engine.create_runtime_config()
        self._kernels = runtime_config.create_runtime_cache()
        if path is not None:
            with suppress(Exception):  # pybind11 raises what C++ does; kernels that are refused are compiled again
                content = path.read_bytes()
                if self._kernels.deserialize(content):
                    self._bytes = len(content)

    def new(self, for_one_size: bool) -> Any:
        trt, runtime_config = self._trt, self._engine.create_runtime_config()
        runtime_config.set_runtime_cache(self._kernels)
        runtime_config.cuda_graph_strategy = trt.CudaGraphStrategy.DISABLED
        compiled = trt.DynamicShapesKernelSpecializationStrategy
        runtime_config.dynamic_shapes_kernel_specialization_strategy = compiled.EAGER if for_one_size else compiled.LAZY
        return self._engine.create_execution_context(runtime_config)

    def has_run(self) -> None:
        if self._path is None:
            return
        with suppress(Exception):  # neither a full disk nor a cache that cannot be serialised is worth a failure
            content = bytes(self._kernels.serialize())
            if len(content) > self._bytes:
                with whole_file(self._path) as file:
                    file.write(content)
                self._bytes = len(content)
