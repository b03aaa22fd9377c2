from __future__ import annotations

from dataclasses import replace

import pytest
from fake_machine import alone, assert_bad, module, put

from vpr_ros.doctor import Level
from vpr_ros.doctor.python_and_ros import check_python, check_ros
from vpr_ros.machine import Machine


def test_python_is_new_enough(machine: Machine) -> None:
    assert check_python(machine).level is Level.OK
    assert_bad(check_python(replace(machine, python_version=(3, 8))), Level.ERROR, "needs 3.10", "python3.10")


@pytest.mark.parametrize("folder", ["lib/python3.10/site-packages", "local/lib/python3.10/dist-packages"])
def test_python_is_the_one_that_ros_was_built_for(machine: Machine, folder: str) -> None:
    machine = replace(machine, environment={"ROS_DISTRO": "humble"}, python_version=(3, 12))
    put(machine, f"opt/ros/humble/{folder}/rclpy/__init__.py")
    assert_bad(check_python(machine), Level.ERROR, "ROS here was built for 3.10", "/usr/bin/python3.10 -m vpr_ros")
    assert check_python(replace(machine, python_version=(3, 10))).level is Level.OK


def test_ros_that_is_not_there_is_skipped_and_one_not_sourced_is_an_error(machine: Machine) -> None:
    machine = alone(machine)
    assert_bad(check_ros(machine), Level.SKIPPED, "no ROS here", "make setup")
    put(machine, "opt/ros/jazzy/setup.bash")
    assert_bad(check_ros(machine), Level.ERROR, "ROS jazzy is installed", "source /opt/ros/jazzy/setup.bash")
    module(machine, "rclpy", "raise SystemExit('never imported')")
    sourced = replace(machine, environment={"ROS_DISTRO": "jazzy", "RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"})
    assert check_ros(sourced).level is Level.OK
    assert "jazzy, rmw_cyclonedds_cpp" in check_ros(sourced).found
