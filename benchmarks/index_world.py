"""Descriptors of drives through streets, made to be as hard to search as those of the shipped model.

What was measured with the shipped model (512 dimensions, whitened) and what this world has:

| | measured | here |
|---|---|---|
| eigenvalues of the covariance at ranks 1, 2, 3, 5, 10, 20, 40, 80, 160, 320; their sum is 512 | KITTI 00: 13.3 12.6 9.8 7.9 5.2 3.8 2.8 1.9 1.0 .3 | 13.1 12.6 9.8 8.3 5.5 4.1 2.9 1.9 1.0 .3 |
| dimensions for 50, 80, 90, 95, 99 % of the variance | KITTI 00: 68 182 262 332 439 | 63 168 246 314 432 |
| similarity of keyframes 1, 2.5, 5, 10, 25 apart, median | KITTI 00: .60 .36 .19 .08 .03 | 1, 2, 5, 10, 25 apart: .62 .47 .22 .08 .02 in the plainest environment, .73 .63 .45 .35 .31 in the most uniform |
| best similarity of a revisit, quartiles | KITTI 00: .57 .75 .81; another lane .48, another season .36 (medians) | .53 .60 .69 to .67 .73 .79 |
| squared norm of an environment's mean | .02 (KITTI 00) to .33 (TUM fr1 desk) | uniform from .02 to .33 |
| similarity of unrelated views, quantiles .01, .99, .999 | KITTI 00: -.09 .15 .32 | -.18 .18 .24 |

Neighbours of whitened descriptors are not as similar as those of raw ones: a second on they are half forgotten. Most of the ten nearest of a million are
therefore look-alikes that stand out little, which is what makes recall@10 hard to get.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

RANKS = (1, 2, 3, 5, 10, 20, 40, 80, 160, 320, 512)
EIGENVALUES = (13.29, 12.56, 9.75, 7.88, 5.24, 3.79, 2.77, 1.90, 0.99, 0.31, 0.05)

STREET = 200
"""Keyframes of one street, which follow one another."""
STREETS_OF_ENVIRONMENT = 25
MEMORY = 3.6
"""Keyframes after which what is seen is forgotten to 1/e."""
VIEW_SHARE = 0.2
"""Of a descriptor's variance, what the very next keyframe does not share."""
REVISITED = 0.3
"""Share of a map's streets that were driven before."""


@dataclass(frozen=True)
class IndexWorld:
    """Streets by number, the same for a seed whatever else is asked of it."""

    dim: int = 512
    seed: int = 0

    def map_of(self, count: int, chunk: int = 25 * STREET) -> Iterator[Floats]:
        """`count` unit descriptors of drives, some streets driven twice, `chunk` at a time."""
        rng = np.random.default_rng((self.seed, 1))
        made, streets, chunks = 0, 0, []
        while made < count:
            is_revisit = streets > 10 and rng.random() < REVISITED
            street = int(rng.integers(streets)) if is_revisit else streets
            streets += not is_revisit
            chunks.append(self.visit(street, int(rng.integers(2**31)) if is_revisit else 0))
            made += STREET
            if len(chunks) * STREET >= chunk or made >= count:
                rows = np.concatenate(chunks)
                yield rows[: len(rows) - max(0, made - count)]
                chunks = []

    def queries(self, count: int, streets: int, seed: int = 0) -> tuple[Floats, NDArray[np.bool_]]:
        """(count, dim) views of a later drive, and which of them show a street that the map has; one in four does not."""
        rng = np.random.default_rng((self.seed, 2, seed))
        known = rng.random(count) < 0.75
        found = []
        for is_known in known:
            street = int(rng.integers(streets)) if is_known else 10**8 + int(rng.integers(10**8))
            found.append(self.visit(street, 1 + int(rng.integers(2**31)))[int(rng.integers(STREET))])
        return np.array(found), known

    def visit(self, street: int, visit: int) -> Floats:
        """(STREET, dim) keyframes along a street; visit 0 is the first, others look different by a degree of their own."""
        place = _process(np.random.default_rng((self.seed, 3, street)), self.dim)
        noise = np.random.default_rng((self.seed, 4, street, visit))
        seen = place
        if visit:
            likeness = noise.uniform(0.55, 0.95)
            seen = likeness * place + np.sqrt(1 - likeness**2) * _process(noise, self.dim)
        view = noise.standard_normal((STREET, self.dim), np.float32)
        mean, share = self._environment(street // STREETS_OF_ENVIRONMENT)
        own = np.sqrt(1 - VIEW_SHARE) * seen + np.sqrt(VIEW_SHARE) * view
        x = (np.sqrt(1 - share) * own + np.sqrt(share) * mean) * self._scales @ self._rotation
        return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True), np.float32)

    def _environment(self, number: int) -> tuple[Floats, float]:
        rng = np.random.default_rng((self.seed, 5, number))
        return rng.standard_normal(self.dim, np.float32), float(rng.uniform(0.02, 0.33))

    @cached_property
    def _scales(self) -> Floats:
        ranks = np.linspace(1, RANKS[-1], self.dim)
        values = np.exp(np.interp(np.log(ranks), np.log(RANKS), np.log(EIGENVALUES)))
        return np.sqrt(values / values.sum()).astype(np.float32)

    @cached_property
    def _rotation(self) -> Floats:
        rng = np.random.default_rng((self.seed, 6))
        return np.linalg.qr(rng.standard_normal((self.dim, self.dim)))[0].astype(np.float32)


def _process(rng: np.random.Generator, dim: int) -> Floats:
    """(STREET, dim) of unit variance; what is i keyframes apart correlates by exp(-i / MEMORY)."""
    kept = np.exp(-1 / MEMORY)
    x = rng.standard_normal((STREET, dim), np.float32)
    x[1:] *= np.float32(np.sqrt(1 - kept**2))
    for i in range(1, STREET):
        x[i] += np.float32(kept) * x[i - 1]
    return x
