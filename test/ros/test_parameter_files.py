"""Parameter files as the node reads them: through ROS."""

from __future__ import annotations

from pathlib import Path

import pytest
import rclpy
from rclpy.node import Node

from vpr_ros.config import Config
from vpr_ros.ros.parameters import declare_parameters, read_config

CONFIG = Path(__file__).parents[2] / "config"


@pytest.mark.parametrize(
    "path", [CONFIG / "vpr.yaml", *sorted((CONFIG / "presets").glob("*.yaml"))], ids=lambda path: path.stem
)
def test_the_node_reads_what_the_library_reads(path: Path) -> None:
    context = rclpy.Context()
    rclpy.init(args=["--ros-args", "--params-file", str(path)], context=context)
    node = Node("vpr", context=context)
    try:
        declare_parameters(node)
        assert read_config(node) == Config.from_yaml(path)
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)
