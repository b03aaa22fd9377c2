from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from masked_models import save_masked_grid_model
from small_worlds import texture

from vpr_ros.engines import onnxruntime_engine
from vpr_ros.engines.backend import BuildOptions
from vpr_ros.engines.cores import bound_to, parse_cores
from vpr_ros.engines.onnxruntime_engine import OnnxRuntimeBackend, OnnxRuntimeEngine
from vpr_ros.errors import ConfigError, EngineError, ModelError
from vpr_ros.model import PlaceModel

CPU = OnnxRuntimeBackend("cpu")
IMAGES = np.stack([texture(seed, 64, 48) for seed in range(5)])


def no_progress(what: str, share: float | None) -> None:
    pass


def threads() -> dict[str, str]:
    """Cores that each thread of this process may run on, as Linux writes them."""
    found = {}
    for status in Path("/proc/self/task").glob("*/status"):
        lines = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
        found[status.parent.name] = lines["Cpus_allowed_list"].strip()
    return found


def new_threads(make: Callable[[], object]) -> dict[str, str]:
    """Those that are there after `make`, whose result lives meanwhile, and were not before."""
    before = threads()
    made = make()
    after = threads()
    del made
    return {number: cores for number, cores in after.items() if number not in before}


def test_describes_one_image_and_several(grid_model: PlaceModel) -> None:
    engine = CPU.load(grid_model, grid_model.content, BuildOptions())
    together = engine.describe(IMAGES)
    assert together.shape == (5, grid_model.dim)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(np.concatenate([engine.describe(image[None]) for image in IMAGES]), together, atol=1e-6)
    np.testing.assert_array_equal(OnnxRuntimeEngine(grid_model).describe(IMAGES), together)


def test_build_makes_what_load_takes(grid_model: PlaceModel) -> None:
    content = CPU.build(grid_model, grid_model.content, BuildOptions(), no_progress)
    engine = CPU.load(grid_model, content, BuildOptions())
    assert engine.name == "onnxruntime fp32"
    np.testing.assert_array_equal(engine.describe(IMAGES), OnnxRuntimeEngine(grid_model).describe(IMAGES))


def test_a_build_ends_with_what_progress_raises(grid_model: PlaceModel) -> None:
    def interrupt(what: str, share: float | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        CPU.build(grid_model, grid_model.content, BuildOptions(), interrupt)


def test_calls_are_cut_to_the_batch(grid_model: PlaceModel) -> None:
    whole, cut = OnnxRuntimeEngine(grid_model), OnnxRuntimeEngine(grid_model, batch=2)
    np.testing.assert_allclose(cut.describe(IMAGES), whole.describe(IMAGES), atol=1e-6)


def test_mask_comes_with_the_descriptors(tmp_path: Path, grid_model: PlaceModel) -> None:
    model = PlaceModel.open(save_masked_grid_model(tmp_path / "masked.onnx"))
    engine = OnnxRuntimeEngine(model, batch=2)
    descriptors, masks = engine.describe_with_mask(IMAGES)
    cells = IMAGES.reshape(5, 6, 8, 8, 8, 3).mean(axis=(2, 4, 5)) / 255
    np.testing.assert_allclose(masks, cells, atol=1e-5)
    np.testing.assert_allclose(descriptors, engine.describe(IMAGES), atol=1e-6)
    with pytest.raises(ModelError, match="has no mask"):
        OnnxRuntimeEngine(grid_model).describe_with_mask(IMAGES)


def test_many_threads_may_call(grid_model: PlaceModel) -> None:
    engine = OnnxRuntimeEngine(grid_model, threads=1)
    expected = engine.describe(IMAGES)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: engine.describe(IMAGES), range(20)):
            np.testing.assert_array_equal(found, expected)


