"""A model's graph in other arithmetic: the same file format, images uint8 in and descriptors float32 out.

One graph serves every library. What is heavy changes; what is delicate stays in fp32: normalising the image, the powers
and sums of pooling, lengths of vectors.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from vpr_ros.errors import EngineError
from vpr_ros.model import PlaceModel

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

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
_QUANTISABLE = ("Conv", "Gemm", "MatMul")
_OLDEST_OPSET = 13
"""The first that quantises each channel by itself."""
_MOST_STRETCH = 30.0
"""Channels that hardly ever fire are not blown up further."""


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What a kind of operator costs: the smallest cosine with fp32 over images where it alone has left fp32."""

    operator: str
    cosine: float

    def __str__(self) -> str:
        return f"{self.operator} (cosine {self.cosine:.4f})"


def graph_of(
    model: PlaceModel, precision: str, images: NDArray[np.uint8] | None = None, *, symmetric: bool = True
) -> bytes:
    """The model's ONNX file in `fp32`, `bf16` (the same file: the library is told to), `fp16` or `int8`.

    int8 has explicit QuantizeLinear and DequantizeLinear, calibrated on `images` (N, H, W, 3) of the model's size, 64 or
    so. TensorRT takes only `symmetric` activations; the others are closer to fp32 and faster on a CPU.

    Raises EngineError without the images it needs, without the package onnx, and for a graph that it cannot convert.
    """
    if precision in ("fp32", "bf16"):
        return model.content
    graph = _Convertible(model, precision, images, symmetric)
    return graph.converted(graph.candidates)


def sensitivity(
    model: PlaceModel, precision: str, images: NDArray[np.uint8], *, symmetric: bool = True
) -> list[Sensitivity]:
    """What each kind of operator costs in `fp16` or `int8`, the costliest first; none for the other precisions.

    Measured on `images` (N, H, W, 3), which calibrate too, with ONNX Runtime on the CPU. Raises as `graph_of` does.
    """
    if precision in ("fp32", "bf16"):
        return []
    graph = _Convertible(model, precision, images, symmetric)
    reference = _run(model.content, images)[0]
    costs = []
    for kind in sorted(set(graph.candidates.values())):
        alone = {name: k for name, k in graph.candidates.items() if k == kind}
        cosines = np.sum(reference * _run(graph.converted(alone), images)[0], axis=1)
        costs.append(Sensitivity(kind, float(cosines.min())))
    return sorted(costs, key=lambda cost: cost.cosine)


class _Convertible:
    """A model on its way to fp16 or int8. `candidates`: name -> kind of the operators that should leave fp32."""

    def __init__(self, model: PlaceModel, precision: str, images: NDArray[np.uint8] | None, symmetric: bool) -> None:
        try:
            import onnx
        except ImportError as error:
            raise EngineError(f"{precision} needs the package onnx to convert the model: pip install onnx") from error
        self._precision, self._images, self._symmetric = precision, images, symmetric
        self._metadata = dict(model.metadata)
        with _refusals(precision):
            proto = onnx.load_from_string(model.content)
            if precision == "fp16":
                self._proto = _tidy(proto)
                self.candidates = _halvable(self._proto)
            elif precision == "int8":
                if images is None or not len(images):
                    raise EngineError(
                        "int8 is calibrated on images of your camera: set engine.images, or give --images"
                    )
                self._proto = _tidy(_simplified(proto))
                _equalise(self._proto, images)
                self.candidates = _quantisable(self._proto)
            else:
                raise EngineError(f"there is no graph in {precision!r}")

    def converted(self, chosen: dict[str, str]) -> bytes:
        """The ONNX file where the chosen of the candidates have left fp32."""
        from onnx import ModelProto, helper

        proto = ModelProto()
        proto.CopyFrom(self._proto)
        with _refusals(self._precision):
            if self._precision == "fp16":
                _halve(proto, chosen)
            else:
                assert self._images is not None
                proto = _quantised(proto, chosen, self._images, self._symmetric)
            helper.set_model_props(proto, self._metadata)
            return proto.SerializeToString()


