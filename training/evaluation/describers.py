"""What turns images into descriptors, as a user names it: a file of ours, a published model, or the baseline."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from training.models.network_file import load_network
from training.models.published import open_published
from vpr_ros.engines.open import open_reference
from vpr_ros.errors import ModelError
from vpr_ros.files import expanded
from vpr_ros.images import resize
from vpr_ros.model import PlaceModel
from vpr_ros.types import Image


class Describer(Protocol):
    """Anything that describes images. `name` is for people; `id` changes whenever the descriptors do, for their cache."""

    @property
    def name(self) -> str: ...

    @property
    def id(self) -> str: ...

    def describe(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """N RGB uint8 images of any size -> (N, D) float32, unit length."""


@dataclass(frozen=True, slots=True)
class PatchThumbnail:
    """The baseline without learning: a 64 x 32 grey thumbnail, each 8 x 8 patch normalised (SeqSLAM, Milford 2012)."""

    name: str = "patch-normalised thumbnail 64x32"
    id: str = "thumbnail 64x32, patches 8x8"

    def describe(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """(N, 2048): patches of zero mean and unit deviation; an image of one colour is the zero vector."""
        grey = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images)
        small = np.stack([cv2.resize(image, (64, 32), interpolation=cv2.INTER_AREA) for image in grey])
        patches = small.astype(np.float32).reshape(-1, 4, 8, 8, 8).swapaxes(2, 3).reshape(-1, 32, 64)
        patches = (patches - patches.mean(2, keepdims=True)) / (patches.std(2, keepdims=True) + 1e-6)
        flat = patches.reshape(len(images), -1)
        return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


@dataclass(frozen=True, slots=True)
class FixedSizeModel:
    """A network that takes images of one size, (N, height, width, 3) uint8; they are resized as on the robot."""

    title: str
    id: str
    width: int
    height: int
    network: Callable[[NDArray[np.uint8]], NDArray[np.float32]]

    @property
    def name(self) -> str:
        return f"{self.title} ({self.id[:8]})"  # runs of one recipe share the title

    def describe(self, images: Sequence[Image]) -> NDArray[np.float32]:
        return self.network(np.stack([resize(image, self.width, self.height) for image in images]))


def open_describer(model: str) -> Describer:
    """`thumbnail`, an ONNX file of training.export, a network of training.train or the YAML of a published model.

    Raises ModelError for anything else, and whatever is wrong with the file.
    """
    if model == "thumbnail":
        return PatchThumbnail()
    path = expanded(model)
    openers = {".onnx": _open_onnx, ".safetensors": _open_network, ".yaml": _open_published, ".yml": _open_published}
    if path.suffix not in openers:
        raise ModelError(f"{model!r} is no model: it must be thumbnail or a file ending in {', '.join(openers)}")
    return openers[path.suffix](path)


def _open_onnx(path: Path) -> FixedSizeModel:
    engine = open_reference(PlaceModel.open(path))
    model = engine.model
    return FixedSizeModel(model.name, model.id, model.width, model.height, engine.describe)


def _open_network(path: Path) -> FixedSizeModel:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = load_network(path).to(device)

    def describe(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return network(torch.from_numpy(images).to(device)).cpu().numpy()

    options = network.options
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return FixedSizeModel(path.parent.name, digest, options.width, options.height, describe)


def _open_published(path: Path) -> FixedSizeModel:
    model = open_published(path)
    return FixedSizeModel(model.name, model.id, model.width, model.height, model.describe)
