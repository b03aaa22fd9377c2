from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.data.augment import Crop, random_crop, random_view

IMAGE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
laws = settings(deadline=None, max_examples=50)
seeds = st.integers(0, 2**32 - 1)


@laws
@given(seeds, st.floats(0.3, 1.0))
def test_a_crop_lies_in_the_image_and_is_large_enough(seed: int, smallest: float) -> None:
    crop = random_crop(np.random.default_rng(seed), smallest)
    assert min(crop.width, crop.height) >= smallest
    assert min(crop.left, crop.top) >= 0
    assert max(crop.left + crop.width, crop.top + crop.height) <= 1 + 1e-9
    assert crop.overlap(crop) == pytest.approx(1.0)
    other = random_crop(np.random.default_rng(seed + 1), smallest)
    assert crop.overlap(other) == pytest.approx(other.overlap(crop))
    assert 0.0 <= crop.overlap(other) <= 1.0


def test_overlap_of_two_halves() -> None:
    left, middle = Crop(0.0, 0.0, 0.5, 1.0), Crop(0.25, 0.0, 0.5, 1.0)
    assert left.overlap(middle) == pytest.approx(0.5)
    assert left.overlap(Crop(0.5, 0.0, 0.5, 1.0)) == 0.0


@laws
@given(seeds)
def test_a_view_is_an_image_of_the_network_size(seed: int) -> None:
    rng = np.random.default_rng(seed)
    view = random_view(rng, IMAGE, random_crop(rng, 0.5), 64, 48)
    assert view.shape == (48, 64, 3)
    assert view.dtype == np.uint8
