from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning.miners import MultiSimilarityMiner
from small_batches import batches, unit

from training.data.batch import Targets
from training.losses import MultiSimilarity
from training.losses.multi_similarity import informative

laws = settings(deadline=None, max_examples=50)


def by_loops(descriptors: torch.Tensor, psi: torch.Tensor, epsilon: float | None) -> float:
    cosine = (descriptors @ descriptors.T).tolist()
    every, total, pairs = range(len(cosine)), 0.0, [0, 0]
    for i in every:
        positive = [cosine[i][j] for j in every if j != i and psi[i, j] >= 0.5]
        negative = [cosine[i][j] for j in every if psi[i, j] == 0]
        if epsilon is not None:
            hardest_positive, hardest_negative = min(positive, default=math.inf), max(negative, default=-math.inf)
            positive = [s for s in positive if s - epsilon < hardest_negative]
            negative = [s for s in negative if s + epsilon > hardest_positive]
        pairs = [pairs[0] + len(positive), pairs[1] + len(negative)]
        total += math.log(1 + sum(math.exp(-2.0 * (s - 0.1)) for s in positive)) / 2.0
        total += math.log(1 + sum(math.exp(10.0 * (s - 0.1)) for s in negative)) / 10.0
    return 0.0 if max(pairs) <= 1 else total / len(cosine)


@laws
@given(batches(), st.sampled_from([None, 0.1, 0.5]))
def test_against_loops_over_the_pairs(batch: tuple[torch.Tensor, Targets], epsilon: float | None) -> None:
    loss = MultiSimilarity(alpha=2.0, beta=10.0, base=0.1, miner_epsilon=epsilon)
    assert float(loss(*batch)) == pytest.approx(by_loops(batch[0], batch[1].similarity, epsilon), abs=1e-7)


@laws
@given(st.integers(0, 1000), st.integers(2, 8))
def test_where_every_pair_is_known_it_mines_what_the_library_mines(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    descriptors, places = unit(rng, count), torch.from_numpy(rng.integers(0, 3, count))
    same = places[:, None] == places[None, :]
    positive, negative = informative(descriptors, same.clone().fill_diagonal_(False), ~same, 0.1)
    a, p, b, n = MultiSimilarityMiner(epsilon=0.1)(descriptors, places)
    assert set(map(tuple, positive.nonzero().tolist())) == set(zip(a.tolist(), p.tolist(), strict=True))
    assert set(map(tuple, negative.nonzero().tolist())) == set(zip(b.tolist(), n.tolist(), strict=True))
