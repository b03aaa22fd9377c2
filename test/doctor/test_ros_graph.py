"""The process that watches the ROS graph: missing, broken, hanging. test/ros has what it finds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fake_machine import alone, assert_bad, module, put

from vpr_ros.config import Config
from vpr_ros.doctor import Level, ros_graph, watch_graph
from vpr_ros.machine import Machine, ProcessFailed


def test_without_rclpy_the_graph_is_one_skipped_line(machine: Machine) -> None:
    (finding,) = watch_graph(alone(machine), Config(), 3.0)
    assert_bad(finding, Level.SKIPPED, "no rclpy", "source /opt/ros/")


class Ending(Machine):
    """A machine whose processes end in a given way."""

    __slots__ = ("answer",)

    def run(self, command, timeout_s):  # type: ignore[no-untyped-def]
        raise ProcessFailed(self.answer)


@pytest.mark.parametrize(
    ("failure", "fix"),
    [
        ("Expected RMW implementation identifier of 'rmw_x' but", "sudo apt install ros-humble-rmw-x"),
        ("ModuleNotFoundError: No module named 'rclpy._rclpy_pybind11'", "source /opt/ros/$ROS_DISTRO/setup.bash"),
        ("no answer in 15 s", "ros2 doctor --report"),
    ],
)
def test_a_graph_that_cannot_be_watched(machine: Machine, failure: str, fix: str) -> None:
    module(machine, "rclpy", "")
    environment = {"RMW_IMPLEMENTATION": "rmw_x", "ROS_DISTRO": "humble"}
    other = Ending(root=machine.root, path=machine.path, environment=environment)
    object.__setattr__(other, "answer", failure)
    (finding,) = watch_graph(other, Config(), 3.0)
    assert_bad(finding, Level.ERROR, failure, fix)


def test_a_ros_process_that_hangs_is_ended(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module(machine, "rclpy", "")
    put(machine, "python", "#!/bin/sh\nexec sleep 100000\n")
    machine.at("python").chmod(0o755)
    monkeypatch.setattr(ros_graph, "EXTRA_S", 0.3)
    (finding,) = watch_graph(replace(machine, python=str(tmp_path / "python")), Config(), 0.2)
    assert_bad(finding, Level.ERROR, "no answer", "ros2 doctor")
