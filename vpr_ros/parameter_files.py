"""Parameter files as ROS 2 has them: of several nodes, in nested namespaces, with wildcards, and with ROS's own parameters among ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from vpr_ros.errors import ConfigError
from vpr_ros.printable import on_one_line

NODE = "vpr"
"""The name of our node, unless a launch file gives it another."""
ROS_OWN = frozenset({"use_sim_time", "start_type_description_service", "qos_overrides"})
"""Parameters that every node has."""


MAX_DEPTH = 40
MAX_VALUES = 100_000
MAX_BYTES = 1 << 22
"""PyYAML takes about a second for each million."""


class _BoundedLoader(yaml.SafeLoader):
    """Ends at the first level or value that is too much, instead of after minutes or at the end of memory or stack."""

    def __init__(self, text: str | bytes) -> None:
        super().__init__(text)
        self._depth = self._merged = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ConfigError("not YAML of ours: nested too deeply")
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Of `<<: [*a, *a]`, which may double with each line; this is called within itself for each of them."""
        super().flatten_mapping(node)
        self._merged += len(node.value)
        if self._merged > MAX_VALUES:
            raise ConfigError(f"not YAML of ours: more than {MAX_VALUES} values")


def parse_yaml(text: str | bytes) -> Any:
    """Plain values. Raises ConfigError, one line, for all that is no YAML, or YAML that nobody writes by hand.

    PyYAML lets out whatever Python raises for a date like 2026-99-99 (ValueError) or brackets in brackets (RecursionError), and
    aliases and merges can make a few lines stand for 10^12 values, or for themselves.
    """
    if len(text) > MAX_BYTES:
        raise ConfigError(f"not YAML of ours: more than {MAX_BYTES >> 20} MiB")
    try:
        tree = yaml.load(text, Loader=_BoundedLoader)
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        raise ConfigError(f"not YAML: {on_one_line(error)[:300]}") from error
    except RecursionError:
        raise ConfigError("not YAML of ours: nested too deeply") from None
    left = [MAX_VALUES]
    _check_size(tree, MAX_DEPTH, left)
    return tree


def _check_size(tree: Any, depth: int, left: list[int]) -> None:
    left[0] -= 1
    if depth < 0:
        raise ConfigError("not YAML of ours: nested too deeply")
    if left[0] < 0:
        raise ConfigError(f"not YAML of ours: more than {MAX_VALUES} values")
    if isinstance(tree, dict):
        for key, value in tree.items():
            _check_size(key, depth - 1, left)
            _check_size(value, depth - 1, left)
    elif isinstance(tree, list | tuple | set):
        for value in tree:
            _check_size(value, depth - 1, left)


@dataclass(frozen=True, slots=True)
class Section:
    """The parameters that a file has for a node, by dotted names, without ROS's own."""

    node: str
    """Like `/robot1/vpr` or `/**`; empty in a file that names no nodes."""
    values: Mapping[str, Any]

    @property
    def is_shared(self) -> bool:
        """Whether it may hold parameters of other nodes, too."""
        return "*" in self.node.rpartition("/")[2]

    @property
    def is_ours(self) -> bool:
        return self.is_shared or self.node.rpartition("/")[2] == NODE


def sections(tree: Mapping[str, Any]) -> list[Section]:
    """Those of our node, in the order of the file, which is that of precedence; of a file for one node that one's, whatever its name.

    Raises ValueError where the file is of several other nodes.
    """
    found = list(_named(tree, ""))
    if not found:
        return [_section("", tree)]
    ours = found if len(found) == 1 else [section for section in found if section.is_ours]
    if not ours:
        raise ValueError(f"it has parameters of {', '.join(each.node for each in found)}, and none of /{NODE} or /**")
    return ours


def _named(tree: Mapping[str, Any], namespace: str) -> Iterator[Section]:
    for key, inner in tree.items():
        if not isinstance(inner, Mapping):
            continue
        name = f"{namespace}/{str(key).strip('/')}"
        if "ros__parameters" in inner:
            yield _section(name, inner["ros__parameters"] or {})
        else:
            yield from _named(inner, name)


def _section(node: str, tree: Mapping[str, Any]) -> Section:
    if not isinstance(tree, Mapping):
        raise ValueError(f"the parameters of {node} are no names with values")
    return Section(node, {name: value for name, value in flatten(tree) if not is_ros_own(name)})


def is_ros_own(name: str) -> bool:
    """Whether a parameter belongs to ROS 2 itself, in any node."""
    return name.partition(".")[0] in ROS_OWN


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """`{"match": {"top_k": 10}}` -> `("match.top_k", 10)`."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
