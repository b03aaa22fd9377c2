from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from small_batches import random_psi

from training.labels import pairs
from training.labels.pairs import PairCounts, pairs_within, require, symmetric_matrix
from vpr_ros.errors import SourceError


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.integers(1, 60), st.floats(0, 12), st.sampled_from([2, 3]), st.sampled_from([1, 30, 10**6])
)  # fmt: skip
def test_each_near_pair_is_found_once(seed: int, count: int, radius: float, dimensions: int, block: int) -> None:
    positions = np.random.default_rng(seed).integers(0, 10, (count, dimensions)).astype(np.float64)  # some are equal
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs, "_BLOCK", block)
        blocks = list(pairs_within(positions, radius))
    found = [(i, j) for block in blocks for i, j in zip(*(side.tolist() for side in block), strict=True)]
    distance = np.linalg.norm(positions[:, None] - positions, axis=2)
    assert sorted(found) == [tuple(pair) for pair in np.argwhere(np.triu(distance <= radius, k=1)).tolist()]


def test_a_block_holds_few_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "_BLOCK", 300)
    crowd = np.zeros((100, 2))  # each image has 100 neighbours
    sizes = [len(i) for i, _ in pairs_within(crowd, 1.0)]
    assert sum(sizes) == 100 * 99 // 2
    assert max(sizes) <= 300


def test_the_matrix_is_symmetric_sorted_and_keeps_what_is_unknown() -> None:
    blocks = [
        (np.array([0, 0]), np.array([3, 1]), np.array([0.25, np.nan], np.float32)),
        (np.array([2]), np.array([3]), np.array([1.0], np.float32)),
    ]
    matrix = symmetric_matrix(5, blocks)
    expected = np.zeros((5, 5))
    expected[0, 3] = expected[3, 0] = 0.25
    expected[0, 1] = expected[1, 0] = np.nan
    expected[2, 3] = expected[3, 2] = 1.0
    np.testing.assert_array_equal(matrix.toarray(), expected)
    assert matrix.nnz == 6
    assert matrix.dtype == np.float32
    assert matrix.indices.tolist() == [1, 3, 0, 3, 0, 2]


def test_no_pairs_make_an_empty_matrix() -> None:
    matrix = symmetric_matrix(3, [])
    assert matrix.shape == (3, 3)
    assert matrix.nnz == 0


def test_what_is_missing_is_named_with_the_fix() -> None:
    require(np.ones(3, bool), "place", "town")
    with pytest.raises(
        SourceError, match=r"^town: 2 of 4 images have no place \(the first is image 1\); leave them out"
    ):
        require(np.array([True, False, False, True]), "place", "town")


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 10))
def test_pairs_are_counted_once_and_by_kind(seed: int, count: int) -> None:
    psi = random_psi(np.random.default_rng(seed), count)
    np.fill_diagonal(psi, 0)
    each = psi[np.triu_indices(count, 1)]
    counts = PairCounts.of(csr_array(psi))
    assert counts == PairCounts(
        positive=sum(value >= 0.5 for value in each),
        soft=sum(0 < value < 0.5 for value in each),
        unrelated=sum(value == 0 for value in each),
        unknown=sum(value != value for value in each),
    )
    assert counts.total == count * (count - 1) // 2
