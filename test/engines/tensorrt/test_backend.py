"""Can TensorRT run here, and what do its plans depend on?"""

from __future__ import annotations

import sys

import numpy as np
import pytest
from fake_tensorrt import Gpu, install
from small_plans import BATCH, OLD, VERSIONS, images, quiet

from vpr_ros.engines.onnxruntime_engine import OnnxRuntimeEngine
from vpr_ros.engines.tensorrt import backend as backend_module
from vpr_ros.engines.tensorrt.backend import TensorRtBackend
from vpr_ros.errors import EngineError
from vpr_ros.model import PlaceModel


def test_missing_names_what_to_install_in_order(monkeypatch: pytest.MonkeyPatch, gpu: Gpu) -> None:
    install(monkeypatch, OLD, gpu)
    backend = TensorRtBackend()
    assert backend.missing() == ""
    gpu.devices = 0
    assert "sees no GPU" in backend.missing() or "finds no usable GPU" in backend.missing()

    def no_driver() -> None:
        raise OSError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr("vpr_ros.nvidia_driver._open_driver", no_driver)
    assert "no NVIDIA driver" in backend.missing()
    monkeypatch.setitem(sys.modules, "pycuda", None)
    assert "pip install pycuda" in backend.missing()
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert "python3-libnvinfer" in backend.missing()


def test_nothing_is_imported_before_the_driver_answers(monkeypatch: pytest.MonkeyPatch, gpu: Gpu) -> None:
    install(monkeypatch, OLD, gpu)
    gpu.devices = 0

    def must_not() -> None:
        raise AssertionError("imported")

    monkeypatch.setattr(backend_module, "libraries", lambda module: must_not())
    assert "GPU" in TensorRtBackend().missing()


def test_missing_explains_a_broken_or_old_installation(
    newest: TensorRtBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["tensorrt"], "__version__", "8.4.1.5")
    assert "8.4.1.5 is too old" in newest.missing()

    def broken() -> None:
        raise ImportError("/usr/lib/libgomp.so.1: cannot allocate memory in static TLS block")

    monkeypatch.setattr(backend_module, "libraries", lambda module: broken())
    assert "LD_PRELOAD" in newest.missing()


def test_identity_names_version_and_device(backend: TensorRtBackend) -> None:
    version = sys.modules["tensorrt"].__version__
    assert backend.identity() == {
        "library": f"TensorRT {version}",
        "device": "Imitation sm_87",
        "driver": "CUDA 12.6",
    }
    backend.version_compatible = True
    assert backend.identity()["library"] == f"TensorRT {version.split('.')[0]} (version-compatible)"


def test_without_a_gpu_all_is_refused_with_the_reason(
    newest: TensorRtBackend, gpu: Gpu, grid_model: PlaceModel
) -> None:
    gpu.devices = 0
    for call in (
        newest.identity,
        lambda: newest.build(grid_model, grid_model.content, BATCH, quiet),
        lambda: newest.load(grid_model, b"plan", BATCH),
    ):
        with pytest.raises(EngineError, match="GPU"):
            call()


def test_a_version_compatible_plan_outlives_an_update(
    gpu: Gpu, grid_model: PlaceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, "10.0.1", gpu)
    plans = [
        TensorRtBackend(version_compatible=some).build(grid_model, grid_model.content, BATCH, quiet)
        for some in (True, False)
    ]
    install(monkeypatch, VERSIONS[-1], gpu)
    shown = images(grid_model, 2)
    engine = TensorRtBackend(version_compatible=True).load(grid_model, plans[0], BATCH)
    np.testing.assert_allclose(engine.describe(shown), OnnxRuntimeEngine(grid_model).describe(shown), atol=1e-6)
    engine.close()
    with pytest.raises(EngineError, match=r"not compatible with this version.*build it again"):
        TensorRtBackend().load(grid_model, plans[1], BATCH)
    with pytest.raises(EngineError, match="host code is not allowed"):
        TensorRtBackend().load(grid_model, plans[0], BATCH)
