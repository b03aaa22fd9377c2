"""The backends of TensorRT and TensorRT for RTX on a GPU. What `vpr benchmark --check` checks is not repeated but run."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path

import numpy as np
import pytest
from engine_checks import failures
from numpy.typing import NDArray

from vpr_ros.engines.backend import BuildOptions
from vpr_ros.engines.onnxruntime_engine import OnnxRuntimeEngine
from vpr_ros.engines.tensorrt.backend import TensorRtBackend
from vpr_ros.engines.tensorrt.engine import TensorRtEngine
from vpr_ros.engines.tensorrt.rtx import TensorRtRtxBackend
from vpr_ros.errors import EngineError
from vpr_ros.model import PlaceModel


def quiet(said: str, share: float | None) -> None:
    pass


def cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return float(np.sum(a * b, axis=1).min())


def built(backend: TensorRtBackend, model: PlaceModel, batch: int = 8) -> TensorRtEngine:
    options = BuildOptions(batch=batch)
    return backend.load(model, backend.build(model, model.content, options, quiet), options)


def test_every_check_passes(
    tensorrt: TensorRtBackend, model: PlaceModel, images: NDArray[np.uint8], tmp_path: Path
) -> None:
    assert failures(tensorrt, model, images, tmp_path) == []


def test_recorded_graphs_answer_as_plain_runs(
    tensorrt: TensorRtBackend, model: PlaceModel, images: NDArray[np.uint8]
) -> None:
    recording = built(tensorrt, model)
    plain = built(dataclasses.replace(tensorrt, cuda_graphs=False), model)
    assert plain._execution._runs == {}
    for size in (1, 8, 3, 1, 8, 16, 1):
        for shown in (images[:size], images[-size:]):
            assert cosine(recording.describe(shown), plain.describe(shown)) > 0.9999
    assert {size for size, run in recording._execution._runs.items() if run.graph} == {1, 8}, "no graph was recorded"
    assert not any(run.graph for run in plain._execution._runs.values())
    recording.close()
    plain.close()


def test_progress_comes_and_the_shares_grow(tensorrt: TensorRtBackend, model: PlaceModel) -> None:
    shares: list[float] = []

    def progress(said: str, share: float | None) -> None:
        shares.extend([] if share is None else [share])

    tensorrt.build(model, model.content, BuildOptions(), progress)
    assert shares[-1] == 1.0
    assert all(0 <= share <= 1 for share in shares)


def test_an_interrupted_build_leaves_no_thread(
    tensorrt: TensorRtBackend, model: PlaceModel, tmp_path: Path, images: NDArray[np.uint8]
) -> None:
    tensorrt.cache = tmp_path
    if tensorrt.identity()["library"].startswith("TensorRT 8"):
        pytest.skip("TensorRT 8 has no progress monitor: the build goes on unseen")

    def interrupt(said: str, share: float | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tensorrt.build(model, model.content, BuildOptions(), interrupt)
    assert not any(thread.name == "tensorrt-build" for thread in threading.enumerate())
    engine = built(tensorrt, model)
    assert cosine(engine.describe(images), OnnxRuntimeEngine(model).describe(images)) > 0.9999
    engine.close()


def test_timings_or_kernels_are_written_and_taken_again(
    tensorrt: TensorRtBackend, model: PlaceModel, images: NDArray[np.uint8], tmp_path: Path
) -> None:
    """Timings of a build of TensorRT, kernels that TensorRT for RTX compiled when it first ran."""

    def used() -> None:
        engine = built(tensorrt, model)
        engine.describe(images)
        engine.close()

    tensorrt.cache = tmp_path
    used()
    (file,) = tmp_path.iterdir()
    assert file.stat().st_size > 0
    for content in (file.read_bytes(), b"garbage", b""):
        file.write_bytes(content)
        used()
        assert file.stat().st_size > len(b"garbage")
    assert list(tmp_path.iterdir()) == [file]


def test_a_version_compatible_plan_loads(
    tensorrt: TensorRtBackend, model: PlaceModel, images: NDArray[np.uint8]
) -> None:
    if isinstance(tensorrt, TensorRtRtxBackend):
        pytest.skip("TensorRT for RTX has no version-compatible plans")
    engine = built(dataclasses.replace(tensorrt, version_compatible=True), model)
    assert cosine(engine.describe(images), OnnxRuntimeEngine(model).describe(images)) > 0.9999
    engine.close()


def test_closing_gives_the_memory_back(tensorrt: TensorRtBackend, model: PlaceModel, images: NDArray[np.uint8]) -> None:
    options = BuildOptions(batch=8)
    plan = tensorrt.build(model, model.content, options, quiet)

    def used() -> int:
        watching = tensorrt.load(model, plan, options)  # a context of its own, in which to ask
        free, total = watching._on_worker(lambda: _memory(watching))
        watching.close()
        return total - free

    before = used()
    for _ in range(10):
        engine = tensorrt.load(model, plan, options)
        engine.describe(images)
        engine.close()
    assert used() - before < 64 << 20


def _memory(engine: TensorRtEngine) -> tuple[int, int]:
    import pycuda.driver

    with engine._execution._current():
        return pycuda.driver.mem_get_info()


def test_two_engines_run_at_once(tensorrt: TensorRtBackend, model: PlaceModel, images: NDArray[np.uint8]) -> None:
    engines = [built(tensorrt, model) for _ in range(2)]
    expected = OnnxRuntimeEngine(model).describe(images)
    worst: list[float] = []

    def work(engine: TensorRtEngine, size: int) -> None:
        worst.extend(cosine(engine.describe(images[:size]), expected[:size]) for _ in range(50))

    threads = [threading.Thread(target=work, args=(engine, size)) for engine in engines for size in (1, 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(worst) == 200
    assert min(worst) > 0.9999
    for engine in engines:
        engine.close()


def test_damaged_plans_are_refused(tensorrt: TensorRtBackend, model: PlaceModel) -> None:
    options = BuildOptions()
    plan = tensorrt.build(model, model.content, options, quiet)
    for content in (b"", b"\0" * 4096, model.content, plan[: len(plan) // 2]):
        with pytest.raises(EngineError):
            tensorrt.load(model, content, options)
