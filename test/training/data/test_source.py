from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from small_batches import random_psi, source_of

laws = settings(deadline=None, max_examples=50)
seeds, counts = st.integers(0, 2**32 - 1), st.integers(1, 9)


@laws
@given(seeds, counts, st.integers(1, 12))
def test_psi_of_a_batch_is_cut_from_the_dense_matrix(seed: int, count: int, batch: int) -> None:
    rng = np.random.default_rng(seed)
    psi = random_psi(rng, count)
    indices = rng.integers(count, size=batch)  # an image may be there twice: psi of it and itself is 1
    np.testing.assert_array_equal(source_of(psi).psi(indices), psi[np.ix_(indices, indices)])


@laws
@given(seeds, counts)
def test_the_kinds_of_neighbours(seed: int, count: int) -> None:
    psi = random_psi(np.random.default_rng(seed), count)
    source = source_of(psi)
    for query in range(count):
        others = [i for i in range(count) if i != query]
        assert source.positives(query).tolist() == [i for i in others if psi[query, i] >= 0.5]
        assert source.soft_negatives(query).tolist() == [i for i in others if 0 < psi[query, i] < 0.5]
        stored, values = source.neighbours(query)
        assert stored.tolist() == [i for i in others if psi[query, i] != 0]
        np.testing.assert_array_equal(values, psi[query, stored])
