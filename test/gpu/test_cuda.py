"""Every call of pycuda and of the driver that an engine of TensorRT makes, on a GPU, with torch in the place of TensorRT.

So they are tested on any NVIDIA GPU, also one for which no TensorRT is at hand. Torch runs on the engine's own stream and
in the engine's buffers: what is not queued there, or not recorded in the CUDA graph, is missing in the descriptors.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import types
from typing import Any

import numpy as np
import pytest
from fake_tensorrt import Gpu
from fake_tensorrt import tensorrt as imitation
from numpy.typing import NDArray

from vpr_ros.engines.backend import BuildOptions
from vpr_ros.engines.tensorrt.backend import TensorRtBackend
from vpr_ros.engines.tensorrt.engine import TensorRtEngine
from vpr_ros.errors import EngineError
from vpr_ros.model import PlaceModel
from vpr_ros.nvidia_driver import usable_driver

torch = pytest.importorskip("torch")
pytest.importorskip("pycuda", reason="pycuda is not installed")
if not torch.cuda.is_available():
    pytest.skip("torch finds no GPU", allow_module_level=True)

BATCH = 8
CELLS = (4, 6)
VERSION = "11.4.0.106"
torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False


def described(images: Any, weight: Any) -> Any:
    """(N, H, W, 3) uint8 -> (N, D) of unit length: cast, mean over cells, product, length."""
    planes = images.float().permute(0, 3, 1, 2) / 255.0
    cells = torch.nn.functional.adaptive_avg_pool2d(planes, CELLS).flatten(1)
    return torch.nn.functional.normalize((cells - 0.5) @ weight, dim=1)


class Memory:
    """Memory of the GPU at an address, as torch reads it."""

    def __init__(self, address: int, shape: tuple[int, ...], kind: str) -> None:
        self.__cuda_array_interface__ = {"shape": shape, "typestr": kind, "data": (address, False), "version": 3}


@pytest.fixture
def weight(model: PlaceModel) -> Any:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3 * CELLS[0] * CELLS[1], model.dim, generator=generator).cuda()


@pytest.fixture
def engine(model: PlaceModel, weight: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An engine whose TensorRT is an imitation that computes with torch; all else is real."""
    if model.mask_size is not None:
        pytest.skip("one model is enough")
    module: Any = imitation(VERSION, Gpu())
    module.Runtime = runtime_of(module, model, weight)
    module.__spec__ = types.SimpleNamespace(name="tensorrt")
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    made = TensorRtBackend().load(model, b"torch", BuildOptions(batch=BATCH))
    yield made
    made.close()


def runtime_of(module: Any, model: PlaceModel, weight: Any) -> Any:
    image_shape, mode, data = (model.height, model.width, 3), module.TensorIOMode, module.DataType

    class Context:
        def __init__(self) -> None:
            self.addresses: dict[str, int] = {}

        def set_tensor_address(self, name: str, memory: int) -> bool:
            self.addresses[name] = memory
            return True

        def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
            self.size = shape[0]
            return True

        def execute_async_v3(self, stream_handle: int) -> bool:
            with torch.cuda.stream(torch.cuda.ExternalStream(stream_handle)), torch.no_grad():
                images = torch.as_tensor(
                    Memory(self.addresses["images"], (self.size, *image_shape), "|u1"), device="cuda"
                )
                out = torch.as_tensor(Memory(self.addresses["out"], (self.size, model.dim), "<f4"), device="cuda")
                out.copy_(described(images, weight))
            return True

    class Engine:
        num_io_tensors = 2

        def get_tensor_name(self, index: int) -> str:
            return ("images", "out")[index]

        def get_tensor_mode(self, name: str) -> int:
            return mode.INPUT if name == "images" else mode.OUTPUT

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            return (-1, *image_shape) if name == "images" else (-1, model.dim)

        def get_tensor_dtype(self, name: str) -> int:
            return data.UINT8 if name == "images" else data.FLOAT

        def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
            return [(1, *image_shape), (BATCH, *image_shape), (BATCH, *image_shape)]

        def create_execution_context(self) -> Context:
            return Context()

    class Runtime:
        def __init__(self, logger: Any) -> None:
            self.logger = logger

        def deserialize_cuda_engine(self, serialized_engine: bytes) -> Engine:
            return Engine()

    return Runtime


