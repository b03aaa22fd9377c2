"""How well label maps agree with the truth, over a whole set: never a mean over images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def confusion(truth: NDArray[np.uint8], answer: NDArray[np.uint8], classes: int) -> NDArray[np.int64]:
    """(classes, classes) pixels of true class (row) and answered class (column); where either is none of them does not count."""
    valid = (truth < classes) & (answer < classes)
    pairs = truth[valid].astype(np.int64) * classes + answer[valid]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def intersection_over_union(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """(classes,) true positives over all pixels that are of the class or called so (PASCAL VOC); NaN where there are none."""
    hits = np.diagonal(counts)
    with np.errstate(invalid="ignore"):
        return hits / (counts.sum(axis=0) + counts.sum(axis=1) - hits)


def pixel_accuracy(counts: NDArray[np.int64]) -> float:
    return float(np.trace(counts) / counts.sum())
