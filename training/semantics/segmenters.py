"""Two ways to a label map that need no network of ours: a Hugging Face model, a label image that exists already."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from training.data.classes import read_label_map
from training.models.published import first_line
from training.models.torchvision_wheel import import_torchvision
from training.semantics.labelled import label_file
from vpr_ros.errors import ModelError
from vpr_ros.images import read_image


class Segmenter(Protocol):
    made_by: dict[str, Any]
    """What another label map would have to share to belong to the same set. Plain JSON values."""

    def label_map(self, path: Path, scale: float) -> NDArray[np.uint8]:
        """(h, w) class ids of an image at `scale` of its size. Raises ImageError where it cannot be read."""
        ...


class TransformersSegmenter:
    """A semantic-segmentation model of Hugging Face, with the image processor that belongs to it.

    SegFormer, UPerNet, BEiT, DPT and such; MaskFormer and Mask2Former count as universal segmentation there.
    """

    def __init__(self, name: str) -> None:
        """Raises ModelError without the library, or for a name or folder that it cannot load."""
        import_torchvision()  # before transformers does
        try:
            transformers: Any = importlib.import_module("transformers")
        except ImportError as error:
            raise ModelError("--transformers needs Hugging Face's library: pip install transformers") from error
        try:
            self.processor = transformers.AutoImageProcessor.from_pretrained(name)
            try:
                model = transformers.AutoModelForSemanticSegmentation.from_pretrained(name)
            except ValueError:  # its configuration is none of that list
                model = transformers.AutoModelForUniversalSegmentation.from_pretrained(name)
        except (OSError, ValueError) as error:
            raise ModelError(
                f"transformers cannot load {name!r} for semantic segmentation: {first_line(error)}"
            ) from error
        self.model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        self.made_by = {"model": name, "commit": getattr(model.config, "_commit_hash", None)}

    def label_map(self, path: Path, scale: float) -> NDArray[np.uint8]:
        image = read_image(path)
        inputs = self.processor(images=image, return_tensors="pt").to(self.model.device)
        with torch.no_grad():
            outputs = self.model(**inputs)
        sizes = [scaled(image.shape, scale)]
        (labels,) = self.processor.post_process_semantic_segmentation(outputs, target_sizes=sizes)
        return labels.cpu().numpy().astype(np.uint8)


class LabelImages:
    """Label images in a folder that mirrors that of the images."""

    def __init__(self, images: Path, labels: Path) -> None:
        self.images, self.folder = images, labels
        self.made_by = {"labels": str(labels.resolve())}

    def label_map(self, path: Path, scale: float) -> NDArray[np.uint8]:
        """Raises SourceError where the image has no label image."""
        labels = read_label_map(label_file(path, self.images, self.folder))
        return nearest(labels, *scaled(labels.shape, scale))


def scaled(shape: tuple[int, ...], scale: float) -> tuple[int, int]:
    """Height and width of the label map of an image (H, W, ...)."""
    height, width = shape[:2]
    return max(1, round(height * scale)), max(1, round(width * scale))


def nearest(labels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Class ids are no quantity: they are picked, not averaged."""
    return cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