@contextmanager
def _refusals(precision: str) -> Iterator[None]:
    """What onnx and ONNX Runtime raise as EngineError; they have dozens of classes."""
    try:
        yield
    except EngineError:
        raise
    except Exception as error:
        raise EngineError(f"the model cannot be converted to {precision}: {' '.join(str(error).split())}") from error


def _run(content: bytes, images: NDArray[np.uint8] | None, outputs: Sequence[str] | None = None) -> list[NDArray]:
    """Outputs, by default all, over images one by one, which is how much memory a robot has."""
    assert images is not None
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    found = [session.run(outputs, {name: images[i : i + 1]}) for i in range(len(images))]
    return [np.concatenate(parts) for parts in zip(*found, strict=True)]


def _tidy(proto: ModelProto) -> ModelProto:
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
    _set_nodes(graph, nodes)
    return proto


def _set_nodes(graph: GraphProto, nodes: Sequence[NodeProto]) -> None:
    kept = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(kept)


def _constants(graph: GraphProto) -> dict[str, TensorProto]:
    return {tensor.name: tensor for tensor in graph.initializer}


def _kind(node: NodeProto, constants: dict[str, TensorProto]) -> str:
    """Operators that behave alike: `Conv 1x1`, `Conv 3x3 depthwise`, `Gemm`."""
    if node.op_type != "Conv" or node.input[1] not in constants:
        return node.op_type
    _, per_group, *size = constants[node.input[1]].dims
    return f"Conv {'x'.join(map(str, size))}{' depthwise' if _groups(node) > 1 and per_group == 1 else ''}"


def _groups(node: NodeProto) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)


# --- fp16 -----------------------------------------------------------------------------------------------------------


