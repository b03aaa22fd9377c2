"""Networks as ONNX graphs: images `uint8 (n, H, W, 3)` RGB in, descriptors `float32 (n, D)` out, for any n.

One with a mask has it as a second output, `float32 (n, h, w)`.
"""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, compose, helper, numpy_helper
from torch import nn

from training.models.published import OnnxModel, Preprocessing, first_line
from vpr_ros.errors import ModelError
from vpr_ros.model import MASK

OLDEST_OPSET = 7
"""Since then Mul, Sub and Div broadcast; no other operator that we add has changed from there on."""

PREFIX = "published/"
"""Of every name in a published graph: none can be one of ours."""

_Step = tuple[str, list[str], dict[str, Any]]
"""An operator, its constants and its attributes."""


def torch_graph(
    network: nn.Module, images: NDArray[np.uint8], dim: int, mask_size: tuple[int, int] | None = None
) -> onnx.ModelProto:
    """The ONNX graph of a torch network. Raises ModelError if torch cannot make one.

    With a `mask_size` (h, w) the network returns descriptors and masks. It sees two images, because an axis of length 1
    can be mistaken for one that broadcasts.
    """
    example = torch.from_numpy(images)
    outputs = [_descriptors(dim)]
    if mask_size is not None:
        outputs.append(helper.make_tensor_value_info(MASK, TensorProto.FLOAT, ["n", *mask_size]))
    names = [output.name for output in outputs]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about what tracing might get wrong: parity shows whether it did
            try:
                proto = _traced(network, example, names)
            except RuntimeError:  # with any n it cannot know sizes that CosPlace's and EigenPlaces' GeM asks for
                proto = _captured(network, example, names)
    except RuntimeError as error:
        raise ModelError(f"torch cannot export the network: {first_line(error)}") from error
    for found, declared in zip(proto.graph.output, outputs, strict=True):
        found.CopyFrom(declared)  # tracing can lose D
    return proto


def _traced(network: nn.Module, example: torch.Tensor, outputs: list[str]) -> onnx.ModelProto:
    """By torch's older exporter: it is fast, and the newer one has mistranslated a GeM (cosine 0.47)."""
    content = io.BytesIO()
    with _silence():
        torch.onnx.export(
            network,
            (example,),
            content,  # type: ignore[arg-type]  # torch's annotation has forgotten it
            input_names=["images"],
            output_names=outputs,
            dynamic_axes={name: {0: "n"} for name in ("images", *outputs)},
            opset_version=17,
            dynamo=False,
        )
    return onnx.load_from_string(content.getvalue())


def _captured(network: nn.Module, example: torch.Tensor, outputs: list[str]) -> onnx.ModelProto:
    """By torch's newer exporter."""
    program = torch.onnx.export(
        network,
        (example,),
        input_names=["images"],
        output_names=outputs,
        dynamic_shapes=({0: torch.export.Dim("n")},),
        opset_version=18,
        dynamo=True,
        verbose=False,
    )
    assert program is not None  # it is only for the older exporter
    proto = program.model_proto
    graph = proto.graph
    for described in (graph, *graph.input, *graph.node, *graph.value_info, *graph.initializer):
        described.ClearField("metadata_props")  # stack traces with the paths of this machine
    return proto


@contextmanager
def _silence() -> Iterator[None]:
    """Of standard output, below Python: the older exporter prints the whole graph where it fails."""
    sys.stdout.flush()
    stdout = os.dup(1)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    try:
        yield
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)


def wrapped_graph(model: OnnxModel, dim: int) -> onnx.ModelProto:
    """A published graph between its preprocessing and unit length. Its other outputs are dropped.

    Where it takes one image at a time it is freed of that; whether that was enough, only running it shows.
    Raises ModelError for an operator set before 7.
    """
    proto = compose.add_prefix(model.proto, PREFIX, rename_functions=False)
    opset = max((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    if opset < OLDEST_OPSET:
        raise ModelError(f"{model.path} has operator set {opset}; export it again with {OLDEST_OPSET} or newer")
    graph, how = proto.graph, model.declaration.preprocessing
    taken = next(value for value in graph.input if value.name == PREFIX + model.session.get_inputs()[0].name)
    before = _chain("images", _preprocessing(how, taken.type.tensor_type.elem_type), taken.name)
    after = _chain(PREFIX + model.output, _normalisation(model.declaration.normalise_output), "descriptors")
    if model.fixed_batch:
        _free_batch(graph)
    nodes = [*before, *graph.node, *after]
    for field in (graph.node, graph.input, graph.output, graph.value_info):  # shapes may be those of one image
        del field[:]
    graph.node.extend(nodes)
    graph.input.append(helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", how.height, how.width, 3]))
    graph.output.append(_descriptors(dim))
    constants = {name: np.array(getattr(how, name), np.float32) for name in ("scale", "mean", "std")}
    if how.channels == "bgr":
        constants["bgr"] = np.array([2, 1, 0])
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    proto.ir_version = max(proto.ir_version, 4)  # before, initializers had to be inputs too
    return proto


def _preprocessing(how: Preprocessing, element: int) -> list[_Step]:
    return [
        ("Cast", [], {"to": TensorProto.FLOAT}),
        *([("Gather", ["bgr"], {"axis": 3})] if how.channels == "bgr" else []),
        ("Mul", ["scale"], {}),
        ("Sub", ["mean"], {}),
        ("Div", ["std"], {}),
        *([("Transpose", [], {"perm": [0, 3, 1, 2]})] if how.layout == "nchw" else []),
        ("Cast", [], {"to": element}),
    ]


def _normalisation(normalise: bool) -> list[_Step]:
    return [
        ("Flatten", [], {"axis": 1}),
        ("Cast", [], {"to": TensorProto.FLOAT}),
        *([("LpNormalization", [], {"axis": 1, "p": 2})] if normalise else []),
    ]


def _chain(start: str, steps: Sequence[_Step], end: str) -> list[onnx.NodeProto]:
    """Nodes of which each takes what the one before made."""
    values = [start, *(f"{end}/{i}" for i in range(1, len(steps))), end]
    return [
        helper.make_node(operator, [values[i], *constants], [values[i + 1]], **attributes)
        for i, (operator, constants, attributes) in enumerate(steps)
    ]


def _free_batch(graph: onnx.GraphProto) -> None:
    """Let every Reshape to (1, ...) keep the batch size of what it reshapes: ONNX's 0."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
    for index, node in enumerate(graph.node):
        if node.op_type == "Reshape" and node.input[0] not in constants and node.input[1] in constants:
            shape = numpy_helper.to_array(constants[node.input[1]]).copy()
            if len(shape) > 1 and shape[0] == 1:
                shape[0] = 0
                node.input[1] = f"any_batch/{index}"
                graph.initializer.append(numpy_helper.from_array(shape, node.input[1]))


def _descriptors(dim: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info("descriptors", TensorProto.FLOAT, ["n", dim])
