"""Half precision: products and what lies between them compute in fp16."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vpr_ros.engines.graphs.onnx_graph import constants_of, drop_unused, inputs_of, kind_of, set_nodes

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

_HEAVY = frozenset(("Conv", "ConvTranspose", "Gemm", "MatMul"))
"""Nearly all arithmetic of a network."""
_LIGHT = frozenset(
    (
        *("Add", "Mul", "Neg", "BatchNormalization", "AveragePool", "MaxPool", "Pad", "Concat", "Split", "Slice"),
        *("Clip", "Relu", "LeakyRelu", "PRelu", "HardSigmoid", "HardSwish", "Sigmoid", "Tanh", "Identity"),
        *("Expand", "Flatten", "Reshape", "Squeeze", "Transpose", "Unsqueeze"),
    )
)
"""What half precision passes through. All else, as Pow, ReduceL2 and Softmax, may square or sum beyond its range."""


def _float_names(proto: ModelProto) -> set[str]:
    """Names of all float32 values."""
    from onnx import TensorProto, shape_inference

    graph = shape_inference.infer_shapes(proto).graph
    values = [*graph.input, *graph.output, *graph.value_info]
    names = {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    return names | {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}


def halvable(proto: ModelProto, kept: frozenset[str] = frozenset()) -> dict[str, str]:
    """Heavy operators, and light ones behind them, but for the `kept`: a light one behind a delicate one would overflow in its stead.

    So what follows a kept operator stays with it, and has to: TensorRT for RTX 1.7.1 makes an fp16 operator with fp16 weights
    of one in fp32 between two casts.
    """
    constants, floats = constants_of(proto.graph), _float_names(proto)
    halves: set[str] = set()
    found = {}
    for node in proto.graph.node:
        fits = all(_fits_half(constants[name], node) for name in node.input if name in constants and name in floats)
        wanted = node.op_type in _HEAVY or (node.op_type in _LIGHT and halves.intersection(node.input))
        if wanted and fits and node.name not in kept and all(name in floats for name in node.output):
            found[node.name] = kind_of(node, constants)
            halves.update(node.output)
    return found


def _fits_half(tensor: TensorProto, node: NodeProto) -> bool:
    """A weight may round to zero, the least length of a vector that divides may not."""
    from onnx import numpy_helper

    value = numpy_helper.to_array(tensor)
    with np.errstate(over="ignore"):
        half = value.astype(np.float16)
    return bool(np.isfinite(half).all() and (node.op_type in _HEAVY or (half[value != 0] != 0).all()))


def halve(proto: ModelProto, chosen: dict[str, str]) -> None:
    from onnx import TensorProto, helper, numpy_helper

    graph, constants, floats = proto.graph, constants_of(proto.graph), _float_names(proto)
    halves: dict[str, str] = {}
    nodes = []
    for node in graph.node:
        if node.name not in chosen:
            nodes.append(node)
            continue
        for index, name in enumerate(node.input):
            if name in floats:
                if name not in halves:
                    halves[name] = f"{name}/fp16"
                    if name in constants:
                        value = numpy_helper.to_array(constants[name]).astype(np.float16)
                        graph.initializer.append(numpy_helper.from_array(value, halves[name]))
                    else:
                        nodes.append(helper.make_node("Cast", [name], [halves[name]], to=TensorProto.FLOAT16))
                node.input[index] = halves[name]
        outputs = list(node.output)
        halves |= {name: f"{name}/fp16" for name in outputs}
        node.output[:] = [halves[name] for name in outputs]
        nodes.append(node)
        nodes += [helper.make_node("Cast", [halves[name]], [name], to=TensorProto.FLOAT) for name in outputs]
    used = {name for node in nodes for name in inputs_of(node)} | {output.name for output in graph.output}
    set_nodes(graph, [node for node in nodes if used.intersection(node.output)])
    drop_unused(graph)
    del graph.value_info[:]