def expected(images: NDArray[np.uint8], weight: Any) -> NDArray[np.float32]:
    return described(torch.from_numpy(images), weight.cpu()).numpy()


def test_the_driver_names_the_gpu() -> None:
    major, minor = torch.cuda.get_device_capability()
    assert usable_driver().device() == f"{torch.cuda.get_device_name()} sm_{major}{minor}"
    assert usable_driver().version().startswith("CUDA ")


@pytest.mark.parametrize("count", [1, 2, 7, BATCH, BATCH + 1, 3 * BATCH + 2])
def test_descriptors_come_back_whole(
    engine: TensorRtEngine, images: NDArray[np.uint8], weight: Any, count: int
) -> None:
    shown = np.concatenate([images] * 2)[:count]
    np.testing.assert_allclose(engine.describe(shown), expected(shown, weight), atol=1e-5)


def test_graphs_are_recorded_and_answer_for_new_images(
    engine: TensorRtEngine, images: NDArray[np.uint8], weight: Any
) -> None:
    for size in (1, BATCH, 1, 3, BATCH, 1):
        for shown in (images[:size], images[-size:]):
            np.testing.assert_allclose(engine.describe(shown), expected(shown, weight), atol=1e-5)
    assert {size for size, run in engine._execution._runs.items() if run.graph} == {1, BATCH}, "no graph was recorded"


def test_a_graph_without_the_network_is_not_taken(
    engine: TensorRtEngine, images: NDArray[np.uint8], weight: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a library runs outside the recording, as on a stream of its own, does not repeat with the graph."""
    enqueue, driver = engine._execution._enqueue, engine._execution._driver
    recording: list[bool] = []

    def call(function: str, *arguments: Any) -> None:
        recording[:] = [function == "cuStreamBeginCapture_v2"] if "Capture" in function else recording
        driver.call(function, *arguments)

    def without_network(run: Any, size: int) -> None:
        if not (recording and recording[0]):
            return enqueue(run, size)
        for buffer in engine._execution._buffers[1:]:
            engine._execution._cuda.memcpy_dtoh_async(buffer.host[:size], buffer.device, engine._execution._stream)

    monkeypatch.setattr(engine._execution, "_driver", types.SimpleNamespace(call=call))
    monkeypatch.setattr(engine._execution, "_enqueue", without_network)
    np.testing.assert_allclose(engine.describe(images[:1]), expected(images[:1], weight), atol=1e-5)
    np.testing.assert_allclose(engine.describe(images[1:2]), expected(images[1:2], weight), atol=1e-5)
    assert not any(run.graph for run in engine._execution._runs.values())


def test_threads_may_share_an_engine(engine: TensorRtEngine, images: NDArray[np.uint8], weight: Any) -> None:
    wanted, worst = expected(images, weight), []

    def work(size: int) -> None:
        worst.extend(float(np.abs(engine.describe(images[:size]) - wanted[:size]).max()) for _ in range(50))

    threads = [threading.Thread(target=work, args=(size,)) for size in (1, 3, BATCH, len(images))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(worst) == 200
    assert max(worst) < 1e-5


def test_closing_gives_the_memory_back(engine: TensorRtEngine, images: NDArray[np.uint8]) -> None:
    def free() -> int:
        """Without what torch keeps for each stream that it has seen."""
        torch.cuda.synchronize()
        torch._C._cuda_clearCublasWorkspaces()
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info()[0]

    def live_and_close() -> None:
        other = engine._execution._backend.load(engine.model, b"torch", BuildOptions(batch=BATCH))
        other.describe(images)
        other.close()

    engine.describe(images)
    live_and_close()  # torch keeps a handle of cuBLAS for each thread that computes at once: from here on two
    before = free()
    for _ in range(10):
        live_and_close()
    assert before - free() < 1 << 20


def test_an_error_of_cuda_is_an_engine_error(engine: TensorRtEngine, images: NDArray[np.uint8]) -> None:
    with pytest.raises(EngineError, match="cuMemFree"):
        engine._on_worker(lambda: engine._execution._driver.call("cuMemFree_v2", ctypes.c_void_p(1)))
    assert np.isfinite(engine.describe(images[:1])).all()
