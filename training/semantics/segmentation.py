"""Label maps for many images, and what is in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from training.data.classes import IDS, ClassTable, read_label_map
from training.semantics.label_map_folder import LabelMapFolder
from training.semantics.segmenters import Segmenter
from vpr_ros.errors import ImageError


def segment(
    images: Sequence[Path], segmenter: Segmenter, table: ClassTable, folder: LabelMapFolder, scale: float
) -> tuple[NDArray[np.int64], list[str]]:
    """Make the label maps that are not there yet: (256,) pixels of each class id in all, and why images were left out.

    Raises SourceError for a class id that the table lacks, ModelError and TrainingError as the segmenter and disk do.
    """
    folder.check_names(images)
    pixels, failures = np.zeros(IDS, np.int64), []
    for image in tqdm(images, desc="segmenting", unit="image", disable=None):
        file = folder.file(image)
        try:
            if file.exists():
                labels = read_label_map(file)
            else:
                labels = segmenter.label_map(image, scale)
                table.check_ids(labels, image)
                folder.write(image, labels)
        except ImageError as error:
            failures.append(str(error))
            continue
        pixels += np.bincount(labels.ravel(), minlength=IDS)
    return pixels, failures


def share_lines(pixels: NDArray[np.int64], table: ClassTable) -> Iterable[str]:
    """Shares of the clusters, each followed by those of its classes."""
    total = max(1, pixels.sum())
    clusters = {semantic.cluster for semantic in table.classes.values()}
    classes = {cluster: [n for n, one in table.classes.items() if one.cluster == cluster] for cluster in clusters}
    for cluster, ids in sorted(classes.items(), key=lambda item: -pixels[item[1]].sum()):
        yield f"{pixels[ids].sum() / total:7.2%}  {cluster}"
        for number in sorted(ids, key=lambda number: -pixels[number]):
            if pixels[number]:
                yield f"{pixels[number] / total:18.2%}  {table.classes[number].name}"
