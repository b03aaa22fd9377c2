"""ROS parameters, declared from config.py: same names, defaults, ranges and descriptions."""

from __future__ import annotations

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

from vpr_ros.config import REMOVED, Config, Parameter
from vpr_ros.parameter_files import is_ros_own

ROS_LIMIT = {int: 2**63 - 1, float: 1.7e308}
FIXED_STAGES = ("model", "engine", "map", "fleet", "node")
"""Read when the node is configured; the others may change while it runs."""


def declare_parameters(node: Node) -> None:
    """Declare every parameter of `Config`; unknown ones that were given are logged.

    Raises ConfigError for a value of a wrong type or out of range. rclpy itself would end the node for `2` where `2.0` is meant, and
    ignore a misspelt name.
    """
    known = Config.parameters()
    given = node._parameter_overrides
    for name in given.keys() - known.keys():
        if name in REMOVED:
            node.get_logger().warning(f"there is no {name} any more: {REMOVED[name]}")
        elif near := Config.nearest(name):
            node.get_logger().warning(f"unknown parameter {name!r} is ignored; did you mean {near!r}?")
        elif not is_ros_own(name):
            node.get_logger().info(f"parameter {name!r} is not one of ours and is ignored")
    for parameter in known.values():
        value = parameter.default
        if parameter.name in given and given[parameter.name].type_ is not RosParameter.Type.NOT_SET:
            value = parameter.check(given[parameter.name].value)
        node.declare_parameter(parameter.name, value, _descriptor(parameter), ignore_override=True)


def read_config(node: Node) -> Config:
    """The configuration that the node's parameters hold now. Raises ConfigError."""
    return Config.from_flat({name: node.get_parameter(name).value for name in Config.parameters()})


def changed_config(node: Node, changes: list[RosParameter]) -> Config:
    """The configuration as it would be after `changes`. Raises ConfigError, naming the parameter and what it allows."""
    known = Config.parameters()
    return read_config(node).with_values({p.name: p.value for p in changes if p.name in known})


def _descriptor(parameter: Parameter) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(
        dynamic_typing=True,  # numbers of either kind and names that look like one are accepted, by `Parameter.check`
        description=f"{parameter.doc} [{parameter.unit}]" if parameter.unit else parameter.doc,
        additional_constraints=parameter.range if parameter.choices else "",
    )
    if parameter.low is not None or parameter.high is not None:
        limit = ROS_LIMIT[parameter.type]
        low = -limit if parameter.low is None else parameter.type(parameter.low)
        high = limit if parameter.high is None else parameter.type(parameter.high)
        if parameter.type is int:
            descriptor.integer_range = [IntegerRange(from_value=low, to_value=high, step=1)]
        else:
            descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high, step=0.0)]
    return descriptor
