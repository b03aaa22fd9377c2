from __future__ import annotations

import pytest
from fake_tensorrt import Gpu, install
from small_plans import VERSIONS

from vpr_ros.engines.tensorrt import builder
from vpr_ros.engines.tensorrt.backend import TensorRtBackend


@pytest.fixture
def gpu() -> Gpu:
    return Gpu()


@pytest.fixture(params=VERSIONS)
def backend(request: pytest.FixtureRequest, gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> TensorRtBackend:
    install(monkeypatch, request.param, gpu)
    return TensorRtBackend()


@pytest.fixture
def newest(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> TensorRtBackend:
    install(monkeypatch, VERSIONS[-1], gpu)
    return TensorRtBackend()


@pytest.fixture(autouse=True)
def quick_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "PERIOD_S", 0.01)
