"""The model: one ONNX file that holds preprocessing, network and whitening.

Input `uint8 (N, H, W, 3)` RGB, output `float32 (N, D)` of unit length; everything else is in the file's metadata.
A model with attention may have another output `mask`, `float32 (N, h, w)`, from 0 (ignored) to 1 (counts).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import Any

import numpy as np
import onnxruntime

from vpr_ros.errors import ModelError
from vpr_ros.files import expanded
from vpr_ros.machine import Machine
from vpr_ros.printable import on_one_line, printable
from vpr_ros.share import shared_files

FORMAT = "vpr_ros.place_model.1"
"""Value of the metadata key `format`; another one is another contract."""
MASK = "mask"
"""Name of the output that is a mask."""


UNIT_TOLERANCE = 0.01
"""Of the length of a descriptor."""
MAX_PIXELS = 2**25
"""Of an image that a model takes."""
TRIAL_S = 60.0
"""The slowest model of a robot answers in a tenth of it."""


@dataclass(frozen=True, slots=True)
class PlaceModel:
    """A checked model file. `id` is the sha256 of its bytes: maps and engines remember it.

    `mask_size` is (h, w) of its mask, None for a model without one.
    """

    path: Path
    id: str
    name: str
    dim: int
    width: int
    height: int
    mask_size: tuple[int, int] | None
    metadata: Mapping[str, str]
    content: bytes

    @classmethod
    def open(cls, path: str | Path = "") -> PlaceModel:
        """Read and check a model file; of an empty path the model that ships with vpr_ros, as `model.path` means it.

        Raises ModelError, with the reason, if it is missing, cannot be loaded, was not exported for vpr_ros, keeps weights in other
        files, or breaks the contract above: one image of noise is tried.
        """
        path = expanded(path) if path else shipped_model()
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ModelError(f"cannot read model {path}: {error.strerror}") from error
        if _has_external_data(content):
            raise ModelError(
                f"{path} keeps weights in other files (external data), which its id would not cover; save it as one file: "
                "onnx.save(onnx.load(FILE), OUT)"
            )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what it has to say is in the exception
        try:
            session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises its own classes, none of them public
            raise ModelError(f"{path}: {_refusal(error)}") from error
        try:
            metadata = dict(session.get_modelmeta().custom_metadata_map)
        except UnicodeDecodeError as error:
            raise ModelError(
                f"{path}: its metadata is not UTF-8; it was damaged, or not exported for vpr_ros"
            ) from error
        if metadata.get("format") != FORMAT:
            raise ModelError(
                f"{path} was not exported for vpr_ros (metadata has no format {FORMAT!r}); use training.export"
            )
        inputs, outputs = session.get_inputs(), session.get_outputs()
        if not inputs or not outputs:
            raise ModelError(f"{path} has no {'output' if inputs else 'input'}: it must map images to descriptors")
        shape, out = inputs[0].shape, outputs[0].shape
        fits = len(inputs) == 1 and inputs[0].type == "tensor(uint8)" and len(shape) == 4 and shape[3] == 3
        if not (
            fits
            and isinstance(shape[1], int)
            and isinstance(shape[2], int)
            and len(out) == 2
            and isinstance(out[1], int)
        ):
            raise ModelError(
                f"{path} must map uint8 (N, H, W, 3) to float (N, D) with fixed H, W and D; it has {shape} -> {out}"
            )
        mask_size = _mask_size(path, outputs[1:])
        _try_out(path, session, (shape[1], shape[2]), out[1])
        return cls(
            path=path,
            id=hashlib.sha256(content).hexdigest(),
            name=printable(metadata.get("name", path.stem)),
            dim=out[1],
            width=shape[2],
            height=shape[1],
            mask_size=mask_size,
            metadata=metadata,
            content=content,
        )


def _refusal(error: Exception) -> str:
    """Why ONNX Runtime does not load a model, and what helps."""
    reason = on_one_line(error)[-300:]  # it begins with signatures of C++
    here = f"ONNX Runtime {onnxruntime.__version__}"
    if re.search(r"not a registered function/op|is not implemented|NOT_IMPLEMENTED|No opset import for domain", reason):
        return f"it has an operator that {here} does not know ({reason})"
    if re.search(r"opset|ir[_ ]version|operator set", reason, re.IGNORECASE):
        fix = Machine().pip_install("onnxruntime", options="--upgrade")
        return f"{here} is too old for it: {fix}, or export it with an older operator set ({reason})"
    if re.search(r"alloc|out of memory", reason, re.IGNORECASE):
        return f"there is not enough memory for it ({reason})"
    return f"it is corrupt or no ONNX model; export it again with training.export ({reason})"


def _has_external_data(content: bytes) -> bool:
    """Whether a tensor of the model lies in another file: its field `location` (TensorProto.data_location = EXTERNAL).

    ONNX Runtime would read it relative to the working directory.
    """
    if b"location" not in content:
        return False
    try:
        import onnx
    except ImportError:  # the robot needs none: the key as protobuf writes it then decides
        return b"\x0a\x08location\x12" in content
    try:
        model = onnx.load_model_from_string(content)
    except Exception:  # protobuf's own classes; ONNX Runtime will name what is wrong
        return False
    return any(_external_tensors(model.graph)) or any(
        _is_external(attribute)
        for function in model.functions
        for node in function.node
        for attribute in node.attribute
    )


def _external_tensors(graph: Any) -> Iterator[bool]:
    yield from (tensor.data_location == tensor.EXTERNAL for tensor in graph.initializer)
    yield from (_is_external(attribute) for node in graph.node for attribute in node.attribute)


def _is_external(attribute: Any) -> bool:
    tensors = (attribute.t, *attribute.tensors)
    graphs = (attribute.g, *attribute.graphs)
    return any(tensor.data_location == tensor.EXTERNAL for tensor in tensors) or any(
        any(_external_tensors(graph)) for graph in graphs if graph.node or graph.initializer
    )


def _try_out(path: Path, session: onnxruntime.InferenceSession, size: tuple[int, int], dim: int) -> None:
    """Describe one image of noise. Raises ModelError where that fails, or is no finite vector of unit length."""
    if not 0 < size[0] * size[1] <= MAX_PIXELS:
        raise ModelError(f"{path} takes images of {size[1]} x {size[0]} px: too large for any robot")
    image = np.random.default_rng(0).integers(0, 256, (1, *size, 3), dtype=np.uint8)
    options = onnxruntime.RunOptions()
    options.log_severity_level = 4
    watchdog = Timer(TRIAL_S, setattr, (options, "terminate", True))  # a graph may have a loop without an end
    watchdog.daemon = True
    watchdog.start()
    try:
        descriptors = session.run([session.get_outputs()[0].name], {session.get_inputs()[0].name: image}, options)[0]
    except Exception as error:  # as above
        if options.terminate:
            raise ModelError(f"{path} has no answer for one image in {TRIAL_S:.0f} s") from error
        raise ModelError(f"{path} does not run: {on_one_line(error)[:300]}") from error
    finally:
        watchdog.cancel()
    if descriptors.shape != (1, dim):
        raise ModelError(f"{path} returns {descriptors.shape} for one image, not (1, {dim}) as it declares")
    length = float(np.linalg.norm(descriptors))
    if not np.isfinite(length):
        raise ModelError(f"{path} answers NaN or infinity: it cannot recognise anything; train or export it again")
    if abs(length - 1.0) > UNIT_TOLERANCE:
        raise ModelError(f"{path} returns descriptors of length {length:.4g}, not 1; export it with training.export")


def _mask_size(path: Path, outputs: Sequence[onnxruntime.NodeArg]) -> tuple[int, int] | None:
    """(h, w) of the mask among the outputs, None if there is none. Raises ModelError for one that is no mask."""
    mask = next((output for output in outputs if output.name == MASK), None)
    if mask is None:
        return None
    if mask.type != "tensor(float)" or len(mask.shape) != 3 or not all(isinstance(n, int) for n in mask.shape[1:]):
        raise ModelError(f"{path}: its mask must be float (N, h, w) with fixed h and w; it is {mask.type} {mask.shape}")
    return mask.shape[1], mask.shape[2]


def shipped_model() -> Path:
    """The model that comes with vpr_ros. Raises ModelError if this installation has none."""
    found = shared_files("models/vpr_*.onnx")
    if found:
        return found[-1]
    raise ModelError("this installation has no model; set model.path to an ONNX file made by training.export")
