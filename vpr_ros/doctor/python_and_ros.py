"""Is this the Python that ROS was built for, and is ROS on its path?"""

from __future__ import annotations

import os
import re
from pathlib import Path

from vpr_ros.doctor.finding import Finding, Level
from vpr_ros.machine import Machine


def check_python(machine: Machine) -> Finding:
    """Is it new enough, and the one that ROS was built for?"""
    version = ".".join(map(str, machine.python_version))
    found = f"{version}, {machine.python}"
    if machine.python_version < (3, 10):
        return Finding("python", Level.ERROR, f"{found}: vpr_ros needs 3.10", "sudo apt install python3.10")
    prefixes = [Path(p) for p in machine.environment.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    if distribution := machine.environment.get("ROS_DISTRO"):
        prefixes.append(machine.at(f"opt/ros/{distribution}"))
    built_for = {
        (int(number[1]), int(number[2]))
        for prefix in prefixes
        for lib in ("lib", "local/lib")
        for package in prefix.glob(f"{lib}/python3*/*-packages/rclpy")
        if (number := re.search(r"/python(3)\.(\d+)/", str(package)))
    }
    if built_for and machine.python_version not in built_for:
        ros = ".".join(map(str, max(built_for)))
        fix = f"/usr/bin/python{ros} -m vpr_ros.cli doctor    # and install vpr_ros for that Python"
        return Finding("python", Level.ERROR, f"{found}; but ROS here was built for {ros}", fix)
    return Finding("python", Level.OK, found)


def check_ros(machine: Machine) -> Finding:
    """Which distribution and RMW the environment names, and whether rclpy can be found."""
    if rclpy := machine.where("rclpy"):
        distribution = machine.environment.get("ROS_DISTRO") or "no ROS_DISTRO (ROS from PyPI)"
        rmw = machine.environment.get("RMW_IMPLEMENTATION") or "default RMW"
        return Finding("ros", Level.OK, f"{distribution}, {rmw}, rclpy in {Path(rclpy).parent}")
    if known := sorted(path.parent.name for path in machine.at("opt/ros").glob("*/setup.bash")):
        found = f"rclpy is not on Python's path, but ROS {' and '.join(known)} is installed"
        return Finding("ros", Level.ERROR, found, f"source /opt/ros/{known[-1]}/setup.bash")
    fix = "make setup    # ROS from PyPI; or install ROS 2: https://docs.ros.org"
    return Finding("ros", Level.SKIPPED, "no ROS here: vpr replay works, the node does not", fix)
