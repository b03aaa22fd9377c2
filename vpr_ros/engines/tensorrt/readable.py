"""The same model written as TensorRT can read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vpr_ros.errors import EngineError
from vpr_ros.machine import Machine

if TYPE_CHECKING:
    from onnx import GraphProto


def readable(graph: bytes) -> tuple[bytes, int]:
    """The same model written as TensorRT can read it, and how many outputs it has.

    Raises EngineError without the onnx package, and for what is no ONNX file.
    """
    try:
        import onnx
    except ImportError as error:
        fix = Machine().pip_install("onnx")
        raise EngineError(f"building for TensorRT needs the onnx package: {fix}") from error
    try:
        proto = onnx.load_from_string(graph)
    except Exception as error:  # of protobuf's own classes
        raise EngineError(f"the graph is no ONNX file: {' '.join(str(error).split())}") from error
    del proto.graph.value_info[:]  # the rewriting changes types in between
    _cast_first(proto.graph)
    _quantise_from_float(proto.graph)
    return proto.SerializeToString(), len(proto.graph.output)


def _cast_first(graph: GraphProto) -> None:
    """Cast the image before it is transposed, not behind: of uint8 TensorRT knows nothing but the cast."""
    from onnx import helper

    nodes, image = graph.node, graph.input[0].name
    for turn in [node for node in nodes if node.op_type == "Transpose" and image in node.input]:
        casts = [node for node in nodes if turn.output[0] in node.input]
        if any(cast.op_type != "Cast" for cast in casts):
            continue
        for index, cast in enumerate(casts):
            between = f"{image}_as_number_{index}"
            moved = helper.make_node("Transpose", [between], [cast.output[0]], f"{turn.name}_{index}")
            moved.attribute.extend(turn.attribute)
            cast.input[0], cast.output[0] = image, between
            nodes.insert(list(nodes).index(cast) + 1, moved)
        nodes.remove(turn)


def _quantise_from_float(graph: GraphProto) -> None:
    """Constants that are stored quantised, as ONNX Runtime's tools write them, become float32 with the same values.

    TensorRT dequantises no int32, which biases are, and 8 no int8 constants: its weights are float32 that is
    quantised and dequantised in the graph.
    """
    from onnx import helper, numpy_helper

    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    readers = [node for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] in constants]
    quantised = {name for node in readers for name in node.input}
    for node in readers:
        stored, scale = constants[node.input[0]], constants[node.input[1]]
        zero = constants[node.input[2]] if len(node.input) > 2 else np.zeros_like(scale, stored.dtype)
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
        along = [-1 if index == axis % stored.ndim else 1 for index in range(stored.ndim)] if scale.size > 1 else []
        values = (stored.astype(np.float32) - zero.astype(np.float32).reshape(along)) * scale.reshape(along)
        if stored.dtype == np.int32:
            graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
            graph.node.remove(node)
        else:
            number, whole = f"{node.output[0]}_float", f"{node.output[0]}_stored"
            graph.initializer.append(numpy_helper.from_array(values, number))
            quantise = helper.make_node("QuantizeLinear", [number, *node.input[1:]], [whole], f"{node.name}_stored")
            quantise.attribute.extend(attribute for attribute in node.attribute if attribute.name == "axis")
            graph.node.insert(list(graph.node).index(node), quantise)
            node.input[0] = whole
    used = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name in quantised - used]:
        graph.initializer.remove(tensor)
