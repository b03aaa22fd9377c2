"""ONNX Runtime: on the CPU, on NVIDIA GPUs by CUDA, and there by its TensorRT provider."""

from __future__ import annotations

import ctypes
import hashlib
import io
import platform
import re
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from vpr_ros.engines.backend import BuildOptions, BuildProgress
from vpr_ros.engines.cores import bound_to
from vpr_ros.errors import EngineError, ModelError
from vpr_ros.model import MASK, PlaceModel
from vpr_ros.nvidia_driver import usable_driver
from vpr_ros.printable import on_one_line

Provider = tuple[str, dict[str, str]]
"""A provider of ONNX Runtime and its options."""

_CPU: Provider = ("CPUExecutionProvider", {})
# TensorFloat-32 has ten bits of mantissa: whoever asks for fp32 does not expect them
_CUDA: Provider = ("CUDAExecutionProvider", {"use_tf32": "0"})
_TENSORRT = "TensorrtExecutionProvider"


class OnnxRuntimeEngine:
    """Runs a `PlaceModel` with ONNX Runtime, by default on the CPU in fp32: then it is the reference of all others.

    `threads` 0 lets ONNX Runtime choose, or uses one per core of `cores`. `graph` is the model in another precision.
    Calls with more than `batch` images are cut; 0 cuts none. `providers[0]` must run: ONNX Runtime itself would go on
    without it and not say so. Raises EngineError where the session cannot be made.
    """

    def __init__(
        self,
        model: PlaceModel,
        threads: int = 0,
        *,
        cores: tuple[int, ...] = (),
        graph: bytes | None = None,
        name: str = "onnxruntime",
        providers: Sequence[Provider] = (_CPU,),
        batch: int = 0,
    ) -> None:
        self.model = model
        self.name = name
        self._cores, self._batch = cores, batch
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or len(cores)
        # an idle robot must not burn a core: workers sleep instead of spinning between frames
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if providers[0][0] != _CPU[0]:
            options.log_severity_level = 3  # errors; it warns at every start that shapes are computed on the CPU
        content = model.content if graph is None else graph
        try:
            with bound_to(cores):  # its threads inherit it
                self._session = onnxruntime.InferenceSession(content, options, providers=list(providers))
        except EngineError:
            raise
        except Exception as error:  # onnxruntime raises its own classes, none of them public
            raise EngineError(f"{name} cannot load the model: {on_one_line(error)}") from error
        self._session.disable_fallback()
        wanted, running = providers[0][0], self._session.get_providers()
        if wanted != running[0]:
            raise EngineError(
                f"{name}: ONNX Runtime could not start {wanted} and would run on {running[0]}; its log names the "
                "library that is missing"
            )
        self._input = self._session.get_inputs()[0].name
        self._output = self._session.get_outputs()[0].name

    def describe(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, H, W, 3) RGB uint8 of the model's size -> (N, D) float32, unit length.

        Raises EngineError where ONNX Runtime fails, as for images of another size.
        """
        return self._run([self._output], images)[0]

    def describe_with_mask(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """As `describe`, and masks (N, h, w) float32 in [0, 1]. Raises ModelError for a model that has none."""
        if self.model.mask_size is None:
            raise ModelError(f"model {self.model.name} has no mask: it has no attention that makes one")
        descriptors, masks = self._run([self._output, MASK], images)
        return descriptors, masks

    def close(self) -> None:
        """Give back threads and memory; nothing may be described afterwards."""
        self.__dict__.pop("_session", None)

    def _run(self, outputs: list[str], images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        if self._batch and len(images) > self._batch:
            pieces = [self._run(outputs, images[i : i + self._batch]) for i in range(0, len(images), self._batch)]
            return [np.concatenate(parts) for parts in zip(*pieces, strict=True)]
        try:
            with bound_to(self._cores):  # the calling thread does its share of the work
                return self._session.run(outputs, {self._input: images})
        except EngineError:
            raise
        except Exception as error:  # as above
            raise EngineError(f"{self.name} failed: {on_one_line(error)}") from error


_PROVIDERS = {"cpu": _CPU[0], "cuda": _CUDA[0], "tensorrt": _TENSORRT}
_PRECISIONS = {"cpu": ("fp32", "int8"), "cuda": ("fp32", "fp16"), "tensorrt": ("fp32", "fp16", "int8")}


class OnnxRuntimeBackend:
    """ONNX Runtime on a `device`: `cpu`, `cuda` or `tensorrt`.

    The TensorRT provider keeps the engines that it builds under `cache`; without one it builds at every start.
    """

    def __init__(self, device: str = "cpu", cache: Path | None = None) -> None:
        self._device, self._cache = device, cache
        self.name = "onnxruntime" if device == "cpu" else f"onnxruntime_{device}"
        self.precisions = _PRECISIONS[device]
        self.needs_symmetric_int8 = device == "tensorrt"

    def missing(self) -> str:
        """Why it cannot run here, as one clause that names the fix; empty if it can."""
        provider = _PROVIDERS[self._device]
        if provider not in onnxruntime.get_available_providers():
            return f"this ONNX Runtime has no {provider}: pip install onnxruntime-gpu in place of onnxruntime"
        if self._device != "cpu":
            try:
                usable_driver()
            except EngineError as error:
                return str(error)
        if self._device == "tensorrt" and (library := _missing_tensorrt()):
            return f"ONNX Runtime {onnxruntime.__version__} needs {library}: install TensorRT {library.split('.')[-1]}"
        return ""

    def identity(self) -> Mapping[str, str]:
        """ONNX Runtime's version and the GPU, or the architecture of the CPU: the CPU's engine is the graph itself."""
        device = platform.machine() if self._device == "cpu" else usable_driver().device()
        return {"library": f"ONNX Runtime {onnxruntime.__version__}", "device": device}

    def build(self, model: PlaceModel, graph: bytes, options: BuildOptions, progress: BuildProgress) -> bytes:
        """The graph: ONNX Runtime compiles while it loads. Raises EngineError for one that it refuses.

        The TensorRT provider, which takes minutes, is made to do it now and to fill its cache.
        """
        waiting = ", which can take minutes" if self._device == "tensorrt" else ""
        progress(f"{self.name} compiles the model{waiting}", None)
        self.load(model, graph, options).close()
        return graph

    def load(self, model: PlaceModel, content: bytes, options: BuildOptions) -> OnnxRuntimeEngine:
        """An engine from a graph. Raises EngineError for one that it refuses, or a provider that does not run."""
        if options.precision not in self.precisions:
            raise EngineError(f"{self.name} runs {', '.join(self.precisions)}, not {options.precision}")
        if self._device != "cpu":
            _preload()
        return OnnxRuntimeEngine(
            model,
            options.threads,
            cores=options.cores,
            graph=content,
            name=f"{self.name} {options.precision}",
            providers=self._providers(model, content, options),
            batch=options.batch if self._device == "tensorrt" else 0,
        )

    def _providers(self, model: PlaceModel, content: bytes, options: BuildOptions) -> list[Provider]:
        if self._device == "cpu":
            return [_CPU]
        if self._device == "cuda":
            return [_CUDA]
        settings = {
            "trt_fp16_enable": str(int(options.precision == "fp16")),
            "trt_int8_enable": str(int(options.precision == "int8")),
            # what the graph keeps in fp32, because it overflows, is to stay there
            "trt_layer_norm_fp32_fallback": "1",
            **{
                f"trt_profile_{which}_shapes": f"images:{n}x{model.height}x{model.width}x3"
                for which, n in (("min", 1), ("opt", options.batch), ("max", options.batch))
            },
        }
        if self._cache:
            # the provider's own key does not know the weights: a model trained again would get the old engine
            folder = self._cache / f"{hashlib.sha256(content).hexdigest()[:16]}_{options.batch}"
            folder.mkdir(parents=True, exist_ok=True)
            settings |= {
                "trt_engine_cache_enable": "1",
                "trt_engine_cache_path": str(folder),
                "trt_timing_cache_enable": "1",
                "trt_timing_cache_path": str(self._cache),
            }
        return [(_TENSORRT, settings), _CUDA]


def _missing_tensorrt() -> str:
    """The library of TensorRT that the provider asks for and that is not there, `libnvinfer.so.10`; empty if it is.

    onnxruntime-gpu lists the provider also where there is no TensorRT, and would print a page when it is tried.
    """
    _preload()
    for provider in Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime_providers_tensorrt.so"):
        for library in set(re.findall(rb"\0(libnvinfer\.so\.\d+)\0", provider.read_bytes())):
            try:
                ctypes.CDLL(library.decode())
            except OSError:
                return library.decode()
    return ""


def _preload() -> None:
    """CUDA and cuDNN as pip installs them, which no loader finds by itself; elsewhere it does nothing."""
    preload = getattr(onnxruntime, "preload_dlls", None)  # from 1.21 on
    if preload is not None:
        with redirect_stdout(io.StringIO()):  # it prints what it does not find; the session says so, too
            preload()
