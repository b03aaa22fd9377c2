"""The measures against their definitions, one query at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from training.evaluation.metrics import average_precision, right_within

ANSWERS = arrays(np.bool_, st.tuples(st.integers(1, 6), st.integers(1, 8)))


@settings(deadline=None, max_examples=50)
@given(ANSWERS)
def test_right_within_is_any_of_the_first(right: np.ndarray) -> None:
    for q, k in np.ndindex(right.shape):
        assert right_within(right)[q, k] == any(right[q, : k + 1])


@settings(deadline=None, max_examples=50)
@given(ANSWERS, st.integers(0, 9))
def test_average_precision_is_that_of_msls(right: np.ndarray, unfound: int) -> None:
    positives = np.maximum(right.sum(axis=1) + unfound, 1)
    for q, found in enumerate(average_precision(right, positives)):
        hits, total = 0, 0.0
        for rank, is_right in enumerate(right[q], start=1):
            hits += is_right
            total += hits / rank * is_right
        assert found == pytest.approx(total / min(right.shape[1], positives[q]))
        assert 0 <= found <= 1 + 1e-12


def test_average_precision_by_hand() -> None:
    right = np.array([[True, False, True], [True, True, True], [False, False, False]])
    np.testing.assert_allclose(average_precision(right, np.array([2, 100, 1])), [(1 + 2 / 3) / 2, 1.0, 0.0])
