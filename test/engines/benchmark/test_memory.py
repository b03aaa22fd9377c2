from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fake_backends import FakeBackend

from vpr_ros.engines.benchmark import memory
from vpr_ros.engines.benchmark.memory import PeakMemory, device_memory


def test_peak_memory_is_what_came_since() -> None:
    before = np.ones(80 * 2**20, np.uint8)
    del before
    peak = PeakMemory()
    block = np.ones(40 * 2**20, np.uint8)
    del block
    assert peak.megabytes() == pytest.approx(40 * 2**20 / 1e6, abs=8)


class FakeDriver:
    """A GPU whose memory shrinks from one question to the next."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.free = [8_000_000_000, 7_500_000_000]

    def call(self, function: str, *arguments: Any) -> None:
        self.calls.append(function)
        if function == "cuMemGetInfo_v2":
            arguments[0]._obj.value = self.free.pop(0)


def test_device_memory_is_what_the_gpu_has_less_of(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = FakeDriver()
    monkeypatch.setattr(memory, "usable_driver", lambda: driver)
    assert device_memory(FakeBackend("openvino"))() is None
    assert driver.calls == []
    assert device_memory(FakeBackend("onnxruntime_cuda"))() == 500.0
    assert driver.calls.count("cuCtxPushCurrent_v2") == driver.calls.count("cuCtxPopCurrent_v2") == 2
