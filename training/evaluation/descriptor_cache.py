"""Descriptors of many images, computed once per model."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from training.data.image_set import ImageSet
from training.evaluation.describers import Describer
from training.files import write_cache
from vpr_ros.errors import ImageError, ModelError, SourceError
from vpr_ros.images import read_image
from vpr_ros.types import Image

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DescriptorCache:
    """One `.npy` file per model and list of images in `folder`; `batch` images are described at once."""

    folder: Path
    batch: int = 32

    def describe(self, describer: Describer, images: ImageSet) -> NDArray[np.float32]:
        """(N, D); the row of an image that cannot be read is NaN.

        Raises SourceError if none can be read, ModelError for descriptors that are not finite.
        """
        file = self.folder / _digest(describer.id)[:16] / f"{_fingerprint(images.paths)}.npy"
        known = _load(file, len(images))
        if known is None:
            known = self._compute(describer, images)
            write_cache(file, lambda stream: np.save(stream, known, allow_pickle=False))
        return known

    def _compute(self, describer: Describer, images: ImageSet) -> NDArray[np.float32]:
        rows: list[NDArray[np.float32] | None] = []
        with tqdm(total=len(images), desc=f"{describer.name}: {images.name}", unit="image", disable=None) as bar:
            for batch in _read_ahead(images.paths, self.batch):
                readable = [image for image in batch if image is not None]
                described = iter(describer.describe(readable)) if readable else iter(())
                rows.extend(None if image is None else next(described) for image in batch)
                bar.update(len(batch))
        dim = next((len(row) for row in rows if row is not None), None)
        if dim is None:
            raise SourceError(f"{images.name}: none of its {len(images)} images can be read, {images.paths[0]} first")
        for path, row in zip(images.paths, rows, strict=True):
            if row is not None and not np.isfinite(row).all():
                raise ModelError(f"{describer.name} has no finite descriptor for {path}: did its training diverge?")
        return np.stack([np.full(dim, np.nan, np.float32) if row is None else row for row in rows])


def _read_ahead(paths: Sequence[Path], size: int) -> Iterator[list[Image | None]]:
    """Batches of images, None where one cannot be read; a batch is read while the one before it is in use."""
    with ThreadPoolExecutor() as pool:
        coming: Iterator[Image | None] | None = None
        for start in range(0, len(paths), size):
            current, coming = coming, pool.map(_read, paths[start : start + size])
            if current is not None:
                yield list(current)
        if coming is not None:
            yield list(coming)


def _read(path: Path) -> Image | None:
    try:
        return read_image(path)
    except ImageError:
        return None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _fingerprint(paths: Sequence[Path]) -> str:
    """Changes with any path, and with any change of a file: its size and the time of its last change."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            status = path.stat()
        except OSError:
            digest.update(f"{path.absolute()}\0\n".encode())
        else:
            digest.update(f"{path.absolute()}\0{status.st_size}\0{status.st_ctime_ns}\n".encode())
    return digest.hexdigest()


def _load(file: Path, count: int) -> NDArray[np.float32] | None:
    if not file.exists():
        return None
    try:
        known = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        known = None
    if known is None or known.dtype != np.float32 or known.ndim != 2 or len(known) != count:
        _LOG.warning("%s is damaged: its descriptors are computed again", file)
        return None
    return known
