"""Label maps by an ONNX file: ours, or anybody's."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch.nn import functional

from training.data.classes import VOID, ClassTable
from training.models.imagenet import IMAGENET_MEAN, IMAGENET_STD
from training.models.published import Preprocessing, first_line
from training.semantics.segmenters import nearest, scaled
from vpr_ros.errors import ConfigError, ModelError
from vpr_ros.images import read_image, resize
from vpr_ros.types import Image

FORMAT = "vpr_ros.segmentation.1"
"""Value of the metadata key `format` of a network of training.train_segmentation."""
MULTIPLE = 32
"""Of the sides of what a network of any size is given: the total stride of the usual backbones."""

Size = tuple[int, int]
"""Width, height."""
Three = tuple[float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class SegmentationFile:
    """An opened ONNX file; `id` is the sha256 of its bytes."""

    path: Path
    id: str
    session: onnxruntime.InferenceSession
    metadata: Mapping[str, str]

    @classmethod
    def open(cls, path: Path) -> SegmentationFile:
        """Raises ModelError if it is missing or no ONNX model."""
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ModelError(f"cannot read model {path}: {error.strerror}") from error
        try:
            session = onnxruntime.InferenceSession(content, providers=onnxruntime.get_available_providers())
        except Exception as error:  # onnxruntime raises its own classes, none of them public
            raise ModelError(f"{path} does not open as an ONNX model: {first_line(error)}") from error
        metadata = dict(session.get_modelmeta().custom_metadata_map)
        return cls(path, hashlib.sha256(content).hexdigest(), session, metadata)


class OnnxSegmenter:
    """A network that takes an image as uint8 NHWC, or normalised as float NCHW or NHWC, and answers with logits or labels.

    Where it takes any size, images keep their shape, at about as many pixels as `size` has or the file's metadata says,
    else at their own. `mean` and `std` are of pixels in [0, 1], in the order of the channels; uint8 is not normalised.
    """

    def __init__(
        self,
        file: SegmentationFile,
        table: ClassTable,
        *,
        size: Size | None = None,
        mean: Three = IMAGENET_MEAN,
        std: Three = IMAGENET_STD,
        channels: Literal["rgb", "bgr"] = "rgb",
    ) -> None:
        """Raises ModelError for a file that is no such network, ConfigError for a size that it does not take."""
        self.file, self.table = file, table
        self.mean, self.std, self.channels = mean, std, channels
        self.input = file.session.get_inputs()[0]
        self.layout = self._layout()
        self.fixed = self._fixed_size()
        if self.fixed and size not in (None, self.fixed):
            raise ConfigError(
                f"{file.path} takes images of {self.fixed[0]} x {self.fixed[1]} px only: leave --size out"
            )
        self.size = size or self._size_in_metadata()
        self.made_by: dict[str, Any] = {"model": file.path.name, "sha256": file.id}
        self.made_by |= {"size": self.size and list(self.size), "channels": channels}
        self.made_by |= {"mean": list(mean), "std": list(std)}

    def label_map(self, path: Path, scale: float) -> NDArray[np.uint8]:
        image = read_image(path)
        return self.labels(image, *scaled(image.shape, scale))

    def labels(self, image: Image, height: int, width: int) -> NDArray[np.uint8]:
        """(height, width) class ids of an image of any size. Raises ModelError where the network does not run on it."""
        output = self.file.session.get_outputs()[0].name
        try:
            (answer,) = self.file.session.run([output], {self.input.name: self.prepared(image)})
        except Exception as error:
            raise ModelError(f"{self.file.path} does not run on an image: {first_line(error)}") from error
        if not np.issubdtype(answer.dtype, np.integer):
            return largest(self._channels_first(answer.astype(np.float32)), height, width)
        labels = answer.squeeze()
        if labels.ndim != 2 or labels.min() < 0 or labels.max() > np.iinfo(np.uint8).max:
            raise ModelError(f"{self.file.path} answers with {answer.dtype} {answer.shape}: no label map of ids 0-255")
        return nearest(labels.astype(np.uint8), height, width)

    def prepared(self, image: Image) -> NDArray[Any]:
        """What the network is given for an image, a batch of one."""
        width, height = self.fixed or fitted(image.shape[1], image.shape[0], self.size)
        images = resize(image, width, height)[None]
        if self.input.type == "tensor(uint8)":
            return images if self.channels == "rgb" else np.ascontiguousarray(images[..., ::-1])
        how = Preprocessing(
            width=width, height=height, mean=self.mean, std=self.std, channels=self.channels, layout=self.layout
        )
        return how.apply(images).astype(np.float16 if self.input.type == "tensor(float16)" else np.float32)

    def _layout(self) -> Literal["nchw", "nhwc"]:
        shape, kind = self.input.shape, self.input.type
        if len(shape) == 4 and (shape[0] == 1 or not isinstance(shape[0], int)):
            if shape[3] == 3 and kind in ("tensor(uint8)", "tensor(float)", "tensor(float16)"):
                return "nhwc"
            if shape[1] == 3 and kind in ("tensor(float)", "tensor(float16)"):
                return "nchw"
        raise ModelError(
            f"{self.file.path} takes {kind} {shape}: one image as uint8 (1, H, W, 3) or as float (1, 3, H, W) or "
            "(1, H, W, 3) is what can be given"
        )

    def _fixed_size(self) -> Size | None:
        _, *sides = self.input.shape
        height, width = sides[1:] if self.layout == "nchw" else sides[:2]
        return (width, height) if isinstance(width, int) and isinstance(height, int) else None

    def _size_in_metadata(self) -> Size | None:
        metadata = self.file.metadata
        return (int(metadata["width"]), int(metadata["height"])) if metadata.get("format") == FORMAT else None

    def _channels_first(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """(1, classes, h, w)."""
        possible = channel_counts(self.table)
        if logits.ndim == 4 and logits.shape[1] in possible:
            return logits
        if logits.ndim == 4 and logits.shape[3] in possible:
            return np.ascontiguousarray(logits.transpose(0, 3, 1, 2))
        counts = " or ".join(str(count) for count in sorted(possible))
        raise ModelError(
            f"{self.file.path} answers with {logits.shape}, but the table has {counts} classes: is it of this network?"
        )


def largest(logits: NDArray[np.float32], height: int, width: int) -> NDArray[np.uint8]:
    """(1, classes, h, w) -> (height, width) class ids: interpolated first, so that borders stay smooth."""
    finer = functional.interpolate(torch.from_numpy(logits), (height, width), mode="bilinear", align_corners=False)
    return finer[0].argmax(dim=0).numpy().astype(np.uint8)


def fitted(width: int, height: int, pixels_of: Size | None) -> Size:
    """The shape of an image at about as many pixels as `pixels_of` has, or its own, in multiples of 32."""
    factor = math.sqrt(math.prod(pixels_of) / (width * height)) if pixels_of else 1.0
    return max(1, round(width * factor / MULTIPLE)) * MULTIPLE, max(1, round(height * factor / MULTIPLE)) * MULTIPLE


def channel_counts(table: ClassTable) -> set[int]:
    """Of a network that answers with the ids of a table: up to the last class, or to the last void id below 255."""
    ids = [number for number in table.classes if number < np.iinfo(np.uint8).max]
    meant = [number for number in ids if table.classes[number].cluster != VOID]
    return {max(numbers) + 1 for numbers in (ids, meant) if numbers}
