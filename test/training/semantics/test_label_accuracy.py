"""Intersection over union, against counting pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from training.semantics.accuracy import confusion, intersection_over_union, pixel_accuracy

CLASSES = 4
LABELS = arrays(np.uint8, (2, 5, 6), elements=st.sampled_from([0, 1, 2, 3, 255]))


def test_a_world_counted_by_hand() -> None:
    truth = np.array([[0, 0, 1], [1, 1, 255]], np.uint8)
    answer = np.array([[0, 1, 1], [1, 0, 0]], np.uint8)
    counts = confusion(truth, answer, 3)
    assert counts.tolist() == [[1, 1, 0], [1, 2, 0], [0, 0, 0]]
    np.testing.assert_allclose(intersection_over_union(counts), [1 / 3, 1 / 2, np.nan])
    assert pixel_accuracy(counts) == pytest.approx(3 / 5)


@settings(deadline=None, max_examples=50)
@given(LABELS)
def test_the_same_as_sets_of_pixels(labels: np.ndarray) -> None:
    truth, answer = labels
    found = intersection_over_union(confusion(truth, answer, CLASSES))
    counted = (truth != 255) & (answer != 255)
    for number in range(CLASSES):
        true, called = (truth == number) & counted, (answer == number) & counted
        union = (true | called).sum()
        expected = (true & called).sum() / union if union else np.nan
        np.testing.assert_allclose(found[number], expected)