def test_what_the_library_refuses_is_one_line(grid_model: PlaceModel) -> None:
    with pytest.raises(EngineError, match=r"^onnxruntime fp32 cannot load the model: .+$"):
        CPU.load(grid_model, b"no graph", BuildOptions())
    with pytest.raises(EngineError, match=r"^onnxruntime failed: .*Expected: 48.*$"):
        OnnxRuntimeEngine(grid_model).describe(IMAGES[:, :10])
    with pytest.raises(EngineError, match=r"^onnxruntime runs fp32, int8, not fp16$"):
        CPU.load(grid_model, grid_model.content, BuildOptions(precision="fp16"))


def test_cpu_is_never_missing() -> None:
    assert CPU.missing() == ""
    assert set(CPU.identity()) == {"library", "device"}


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_provider_that_falls_back_is_refused(grid_model: PlaceModel, tmp_path: Path, device: str) -> None:
    backend = OnnxRuntimeBackend(device, tmp_path)
    if not backend.missing():
        pytest.skip(f"{backend.name} runs here")
    assert backend.missing().count("\n") == 0
    # with a GPU but without TensorRT it would be CUDA
    with pytest.raises(EngineError, match=r"could not start \w+ExecutionProvider and would run on (CPU|CUDA)"):
        backend.load(grid_model, grid_model.content, BuildOptions())


