"""The model: one ONNX file that holds preprocessing, network and whitening.

Input `uint8 (N, H, W, 3)` RGB, output `float32 (N, D)` of unit length; everything else is in the file's metadata.
A model with attention may have another output `mask`, `float32 (N, h, w)`, from 0 (ignored) to 1 (counts).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnxruntime

from vpr_ros.errors import ModelError
from vpr_ros.files import expanded
from vpr_ros.printable import printable
from vpr_ros.share import shared_files

FORMAT = "vpr_ros.place_model.1"
"""Value of the metadata key `format`; another one is another contract."""
MASK = "mask"
"""Name of the output that is a mask."""


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

        Raises ModelError if it is missing, is no ONNX model, was not exported for vpr_ros, or breaks the contract above.
        """
        path = expanded(path) if path else shipped_model()
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ModelError(f"cannot read model {path}: {error.strerror}") from error
        try:
            session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises its own classes, none of them public
            raise ModelError(f"{path} is corrupt or no ONNX model; export it again with training.export") from error
        metadata = dict(session.get_modelmeta().custom_metadata_map)
        if metadata.get("format") != FORMAT:
            raise ModelError(
                f"{path} was not exported for vpr_ros (metadata has no format {FORMAT!r}); use training.export"
            )
        inputs, outputs = session.get_inputs(), session.get_outputs()
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
        return cls(
            path=path,
            id=hashlib.sha256(content).hexdigest(),
            name=printable(metadata.get("name", path.stem)),
            dim=out[1],
            width=shape[2],
            height=shape[1],
            mask_size=_mask_size(path, outputs[1:]),
            metadata=metadata,
            content=content,
        )


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
