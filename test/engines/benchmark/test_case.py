from __future__ import annotations

from typing import Any

from fake_backends import FakeBackend
from small_benchmarks import IMAGES

from vpr_ros.engines.benchmark.case import cases
from vpr_ros.model import PlaceModel


def test_cases_are_what_can_run_or_what_is_asked_for(grid_model: PlaceModel) -> None:
    known = {"fake": FakeBackend(), "none": FakeBackend("none", ("fp16",), why_missing="it is not installed")}

    def names(*arguments: Any) -> list[str]:
        return [str(case) for case in cases([(grid_model, IMAGES)], known, *arguments)]

    assert names() == [f"grid fake {precision} batch {batch}" for precision in ("fp32", "bf16") for batch in (1, 4)]
    assert names((), ("int8",), (2,)) == ["grid fake int8 batch 2"]
    assert names(("none", "fake"), (), (1,)) == [
        "grid none fp16 batch 1", "grid fake fp32 batch 1", "grid fake bf16 batch 1",
    ]  # fmt: skip
