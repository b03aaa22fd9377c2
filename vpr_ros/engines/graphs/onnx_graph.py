"""What the rewriting of ONNX graphs is made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
from numpy.typing import NDArray

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto


def run(content: bytes, images: NDArray[np.uint8] | None, outputs: Sequence[str] | None = None) -> list[NDArray]:
    """Outputs, by default all, over images one by one, which is how much memory a robot has."""
    assert images is not None
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    found = [session.run(outputs, {name: images[i : i + 1]}) for i in range(len(images))]
    return [np.concatenate(parts) for parts in zip(*found, strict=True)]


def tidy(proto: ModelProto) -> ModelProto:
    """Every constant an initializer, every node with a name of its own."""
    from onnx import TensorProto

    graph = proto.graph
    nodes = []
    for number, node in enumerate(graph.node):
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            tensor = TensorProto()
            tensor.CopyFrom(node.attribute[0].t)
            tensor.name = node.output[0]
            graph.initializer.append(tensor)
        else:
            node.name = f"{node.name or node.op_type}#{number}"
            nodes.append(node)
    set_nodes(graph, nodes)
    return proto


def set_nodes(graph: GraphProto, nodes: Sequence[NodeProto]) -> None:
    kept = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(kept)


def constants_of(graph: GraphProto) -> dict[str, TensorProto]:
    return {tensor.name: tensor for tensor in graph.initializer}


def kind_of(node: NodeProto, constants: dict[str, TensorProto]) -> str:
    """Operators that behave alike: `Conv 1x1`, `Conv 3x3 depthwise`, `Gemm`."""
    if node.op_type != "Conv" or node.input[1] not in constants:
        return node.op_type
    _, per_group, *size = constants[node.input[1]].dims
    return f"Conv {'x'.join(map(str, size))}{' depthwise' if groups_of(node) > 1 and per_group == 1 else ''}"


def groups_of(node: NodeProto) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)


def drop_unused(graph: GraphProto) -> None:
    """Constants that no node takes any more."""
    used = {name for node in graph.node for name in inputs_of(node)}
    kept = [type(tensor).FromString(tensor.SerializeToString()) for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def inputs_of(node: NodeProto) -> Iterator[str]:
    """Also what the graphs inside of it take from outside."""
    yield from node.input
    for attribute in node.attribute:
        for inner in attribute.g.node:
            yield from inputs_of(inner)
