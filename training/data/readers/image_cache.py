"""Folders of images that a reader makes itself, once: taken from a bag, or rendered."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from numpy.typing import NDArray

from vpr_ros.errors import TrainingError
from vpr_ros.types import Image

_JPEG_QUALITY = 95


def encode_jpeg(image: Image) -> bytes:
    """(H, W, 3) uint8 RGB -> a JPEG file."""
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return data.tobytes()


def encode_png(labels: NDArray[np.uint8]) -> bytes:
    """(H, W) uint8 -> a PNG file."""
    return cv2.imencode(".png", np.ascontiguousarray(labels))[1].tobytes()


def fill_once(folder: Path, fill: Callable[[Path], None]) -> None:
    """Make `folder` by `fill(empty folder)` unless it exists: whole or not at all, whoever else makes it meanwhile.

    Raises TrainingError where it cannot be written, and what `fill` raises.
    """
    if folder.exists():
        return
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
            made = Path(temporary) / folder.name
            made.mkdir()
            fill(made)
            try:
                os.rename(made, folder)
            except OSError:
                if not folder.is_dir():  # another process was faster, with the same content
                    raise
    except OSError as error:
        raise TrainingError(f"{folder}: cannot be made: {error.strerror or error}") from error
