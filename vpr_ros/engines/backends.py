"""Every backend by its name."""

from __future__ import annotations

from collections.abc import Mapping

from vpr_ros.config import EngineConfig
from vpr_ros.engines.backend import Backend
from vpr_ros.engines.cache import EngineCache
from vpr_ros.engines.onnxruntime_engine import OnnxRuntimeBackend
from vpr_ros.engines.openvino_engine import OpenVinoBackend
from vpr_ros.engines.tensorrt.backend import TensorRtBackend
from vpr_ros.engines.tensorrt.capabilities import parse_capabilities
from vpr_ros.engines.tensorrt.rtx import TensorRtRtxBackend

REFERENCE = "onnxruntime"
"""On the CPU in fp32: runs everywhere, and every other engine is compared with it."""


def backends(
    cache: EngineCache, version_compatible: bool = False, capabilities: tuple[str, ...] = ()
) -> Mapping[str, Backend]:
    """Every backend by its name; what they compile on the side goes below the cache's folder.

    `version_compatible`: TensorRT's engines are to run in other versions of it, too. `capabilities`: of the GPUs that
    engines of TensorRT for RTX are for, () is the one here.
    """
    known: tuple[Backend, ...] = (
        OnnxRuntimeBackend("cpu", cache.folder),
        OnnxRuntimeBackend("cuda", cache.folder),
        OnnxRuntimeBackend("tensorrt", cache.folder),
        OpenVinoBackend("CPU"),
        OpenVinoBackend("GPU"),
        TensorRtBackend(cache.folder, version_compatible),
        TensorRtRtxBackend(cache.folder, capabilities=capabilities),
    )
    return {backend.name: backend for backend in known}


def backends_of(cache: EngineCache, config: EngineConfig) -> Mapping[str, Backend]:
    """As `config` has them. Raises ConfigError for capabilities that are none."""
    return backends(cache, config.version_compatible, parse_capabilities(config.capabilities))
