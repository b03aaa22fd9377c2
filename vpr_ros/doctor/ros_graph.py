"""Watches the ROS graph, in a process of its own: rclpy may crash or hang, and the core knows no ROS."""

from __future__ import annotations

import json

from vpr_ros.config import Config
from vpr_ros.doctor.finding import Finding, Level
from vpr_ros.machine import Machine, ProcessFailed

EXTRA_S = 60.0
"""What the process may take on top of watching, before it counts as hung: a busy robot starts Python in ten seconds and more."""


def watch_graph(machine: Machine, config: Config, seconds: float) -> list[Finding]:
    """What `vpr_ros.ros.doctor` finds in a process of its own, which is ended if it hangs."""
    if not machine.where("rclpy"):
        fix = "source /opt/ros/$ROS_DISTRO/setup.bash && vpr doctor"
        return [Finding("ros graph", Level.SKIPPED, "not watched: there is no rclpy here", fix)]
    command = [machine.python, "-m", "vpr_ros.ros.doctor", "--json", "--seconds", str(seconds)]
    command += ["--image-transport", config.node.image_transport]
    command += ["--max-odometry-age", str(config.node.max_odometry_age_s)]
    command += [] if config.node.use_odometry else ["--no-odometry"]
    try:
        output, _ = machine.run(command, seconds + EXTRA_S)
    except ProcessFailed as failure:
        return [Finding("ros graph", Level.ERROR, f"cannot be watched: {failure}", _fix(machine, str(failure)))]
    return [Finding.from_json(item) for item in json.loads(output.splitlines()[-1])]


def _fix(machine: Machine, failure: str) -> str:
    if "rmw" in failure.lower():
        rmw, distribution = (machine.environment.get(name) for name in ("RMW_IMPLEMENTATION", "ROS_DISTRO"))
        fix = "unset RMW_IMPLEMENTATION"
        if distribution and rmw:
            fix += f"    # or: sudo apt install ros-{distribution}-{rmw.replace('_', '-')}"
        return fix
    if "No module named" in failure or "ImportError" in failure:
        return "source /opt/ros/$ROS_DISTRO/setup.bash; source install/setup.bash    # with the Python that ROS is for"
    return "ros2 daemon stop; ros2 doctor --report"
