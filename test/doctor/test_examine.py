"""All checks together: none ends the others, and their order stays."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from fake_machine import assert_bad

from vpr_ros.config import Config
from vpr_ros.doctor import Finding, Level, checks, examine
from vpr_ros.machine import Machine
from vpr_ros.model import PlaceModel


def test_a_check_that_fails_is_a_warning_and_the_others_go_on() -> None:
    def fail() -> Finding:
        raise KeyError("surprise")

    def fail_too() -> list[Finding]:
        raise RuntimeError("no graph")

    fine = Finding("after", Level.OK, "fine")
    before, after, graph = examine({"before": fail, "after": lambda: fine}, fail_too)
    assert_bad(before, Level.WARNING, "check failed: KeyError: 'surprise'", "vpr doctor --json")
    assert after == fine
    assert_bad(graph, Level.WARNING, "check failed: RuntimeError: no graph", "vpr doctor --json")


def test_findings_come_in_the_order_of_the_checks() -> None:
    def slow(name: str, seconds: float) -> Callable[[], Finding]:
        def check() -> Finding:
            time.sleep(seconds)
            return Finding(name, Level.OK, "")

        return check

    found = examine({"a": slow("a", 0.2), "b": slow("b", 0)}, lambda: [Finding("c", Level.OK, "")])
    assert [finding.name for finding in found] == ["a", "b", "c"]


def test_every_check_answers_under_its_own_name(machine: Machine, tmp_path: Path, grid_model: PlaceModel) -> None:
    config = Config().with_values({"node.maps_directory": str(tmp_path), "model.path": str(grid_model.path)})
    found = checks(machine, config, "lab")
    assert list(found)[-1] == "map"
    quick = {name: check for name, check in found.items() if name not in ("opencv", "faiss", "onnxruntime")}
    for name, finding in zip(quick, examine(quick), strict=True):
        assert finding.name == name
        assert "check failed" not in finding.found
