"""A source of training images: one set and the graded similarity between its images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from training.data.image_set import ImageSet

POSITIVE = 0.5
"""psi from which two images count as one place (docs/methods.md 1.4)."""


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """N images; `similarity` (N, N) symmetric float32 holds psi of every pair that shares something.

    A pair that is not stored has psi = 0, a stored NaN means that nobody knows (two frames of a clip without poses), and
    the diagonal is not stored. `share` is the weight of the source when a batch is drawn; `smallest_crop` the least part
    of an image's width and height that augmentation may leave.
    """

    images: ImageSet
    similarity: csr_array
    share: float = 1.0
    smallest_crop: float = 0.85

    def neighbours(self, index: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Images that share something with `index`, and psi of each."""
        row = slice(self.similarity.indptr[index], self.similarity.indptr[index + 1])
        return self.similarity.indices[row], self.similarity.data[row]

    def positives(self, index: int) -> NDArray[np.int32]:
        """psi >= 0.5."""
        others, psi = self.neighbours(index)
        return others[psi >= POSITIVE]

    def soft_negatives(self, index: int) -> NDArray[np.int32]:
        """0 < psi < 0.5."""
        others, psi = self.neighbours(index)
        return others[(psi > 0) & (psi < POSITIVE)]

    def psi(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        """(B, B) psi among B images; the diagonal, and an image beside itself, is 1."""
        found = np.zeros((len(indices), len(indices)), np.float32)
        for row, index in enumerate(indices):
            others, psi = self.neighbours(int(index))
            if len(others):
                at = np.searchsorted(others, indices).clip(max=len(others) - 1)
                known = others[at] == indices
                found[row, known] = psi[at[known]]
        found[np.equal.outer(indices, indices)] = 1.0
        return found