def _float_names(proto: ModelProto) -> set[str]:
    """Names of all float32 values."""
    from onnx import TensorProto, shape_inference

    graph = shape_inference.infer_shapes(proto).graph
    values = [*graph.input, *graph.output, *graph.value_info]
    names = {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    return names | {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}


def _halvable(proto: ModelProto) -> dict[str, str]:
    """Heavy operators, and light ones behind them: a light one behind a delicate one would overflow in its stead."""
    constants, floats = _constants(proto.graph), _float_names(proto)
    halves: set[str] = set()
    found = {}
    for node in proto.graph.node:
        fits = all(_fits_half(constants[name], node) for name in node.input if name in constants and name in floats)
        wanted = node.op_type in _HEAVY or (node.op_type in _LIGHT and halves.intersection(node.input))
        if wanted and fits and all(name in floats for name in node.output):
            found[node.name] = _kind(node, constants)
            halves.update(node.output)
    return found


def _fits_half(tensor: TensorProto, node: NodeProto) -> bool:
    """A weight may round to zero, the least length of a vector that divides may not."""
    from onnx import numpy_helper

    value = numpy_helper.to_array(tensor)
    with np.errstate(over="ignore"):
        half = value.astype(np.float16)
    return bool(np.isfinite(half).all() and (node.op_type in _HEAVY or (half[value != 0] != 0).all()))


def _halve(proto: ModelProto, chosen: dict[str, str]) -> None:
    from onnx import TensorProto, helper, numpy_helper

    graph, constants, floats = proto.graph, _constants(proto.graph), _float_names(proto)
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
    used = {name for node in nodes for name in _inputs(node)} | {output.name for output in graph.output}
    _set_nodes(graph, [node for node in nodes if used.intersection(node.output)])
    _drop_unused(graph)
    del graph.value_info[:]


def _drop_unused(graph: GraphProto) -> None:
    """Constants that no node takes any more."""
    used = {name for node in graph.node for name in _inputs(node)}
    kept = [type(tensor).FromString(tensor.SerializeToString()) for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _inputs(node: NodeProto) -> Iterator[str]:
    """Also what the graphs inside of it take from outside."""
    yield from node.input
    for attribute in node.attribute:
        for inner in attribute.g.node:
            yield from _inputs(inner)


# --- int8 -----------------------------------------------------------------------------------------------------------


def _simplified(proto: ModelProto) -> ModelProto:
    """With constants folded and shapes known, as the quantiser asks for."""
    import onnx
    from onnx import version_converter
    from onnxruntime.quantization.shape_inference import quant_pre_process

    opset = max(entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx"))
    if opset < _OLDEST_OPSET:
        proto = version_converter.convert_version(proto, _OLDEST_OPSET)
    with tempfile.TemporaryDirectory() as folder:
        given, path = Path(folder) / "given.onnx", Path(folder) / "simplified.onnx"
        onnx.save(proto, given)  # of a model in memory it would lose the constants
        quant_pre_process(given, path, skip_symbolic_shape=True)  # which needs sympy, and only transformers need it
        return onnx.load(path)


def _quantisable(proto: ModelProto) -> dict[str, str]:
    """Products with constant weights, but for the first and the last. Raises EngineError for a graph without any.

    The first sees three channels, with which int8 is slower than fp32; the last whitens, is cheap and has nothing behind
    it that would average its errors.
    """
    constants = _constants(proto.graph)
    found = [node for node in proto.graph.node if node.op_type in _QUANTISABLE and node.input[1] in constants]
    if not found:
        raise EngineError("int8 changes nothing in this model: it has no convolution and no product with weights")
    return {node.name: _kind(node, constants) for node in found[1:-1] or found}


def _equalise(proto: ModelProto, images: NDArray[np.uint8]) -> None:
    """Bring the ranges of the channels between two convolutions together; the network computes the same.

    All channels of a tensor share one scale, so those with a small range would be quantised coarsely. A channel is
    stretched by the convolution before it and shrunk by the one behind, as in Nagel et al. 2019, but by ranges that were
    seen, not those of the weights.
    """
    from onnx import numpy_helper

    graph, constants = proto.graph, _constants(proto.graph)
    pairs = list(_pairs(graph, constants))
    names = [second.input[0] for _, second in pairs]
    if not names:
        return
    for (first, second), most in zip(pairs, _channel_ranges(proto, names, images), strict=True):
        # the root: all of it would clip what a little-used channel shows in other images
        share = np.sqrt(most / max(most.max(), 1e-12)).clip(1 / _MOST_STRETCH, 1).astype(np.float32)
        changes = [(first, index, 0, 1 / share) for index in range(1, len(first.input))]
        changes.append((second, 1, 0 if _groups(second) > 1 else 1, share))
        for node, index, along, factor in changes:
            value = numpy_helper.to_array(constants[node.input[index]])
            shape = [-1 if axis == along else 1 for axis in range(value.ndim)]
            name = f"{node.input[index]}/{node.name}"  # other nodes may have the same constant
            constants[name] = graph.initializer.add()
            constants[name].CopyFrom(numpy_helper.from_array(value * factor.reshape(shape), name))
            node.input[index] = name
    _drop_unused(graph)


def _pairs(graph: GraphProto, constants: dict[str, TensorProto]) -> Iterator[tuple[NodeProto, NodeProto]]:
    """Convolutions of which the second alone sees the first, maybe through a ReLU."""
    from onnx import numpy_helper

    users: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in _inputs(node):
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
            if _groups(second) == 1 or _groups(second) == channels == of_second[0]:
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


class _CalibrationImages:
    """One by one, as ONNX Runtime's quantiser reads them."""

    def __init__(self, name: str, images: NDArray[np.uint8]) -> None:
        self._images = ({name: image[None]} for image in images)

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        return next(self._images, None)


def _quantised(proto: ModelProto, chosen: dict[str, str], images: NDArray[np.uint8], symmetric: bool) -> ModelProto:
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    reader = _CalibrationImages(proto.graph.input[0].name, images)
    with tempfile.TemporaryDirectory() as folder:
        given, path = Path(folder) / "given.onnx", Path(folder) / "quantised.onnx"
        onnx.save(proto, given)
        quantize_static(
            given,
            path,
            reader,
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(_QUANTISABLE),
            nodes_to_quantize=list(chosen),
            per_channel=True,
            activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={
                "ActivationSymmetric": symmetric,
                "WeightSymmetric": True,
                # only what goes into a product: behind it is a ReLU, whose range is smaller
                "OpTypesToExcludeOutputQuantization": list(_QUANTISABLE),
            },
        )
        return onnx.load(path)
