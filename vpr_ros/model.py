"""The model: one ONNX file that holds preprocessing, network and whitening.

Input `uint8 (N, H, W, 3)` RGB, output `float32 (N, D)` of unit length; everything else is in the file's metadata.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnxruntime

from vpr_ros.errors import ModelError
from vpr_ros.share import shared_files

FORMAT = "vpr_ros.place_model.1"
"""Value of the metadata key `format`; another one is another contract."""


@dataclass(frozen=True, slots=True)
class PlaceModel:
    """A checked model file. `id` is the sha256 of its bytes: maps and engines remember it."""

    path: Path
    id: str
    name: str
    dim: int
    width: int
    height: int
    metadata: Mapping[str, str]
    content: bytes

    @classmethod
    def open(cls, path: str | Path) -> PlaceModel:
        """Read and check a model file.

        Raises ModelError if it is missing, is no ONNX model, was not exported for vpr_ros, or breaks the contract above.
        """
        path = Path(path).expanduser()
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
            name=metadata.get("name", path.stem),
            dim=out[1],
            width=shape[2],
            height=shape[1],
            metadata=metadata,
            content=content,
        )


def shipped_model() -> Path:
    """The model that comes with vpr_ros. Raises ModelError if this installation has none."""
    found = shared_files("models/vpr_*.onnx")
    if found:
        return found[-1]
    raise ModelError("this installation has no model; set model.path to an ONNX file made by training.export")
