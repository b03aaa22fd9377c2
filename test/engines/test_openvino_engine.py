from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from masked_models import save_masked_grid_model
from small_worlds import texture

from vpr_ros.engines.backend import BuildOptions
from vpr_ros.engines.onnxruntime_engine import OnnxRuntimeEngine
from vpr_ros.engines.openvino_engine import OpenVinoBackend
from vpr_ros.errors import EngineError, ModelError
from vpr_ros.model import PlaceModel, shipped_model

openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install openvino")

CPU = OpenVinoBackend("CPU")
IMAGES = np.stack([texture(seed, 64, 48) for seed in range(5)])


needs_linux = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="threads are bound on Linux only")


def no_progress(what: str, share: float | None) -> None:
    pass


@pytest.fixture(scope="module")
def shipped() -> PlaceModel:
    return PlaceModel.open(shipped_model())


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_any_number_of_images(grid_model: PlaceModel, batch: int, count: int) -> None:
    engine = CPU.load(grid_model, grid_model.content, BuildOptions(batch=batch))
    found = engine.describe(IMAGES[:count])
    assert found.shape == (count, grid_model.dim)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, OnnxRuntimeEngine(grid_model).describe(IMAGES[:count]), atol=1e-5)


def test_a_call_leaves_the_result_of_the_last_one_alone(grid_model: PlaceModel) -> None:
    engine = CPU.load(grid_model, grid_model.content, BuildOptions())
    first = engine.describe(IMAGES[:1])
    kept = first.copy()
    engine.describe(IMAGES[1:2])
    np.testing.assert_array_equal(first, kept)


def test_images_may_be_views(grid_model: PlaceModel) -> None:
    engine = CPU.load(grid_model, grid_model.content, BuildOptions())
    flipped = IMAGES[:1, :, ::-1]
    np.testing.assert_array_equal(engine.describe(flipped), engine.describe(flipped.copy()))
    assert np.abs(engine.describe(flipped) - engine.describe(IMAGES[:1])).max() > 0.01


def test_build_makes_what_load_takes(grid_model: PlaceModel) -> None:
    content = CPU.build(grid_model, grid_model.content, BuildOptions(), no_progress)
    engine = CPU.load(grid_model, content, BuildOptions())
    assert engine.name == "openvino fp32"
    np.testing.assert_allclose(engine.describe(IMAGES), OnnxRuntimeEngine(grid_model).describe(IMAGES), atol=1e-5)


def test_mask_comes_with_the_descriptors(tmp_path: Path, grid_model: PlaceModel) -> None:
    model = PlaceModel.open(save_masked_grid_model(tmp_path / "masked.onnx"))
    engine = CPU.load(model, model.content, BuildOptions())
    descriptors, masks = engine.describe_with_mask(IMAGES[:3])
    cells = IMAGES[:3].reshape(3, 6, 8, 8, 8, 3).mean(axis=(2, 4, 5)) / 255
    np.testing.assert_allclose(masks, cells, atol=1e-5)
    np.testing.assert_allclose(descriptors, engine.describe(IMAGES[:3]), atol=1e-6)
    with pytest.raises(ModelError, match="has no mask"):
        CPU.load(grid_model, grid_model.content, BuildOptions()).describe_with_mask(IMAGES)


def test_many_threads_may_call(grid_model: PlaceModel) -> None:
    engine = CPU.load(grid_model, grid_model.content, BuildOptions(threads=1))
    expected = [engine.describe(image[None]) for image in IMAGES]
    with ThreadPoolExecutor(4) as pool:
        numbers = list(range(5)) * 8
        for number, found in zip(numbers, pool.map(lambda n: engine.describe(IMAGES[n : n + 1]), numbers), strict=True):
            np.testing.assert_array_equal(found, expected[number])


def test_fp32_is_fp32(shipped: PlaceModel) -> None:
    image = texture(0, shipped.width, shipped.height)[None]
    engine = CPU.load(shipped, shipped.content, BuildOptions())
    np.testing.assert_allclose(engine.describe(image), OnnxRuntimeEngine(shipped).describe(image), atol=1e-5)


def test_bf16_is_near_where_the_cpu_has_it(shipped: PlaceModel) -> None:
    options = BuildOptions(precision="bf16")
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        with pytest.raises(EngineError, match="cannot compute in bf16; use fp32 or int8"):
            CPU.build(shipped, shipped.content, options, no_progress)
        return
    image = texture(0, shipped.width, shipped.height)[None]
    engine = CPU.load(shipped, CPU.build(shipped, shipped.content, options, no_progress), options)
    found, expected = engine.describe(image)[0], OnnxRuntimeEngine(shipped).describe(image)[0]
    assert 0.99 < found @ expected < 1 - 1e-6  # it would be nearer if it were fp32
    assert engine.name == "openvino bf16"


