"""Intervals that hold what they promise, over sequences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.evaluation.bootstrap import Bootstrap, Units, confidence_interval, paired_difference, resampling_units


def test_five_sequences_are_resampled_as_they_are() -> None:
    units = resampling_units(np.array(["b", "a", "c", "d", "e", "a"]))
    assert units.index.tolist() == [1, 0, 2, 3, 4, 0]
    assert units.label == "5 sequences"


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 300), min_size=1, max_size=4))
def test_few_sequences_are_cut_into_contiguous_blocks(lengths: list[int]) -> None:
    sequences = np.repeat([f"drive {i}" for i in range(len(lengths))], lengths)
    index = resampling_units(sequences).index
    assert set(index) == set(range(index.max() + 1))
    blocks = [np.flatnonzero(index == unit) for unit in range(index.max() + 1)]
    aim = max(10, round(len(sequences) ** 0.5))
    for block in blocks:
        assert len(set(sequences[block])) == 1
        assert (np.diff(block) == 1).all()
        assert len(block) <= 1.5 * aim + 1


def test_two_hundred_images_of_one_walk() -> None:
    assert resampling_units(np.full(200, "walk")).label == "14 blocks of 14 images"


def test_the_interval_is_that_of_resampled_units() -> None:
    rng = np.random.default_rng(3)
    index = rng.integers(0, 6, 40)
    values = rng.random((40, 2))
    low, high = confidence_interval(values, Units(index, ""), Bootstrap(resamples=50, seed=7))
    drawn = np.random.default_rng(7).multinomial(6, np.full(6, 1 / 6), size=50)
    means = [
        np.concatenate([values[index == unit] for unit, times in enumerate(draw) for _ in range(times)]).mean(axis=0)
        for draw in drawn
    ]
    np.testing.assert_allclose([low, high], np.quantile(means, [0.025, 0.975], axis=0))
    one_low, one_high = confidence_interval(values[:, 0], Units(index, ""), Bootstrap(resamples=50, seed=7))
    assert (one_low, one_high) == (pytest.approx(low[0]), pytest.approx(high[0]))


def test_one_unit_says_nothing() -> None:
    low, high = confidence_interval(np.ones((5, 2)), Units(np.zeros(5, np.int64), ""))
    assert np.isnan([low, high]).all()


def coverage(units_of: str, trials: int = 150) -> float:
    """How often the interval holds the true share, 0.6, where 25 drives of 20 images succeed or fail mostly together."""
    rng = np.random.default_rng(0)
    drives, images, held = 25, 20, 0
    index = np.repeat(np.arange(drives), images) if units_of == "drives" else np.arange(drives * images)
    for _ in range(trials):
        ease = rng.beta(0.6, 0.4, drives)
        right = rng.random((drives, images)) < ease[:, None]
        low, high = confidence_interval(right.ravel(), Units(index, ""), Bootstrap(resamples=200))
        held += low <= 0.6 <= high
    return held / trials


def test_over_drives_95_percent_is_nearly_95_percent_and_over_images_it_is_not() -> None:
    assert 0.87 <= coverage("drives") <= 0.99
    assert coverage("images", trials=60) < 0.65


def test_difference_is_the_second_minus_the_first_with_paired_draws() -> None:
    rng = np.random.default_rng(1)
    index = np.repeat(np.arange(20), 10)
    hard = rng.random(20)[index] < 0.5  # whole drives are hard for both
    first = ~hard
    second = ~hard | (rng.random(200) < 0.2)
    units = Units(index, "")
    difference, low, high = paired_difference(first, second, units)
    assert difference == pytest.approx(second.mean() - first.mean())
    assert 0 < low <= difference <= high
    unpaired_low, unpaired_high = confidence_interval(second, units)
    assert high - low < 0.5 * (unpaired_high - unpaired_low)
    assert paired_difference(first, first, units) == (0, 0, 0)
    back = paired_difference(second, first, units)
    np.testing.assert_allclose(back, (-difference, -high, -low), atol=1e-12)
