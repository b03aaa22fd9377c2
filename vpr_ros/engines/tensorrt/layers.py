"""The layers that TensorRT made of a graph, read out of what its builder logs of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

_TYPES = {"float": "fp32", "half": "fp16", "uint8": "uint8", "int8": "int8", "int32": "int32", "int64": "int64"}
"""TensorRT's names of the types of elements -> ours."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer: a kernel, or a few, that run as one."""

    name: str
    kind: str
    """As the library calls it: `correlation` is a convolution, `kgen` a kernel that was generated for what it fuses."""
    takes: str
    """Type of the elements of its first input, `fp16`; empty for one without inputs."""
    gives: str
    operators: tuple[str, ...]
    """The graph's operators that are in it, `Conv`. One that was split is in several layers."""


def layers_of(log: str, graph: bytes) -> tuple[Layer, ...]:
    """The layers in a message `Layers:` of the builder's log at profiling verbosity DETAILED, made of an ONNX file."""
    import onnx

    nodes = onnx.load_from_string(graph).graph.node
    kinds = {node.name or f"node_of_{node.output[0]}": node.op_type for node in nodes}  # as the parser names them
    return tuple(_layer(line, kinds) for line in log.splitlines() if line.startswith("Name: "))


def _layer(line: str, kinds: Mapping[str, str]) -> Layer:
    head, _, outputs = line.partition(", Outputs: [")
    inputs = head.partition(", Inputs: [")[2].partition(", Constants: [")[0]
    kind = re.search(r", LayerType: ([^,]*)", head)
    return Layer(
        name=head.removeprefix("Name: ").partition(", LayerType: ")[0],
        kind=kind[1] if kind else "",
        takes=_type(inputs),
        gives=_type(outputs),
        operators=tuple(kinds.get(name, name) for name in re.findall(r"\[ONNX Layer: ([^\]]*)\]", outputs)),
    )


def _type(tensors: str) -> str:
    """Of the first of some tensors."""
    found = re.search(r"Datatype: (\w+)", tensors)
    return _TYPES.get(found[1].lower(), found[1].lower()) if found else ""


def summary(layers: Sequence[Layer]) -> Iterator[str]:
    """Lines of a table: how many layers of which kind work in which type, and what they fuse."""
    groups: dict[tuple[str, str], list[Layer]] = {}
    for layer in layers:
        if layer.takes:  # others compute shapes
            groups.setdefault((layer.kind, f"{layer.takes} -> {layer.gives}"), []).append(layer)
    rows = [("layers", "kind", "type", "operators in them")]
    for (kind, types), found in sorted(groups.items(), key=lambda group: (-len(group[1]), group[0])):
        counts = Counter(operator for layer in found for operator in layer.operators)
        fused = ", ".join(f"{count} {operator}" for operator, count in counts.most_common())
        rows.append((str(len(found)), kind, types, fused))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        yield "  ".join((*(cell.ljust(width) for cell, width in zip(row[:3], widths, strict=True)), row[3])).rstrip()
