"""Parameter files and arguments as the node reads them, through ROS: no traceback, and what the library reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import rclpy
import yaml
from rclpy.node import Node

from vpr_ros.config import Config
from vpr_ros.errors import ConfigError
from vpr_ros.ros.parameters import declare_parameters, read_config

CONFIG = Path(__file__).parents[2] / "config"


@contextmanager
def node(*arguments: str) -> Iterator[Node]:
    context = rclpy.Context()
    rclpy.init(args=["--ros-args", *arguments], context=context)
    node = Node("vpr", context=context)
    try:
        yield node
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)


def read(*arguments: str) -> Config:
    with node(*arguments) as one:
        declare_parameters(one)
        return read_config(one)


@pytest.mark.parametrize(
    "path", [CONFIG / "vpr.yaml", *sorted((CONFIG / "presets").glob("*.yaml"))], ids=lambda path: path.stem
)
def test_the_node_reads_what_the_library_reads(path: Path) -> None:
    assert read("--params-file", str(path)) == Config.from_yaml(path)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("keyframe.min_distance_m", "2", 2.0),
        ("match.min_similarity", "0", 0.0),
        ("match.top_k", "20.0", 20),
        ("node.map", "20240501", "20240501"),
        ("engine.cores", "0,1", "0,1"),
        ("engine.cores", "2", "2"),
        ("use_sim_time", "true", None),
    ],
)
def test_values_of_another_type_than_meant(name: str, text: str, value: object) -> None:
    assert read("-p", f"{name}:={text}").flat().get(name) == value


@pytest.mark.parametrize(
    ("assignment", "reason"),
    [
        ("node.map:=on", "node.map must be text, not True; write it in quotes"),
        ("node.autostart:=1", "node.autostart must be true or false"),
        ("match.min_similarity:=7", "match.min_similarity must be in"),
        ("match.top_k:=[1, 2]", "match.top_k must be a whole number"),
    ],
)
def test_values_that_cannot_be_meant_are_one_line(assignment: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        read("-p", assignment)


def test_types_are_those_of_the_parameters_once_declared() -> None:
    with node("-p", "keyframe.min_distance_m:=2", "-p", "node.map:=7") as one:
        declare_parameters(one)
        values = [one.get_parameter(name).value for name in ("keyframe.min_distance_m", "node.map")]
        assert [(value, type(value)) for value in values] == [(2.0, float), ("7", str)]


def test_a_dump_of_the_node_is_read_by_library_and_node(tmp_path: Path) -> None:
    """As `ros2 param dump` writes it: every parameter that the node has, ROS's own among them."""
    with node("-p", "match.min_similarity:=0.4", "-r", "image:=/cam/image_raw") as one:
        declare_parameters(one)
        tree = {name: parameter.value for name, parameter in one.get_parameters_by_prefix("").items()}
        expected = read_config(one)
    assert "use_sim_time" in tree
    path = tmp_path / "vpr.yaml"
    path.write_text(yaml.safe_dump({"/vpr": {"ros__parameters": tree}}))
    assert read("--params-file", str(path)) == Config.from_yaml(path) == expected
