"""Brings the ranges of channels together before they are quantised."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from vpr_ros.engines.graphs.onnx_graph import constants_of, drop_unused, groups_of, inputs_of

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

_MOST_STRETCH = 30.0
"""Channels that hardly ever fire are not blown up further."""


def equalise(proto: ModelProto, images: NDArray[np.uint8]) -> None:
    """Bring the ranges of the channels between two convolutions together; the network computes the same.

    All channels of a tensor share one scale, so those with a small range would be quantised coarsely. A channel is
    stretched by the convolution before it and shrunk by the one behind, as in Nagel et al. 2019, but by ranges that were
    seen, not those of the weights.
    """
    from onnx import numpy_helper

    graph, constants = proto.graph, constants_of(proto.graph)
    pairs = list(_pairs(graph, constants))
    names = [second.input[0] for _, second in pairs]
    if not names:
        return
    for (first, second), most in zip(pairs, _channel_ranges(proto, names, images), strict=True):
        # the root: all of it would clip what a little-used channel shows in other images
        share = np.sqrt(most / max(most.max(), 1e-12)).clip(1 / _MOST_STRETCH, 1).astype(np.float32)
        changes = [(first, index, 0, 1 / share) for index in range(1, len(first.input))]
        changes.append((second, 1, 0 if groups_of(second) > 1 else 1, share))
        for node, index, along, factor in changes:
            value = numpy_helper.to_array(constants[node.input[index]])
            shape = [-1 if axis == along else 1 for axis in range(value.ndim)]
            name = f"{node.input[index]}/{node.name}"  # other nodes may have the same constant
            constants[name] = graph.initializer.add()
            constants[name].CopyFrom(numpy_helper.from_array(value * factor.reshape(shape), name))
            node.input[index] = name
    drop_unused(graph)


def _pairs(graph: GraphProto, constants: dict[str, TensorProto]) -> Iterator[tuple[NodeProto, NodeProto]]:
    """Convolutions of which the second alone sees the first, maybe through a ReLU."""
    from onnx import numpy_helper

    users: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in inputs_of(node):
            users.setdefault(name, []).append(node)
    outputs = {output.name for output in graph.output}

    def next_node(node: NodeProto) -> NodeProto | None:
        found = users.get(node.output[0], [])
        return found[0] if len(found) == 1 and node.output[0] not in outputs else None

    def is_ours(node: NodeProto) -> bool:
        return node.op_type == "Conv" and all(name in constants for name in node.input[1:])

    def is_relu(node: NodeProto) -> bool:
        if node.op_type != "Clip":
            return node.op_type == "Relu"
        least = constants.get(node.input[1]) if len(node.input) > 1 else None
        # its upper end may stay: a channel is stretched to what the largest reaches, which is not beyond it
        return least is not None and bool(numpy_helper.to_array(least) == 0)

    for first in filter(is_ours, graph.node):
        second = next_node(first)
        if second is not None and is_relu(second):
            second = next_node(second)
        if second is not None and is_ours(second):
            channels = constants[first.input[1]].dims[0]
            of_second = constants[second.input[1]].dims
            if groups_of(second) == 1 or groups_of(second) == channels == of_second[0]:
                yield first, second


def _channel_ranges(proto: ModelProto, names: Sequence[str], images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    """For each value (1, C, h, w) the largest magnitude of each channel, (C,), over all images."""
    from onnx import ModelProto, ValueInfoProto

    watched = ModelProto()
    watched.CopyFrom(proto)
    watched.graph.output.extend(ValueInfoProto(name=name) for name in names)
    session = onnxruntime.InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])
    ranges = []
    for image in images:
        values = session.run(list(names), {session.get_inputs()[0].name: image[None]})
        ranges.append([np.abs(value).max(axis=(0, 2, 3)) for value in values])
    return [np.max(channels, axis=0) for channels in zip(*ranges, strict=True)]
