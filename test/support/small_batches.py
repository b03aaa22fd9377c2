"""Sources, batches and their labels, small enough for a loop over their pairs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from training.data.batch import Targets
from training.data.image_set import ImageSet
from training.data.source import Source

NO_TRIPLETS = torch.empty((0, 3), dtype=torch.int64)
EVERY_KIND = (0.0, 0.0, 0.0, 0.3, 0.5, 0.8, 1.0, np.nan)
"""psi of positives, soft negatives and unrelated images, and unknown."""


def unit(rng: np.random.Generator, count: int, dim: int = 6) -> torch.Tensor:
    x = torch.from_numpy(rng.normal(size=(count, dim)))
    return x / x.norm(dim=1, keepdim=True)


def labels(psi: ArrayLike) -> Targets:
    return Targets(torch.as_tensor(psi, dtype=torch.float32), NO_TRIPLETS)


def random_psi(rng: np.random.Generator, count: int, values: Sequence[float] = EVERY_KIND) -> NDArray[np.float32]:
    """(count, count) symmetric, its diagonal 1."""
    psi = np.triu(rng.choice(values, size=(count, count)), 1)
    return (psi + psi.T + np.eye(count)).astype(np.float32)


def source_of(
    psi: ArrayLike, name: str = "small", share: float = 1.0, smallest_crop: float = 0.5, places: ArrayLike | None = None
) -> Source:
    """A source whose (N, N) psi is `psi`, of images that do not exist."""
    pairs = np.array(psi, np.float32)
    np.fill_diagonal(pairs, 0.0)
    images = ImageSet.of(name, [Path(f"{name}/{i}.png") for i in range(len(pairs))], places=places)
    return Source(images, csr_array(pairs), share, smallest_crop)


@st.composite
def batches(draw: st.DrawFn) -> tuple[torch.Tensor, Targets]:
    """1 to 8 unit descriptors (float64) and psi with every kind of pair, NaN among them."""
    rng, count = np.random.default_rng(draw(st.integers(0, 2**32 - 1))), draw(st.integers(1, 8))
    return unit(rng, count), labels(random_psi(rng, count))
