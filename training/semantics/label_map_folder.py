"""A folder of label maps: grey PNGs of class ids, one per image, in the folders of the images."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from training.files import write_whole
from training.options import differences
from vpr_ros.errors import SourceError

RECORD = "label_maps.json"
"""In the folder: the table of its class ids, and what made them."""


@dataclass(frozen=True, slots=True)
class LabelMapFolder:
    """Label maps of the images under `images`."""

    path: Path
    images: Path

    def claim(self, record: Mapping[str, Any]) -> None:
        """Say what makes the label maps. Raises SourceError where others are there already."""
        file = self.path / RECORD
        if file.exists():
            changed = differences(json.loads(file.read_text()), dict(record))
            if changed:
                raise SourceError(
                    f"{self.path} holds label maps that were made otherwise ({', '.join(changed)} differ): choose another "
                    "--out, or delete the folder to start again"
                )
            return
        write_whole(file, json.dumps(record, indent=2).encode())

    def file(self, image: Path) -> Path:
        return self.path / image.relative_to(self.images).with_suffix(".png")

    def check_names(self, images: Sequence[Path]) -> None:
        """Raises SourceError where two images would share a label map: a.jpg and a.png."""
        owners: dict[Path, Path] = {}
        for image in images:
            other = owners.setdefault(self.file(image), image)
            if other != image:
                raise SourceError(f"{other} and {image} would have one label map: rename one of them")

    def write(self, image: Path, labels: NDArray[np.uint8]) -> None:
        """Raises TrainingError where the disk is full."""
        _, content = cv2.imencode(".png", labels)
        write_whole(self.file(image), content.tobytes())
