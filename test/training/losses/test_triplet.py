from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from small_batches import batches, labels, unit

from training.data.batch import Targets
from training.losses import Triplet

laws = settings(deadline=None, max_examples=50)


def one(descriptors: torch.Tensor, a: int, p: int, n: int, margin: float) -> float:
    x = descriptors.tolist()
    return max(math.dist(x[a], x[p]) - math.dist(x[a], x[n]) + margin, 0.0)


@laws
@given(batches())
def test_without_mined_triplets_against_a_loop_over_all_of_the_batch(batch: tuple[torch.Tensor, Targets]) -> None:
    descriptors, targets = batch
    psi, every = targets.similarity, range(len(descriptors))
    losses = [
        one(descriptors, a, p, n, 0.3)
        for a in every
        for p in every
        for n in every
        if a != p and psi[a, p] >= 0.5 and psi[a, n] == 0
    ]
    expected = np.mean(losses) if losses else 0.0
    assert float(Triplet(margin=0.3)(descriptors, targets)) == pytest.approx(float(expected), abs=1e-7)


def test_only_the_mined_triplets_count_also_those_that_keep_the_margin() -> None:
    descriptors = unit(np.random.default_rng(0), 6)
    mined = torch.tensor([[0, 1, 2], [0, 1, 3], [4, 5, 0]])
    losses = [one(descriptors, *triplet, 0.1) for triplet in mined.tolist()]
    assert 0.0 in losses
    assert max(losses) > 0
    loss = Triplet()(descriptors, Targets(labels(np.ones((6, 6))).similarity, mined))
    assert float(loss) == pytest.approx(float(np.mean(losses)), abs=1e-9)