def test_a_cpu_without_bf16_says_so(grid_model: PlaceModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def old_cpu(core: Any, device: str, name: str) -> list[str]:
        return ["FP32", "INT8"]

    monkeypatch.setattr(openvino.Core, "get_property", old_cpu)
    with pytest.raises(EngineError, match=r"^openvino: this CPU cannot compute in bf16; use fp32 or int8$"):
        CPU.build(grid_model, grid_model.content, BuildOptions(precision="bf16"), no_progress)


def test_what_the_library_refuses_is_one_line(grid_model: PlaceModel) -> None:
    with pytest.raises(EngineError, match=r"^openvino fp32 cannot read the model: .+$"):
        CPU.load(grid_model, b"no graph", BuildOptions())
    with pytest.raises(EngineError, match=r"^openvino runs fp32, bf16, int8, not fp16$"):
        CPU.load(grid_model, grid_model.content, BuildOptions(precision="fp16"))
    engine = CPU.load(grid_model, grid_model.content, BuildOptions())
    with pytest.raises(EngineError, match=r"^openvino fp32 failed: .+$"):
        engine.describe(IMAGES[:, :10])
    engine.describe(IMAGES)  # and goes on


def test_what_is_here_and_what_it_depends_on() -> None:
    assert CPU.missing() == ""
    identity = CPU.identity()
    assert openvino.__version__ in identity["library"]
    assert identity["device"] == openvino.Core().get_property("CPU", "FULL_DEVICE_NAME")


def test_a_gpu_that_is_not_there_is_a_clause(grid_model: PlaceModel) -> None:
    backend = OpenVinoBackend("GPU")
    if not (reason := backend.missing()):
        pytest.skip("there is an Intel GPU")
    assert "OpenVINO finds no GPU" in reason
    with pytest.raises(EngineError, match="OpenVINO finds no GPU"):
        backend.identity()
    with pytest.raises(EngineError, match=r"^openvino_gpu fp16 cannot compile the model: .+$"):
        backend.load(grid_model, grid_model.content, BuildOptions(precision="fp16"))


def test_without_openvino_the_fix_is_named(grid_model: PlaceModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert CPU.missing() == "OpenVINO is not installed: pip install openvino"
    with pytest.raises(EngineError, match="pip install openvino"):
        CPU.load(grid_model, grid_model.content, BuildOptions())


ALONE = """
import os, sys
from pathlib import Path
import numpy as np
from vpr_ros.engines.backend import BuildOptions
from vpr_ros.engines.openvino_engine import OpenVinoBackend
from vpr_ros.model import PlaceModel

def ticks():
    # user and system time of each thread, in hundredths of a second
    stats = {p.parent.name: p.read_text().rpartition(")")[2].split() for p in Path("/proc/self/task").glob("*/stat")}
    return {number: int(words[11]) + int(words[12]) for number, words in stats.items()}

model = PlaceModel.open(sys.argv[1])
mine = os.sched_getaffinity(0)
engine = OpenVinoBackend("CPU").load(model, model.content, BuildOptions(cores=(max(mine),)))
before = ticks()
for _ in range(20):
    engine.describe(np.zeros((1, model.height, model.width, 3), np.uint8))
spent = {number: n - before.get(number, 0) for number, n in ticks().items()}
caller = spent.pop(str(os.getpid()))
assert caller >= 10 and sum(spent.values()) <= 0.05 * caller, (caller, spent)
assert os.sched_getaffinity(0) == mine
"""


@needs_linux
def test_on_one_core_only_the_caller_computes() -> None:
    """In a process of its own: OpenVINO's threads live as long as the process."""
    arguments = [sys.executable, "-c", ALONE, str(shipped_model())]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


@needs_linux
def test_the_caller_computes_on_the_cores(grid_model: PlaceModel) -> None:
    before = os.sched_getaffinity(0)
    core = max(before)
    engine = CPU.load(grid_model, grid_model.content, BuildOptions(cores=(core,)))
    during = []

    class Watched:
        def infer(self, *arguments: object, **options: object) -> None:
            during.append(os.sched_getaffinity(0))
            raise RuntimeError("stop")

    engine._requests[1] = Watched()  # type: ignore[assignment]
    with pytest.raises(EngineError, match=r"^openvino fp32 failed: stop$"):
        engine.describe(IMAGES[:1])
    assert during == [{core}]
    assert os.sched_getaffinity(0) == before


@needs_linux
@pytest.mark.parametrize("options", [BuildOptions(cores=(0, 1)), BuildOptions(threads=2, cores=(0,))])
def test_cores_that_its_threads_would_leave_are_refused(grid_model: PlaceModel, options: BuildOptions) -> None:
    with pytest.raises(EngineError, match=r"set engine\.threads to 1, or .* taskset -c 0"):
        CPU.load(grid_model, grid_model.content, options)