@pytest.fixture
def gpu_build(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """As if onnxruntime-gpu were installed beside a GPU: the folder where it would be."""
    module = onnxruntime_engine.onnxruntime
    monkeypatch.setattr(module, "__file__", str(tmp_path / "__init__.py"))
    monkeypatch.setattr(module, "get_available_providers", lambda: ["TensorrtExecutionProvider"])
    monkeypatch.setattr(onnxruntime_engine, "usable_driver", lambda: None)
    (tmp_path / "capi").mkdir()
    return tmp_path


@pytest.mark.parametrize(("needed", "missing"), [("libnvinfer.so.10", True), ("libc.so.6", False)])
def test_the_tensorrt_provider_without_tensorrt_is_missing(gpu_build: Path, needed: str, missing: bool) -> None:
    """onnxruntime-gpu lists it all the same; on an H200 the self-test failed where it should have skipped."""
    content = f"elf\0libcudart.so.13\0{needed}\0libnvinfer_plugin.so.10\0".encode()
    (gpu_build / "capi" / "libonnxruntime_providers_tensorrt.so").write_bytes(content)
    reason = OnnxRuntimeBackend("tensorrt").missing()
    assert (f"needs {needed}: install TensorRT 10" in reason) == missing
    assert bool(reason) == missing


def test_cuda_of_pip_is_loaded_first_and_silently(
    grid_model: PlaceModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No loader finds what pip installs, and ONNX Runtime looks for it only if it is asked."""
    done: list[str] = []

    def preload() -> None:
        print("Failed to load libcublas")
        done.append("loaded")

    monkeypatch.setattr(onnxruntime_engine.onnxruntime, "preload_dlls", preload, raising=False)
    monkeypatch.setattr(onnxruntime_engine, "OnnxRuntimeEngine", lambda *_, **__: done.append("session"))
    OnnxRuntimeBackend("cuda").load(grid_model, grid_model.content, BuildOptions())
    assert done == ["loaded", "session"]
    OnnxRuntimeBackend("cpu").load(grid_model, grid_model.content, BuildOptions())
    assert done == ["loaded", "session", "session"]
    assert capsys.readouterr().out == ""


def test_another_model_gets_another_tensorrt_cache(grid_model: PlaceModel, tmp_path: Path) -> None:
    backend = OnnxRuntimeBackend("tensorrt", tmp_path)
    options = BuildOptions(precision="fp16", batch=4)
    folders = []
    for content in (grid_model.content, grid_model.content + b"\0"):
        (name, settings), (behind, _) = backend._providers(grid_model, content, options)
        assert (name, behind) == ("TensorrtExecutionProvider", "CUDAExecutionProvider")
        assert settings["trt_profile_max_shapes"] == "images:4x48x64x3"
        assert (settings["trt_fp16_enable"], settings["trt_int8_enable"]) == ("1", "0")
        folders.append(Path(settings["trt_engine_cache_path"]))
    assert folders[0] != folders[1]
    assert all(folder.parent == tmp_path and folder.is_dir() for folder in folders)


# --- cores ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "cores"), [("", ()), (" ", ()), ("0", (0,)), ("2,3,6-7", (2, 3, 6, 7)), (" 3 , 1-2,2", (1, 2, 3))]
)
def test_cores(text: str, cores: tuple[int, ...]) -> None:
    assert parse_cores(text) == cores


@given(st.sets(st.integers(0, 300)))
def test_every_set_of_cores_can_be_written(cores: set[int]) -> None:
    expected = tuple(sorted(cores))
    assert parse_cores(",".join(map(str, cores))) == expected
    assert parse_cores(",".join(f"{core}-{core}" for core in cores)) == expected


@given(st.integers(0, 2000), st.integers(0, 2000))
def test_a_range_holds_both_ends(first: int, last: int) -> None:
    text = f"{first}-{last}"
    if first <= last:
        assert parse_cores(text) == tuple(range(first, last + 1))
    else:
        with pytest.raises(ConfigError, match=r"engine\.cores"):
            parse_cores(text)


@pytest.mark.parametrize("text", ["a", "1,", ",", "-1", "1-", "1--2", "1.5", "4096", "0-99999", "²", "1 2"])
def test_what_is_no_cores_names_the_parameter(text: str) -> None:
    with pytest.raises(ConfigError, match=r"engine\.cores must be cores like 2,3 or 4-7"):
        parse_cores(text)


@given(st.text(alphabet="0123456789,- x", max_size=12))
def test_any_text_is_cores_or_refused(text: str) -> None:
    try:
        cores = parse_cores(text)
    except ConfigError:
        return
    assert cores == tuple(sorted(set(cores)))
    assert parse_cores(",".join(map(str, cores))) == cores


needs_linux = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="threads are bound on Linux only")


@needs_linux
def test_threads_of_the_library_are_bound_and_the_caller_is_not(grid_model: PlaceModel) -> None:
    before = os.sched_getaffinity(0)
    core = max(before)
    options = BuildOptions(threads=3, cores=(core,))
    born = new_threads(lambda: CPU.load(grid_model, grid_model.content, options))
    assert list(born.values()) == [str(core)] * 2  # the third is whoever calls
    assert os.sched_getaffinity(0) == before


@needs_linux
def test_the_caller_computes_on_the_cores_too(grid_model: PlaceModel, monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.sched_getaffinity(0)
    core = max(before)
    engine = CPU.load(grid_model, grid_model.content, BuildOptions(cores=(core,)))
    during = []

    class Watched:
        def run(self, *arguments: object) -> list[object]:
            during.append(os.sched_getaffinity(0))
            raise RuntimeError("stop")

    monkeypatch.setattr(engine, "_session", Watched())
    with pytest.raises(EngineError, match="stop"):
        engine.describe(IMAGES)
    assert during == [{core}]
    assert os.sched_getaffinity(0) == before


@needs_linux
def test_cores_without_a_number_of_threads_give_one_each(grid_model: PlaceModel) -> None:
    core = max(os.sched_getaffinity(0))
    born = new_threads(lambda: CPU.load(grid_model, grid_model.content, BuildOptions(cores=(core,))))
    assert born == {}


@needs_linux
@pytest.mark.parametrize("cores", [(4000,), (0, 4000)])
def test_cores_that_are_not_there_are_refused(grid_model: PlaceModel, cores: tuple[int, ...]) -> None:
    before = os.sched_getaffinity(0)
    with pytest.raises(EngineError, match=r"engine\.cores: .*4000"):
        CPU.load(grid_model, grid_model.content, BuildOptions(cores=cores))
    assert os.sched_getaffinity(0) == before


@needs_linux
def test_affinity_comes_back_after_an_error() -> None:
    before = os.sched_getaffinity(0)
    inside = []

    def fail() -> None:
        with bound_to((max(before),)):
            inside.append(os.sched_getaffinity(0))
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        fail()
    assert inside == [{max(before)}]
    assert os.sched_getaffinity(0) == before
