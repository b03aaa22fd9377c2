"""Images beside their label maps on one sheet, to see at a glance whether a network understands them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from training.data.classes import IDS, read_label_map
from training.files import write_whole
from training.semantics.label_map_folder import LabelMapFolder
from training.semantics.segmenters import nearest
from vpr_ros.images import read_image, resize
from vpr_ros.types import Image

SHOWN = 12
WIDTH_PX = 320
"""Of one image on the sheet."""
_GOLDEN_RATIO = 0.618034
"""Multiples of it, modulo 1, are far apart: so are the hues of neighbouring ids."""


def write_preview(path: Path, images: Sequence[Path], folder: LabelMapFolder) -> None:
    """Up to 12 images that have a label map, evenly spread: the image, and the colours of its classes over it.

    Raises ImageError for a file that cannot be read, TrainingError where the disk is full.
    """
    labelled = [image for image in images if folder.file(image).exists()]
    chosen = [labelled[i] for i in np.unique(np.linspace(0, len(labelled) - 1, SHOWN).round().astype(int)) if labelled]
    rows = [row(read_image(image), read_label_map(folder.file(image))) for image in chosen]
    if rows:
        _, content = cv2.imencode(".png", cv2.cvtColor(np.concatenate(rows), cv2.COLOR_RGB2BGR))
        write_whole(path, content.tobytes())


def row(image: Image, labels: NDArray[np.uint8]) -> Image:
    height = max(1, round(WIDTH_PX * image.shape[0] / image.shape[1]))
    small = resize(image, WIDTH_PX, height)
    colours = palette()[nearest(labels, height, WIDTH_PX)]
    return np.concatenate([small, cv2.addWeighted(small, 0.4, colours, 0.6, 0)], axis=1)


def palette() -> NDArray[np.uint8]:
    """(256, 3) RGB, one colour per class id."""
    hues = (np.arange(IDS) * _GOLDEN_RATIO % 1.0 * 180).astype(np.uint8)  # OpenCV's hues are half degrees
    full = np.full(IDS, 255, np.uint8)
    return cv2.cvtColor(np.stack([hues, full, full], axis=1)[None], cv2.COLOR_HSV2RGB)[0]
