from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.augment import Crop, random_crop, random_view
from training.data.sources import LoneImages, NamedPlaces, PosedImages, draw_batch, similarity_matrix
from training.labels.field_of_view import FieldOfView

IMAGE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)


def street(count: int = 60) -> PosedImages:
    poses = np.column_stack([2.0 * np.arange(count), np.zeros(count), np.zeros(count)])
    return PosedImages("street", [IMAGE] * count, poses, FieldOfView(90.0, 30.0))


@given(st.integers(0, 2**32 - 1), st.floats(0.3, 1.0))
def test_a_crop_lies_in_the_image_and_is_large_enough(seed: int, smallest: float) -> None:
    crop = random_crop(np.random.default_rng(seed), smallest)
    assert crop.width >= smallest
    assert crop.left >= 0
    assert crop.left + crop.width <= 1 + 1e-9
    assert crop.overlap(crop) == pytest.approx(1.0)
    other = random_crop(np.random.default_rng(seed + 1), smallest)
    assert crop.overlap(other) == pytest.approx(other.overlap(crop))
    assert 0.0 <= crop.overlap(other) <= 1.0


def test_overlap_of_two_halves() -> None:
    left, middle = Crop(0.0, 0.0, 0.5, 1.0), Crop(0.25, 0.0, 0.5, 1.0)
    assert left.overlap(middle) == pytest.approx(0.5)
    assert left.overlap(Crop(0.5, 0.0, 0.5, 1.0)) == 0.0


@given(st.integers(0, 2**32 - 1))
def test_a_view_is_an_image_of_the_network_size(seed: int) -> None:
    rng = np.random.default_rng(seed)
    view = random_view(rng, IMAGE, random_crop(rng, 0.5), 64, 48)
    assert view.shape == (48, 64, 3)
    assert view.dtype == np.uint8


def test_posed_images_are_drawn_as_query_positive_and_soft_negative() -> None:
    source = street()
    drawn = source.draw(np.random.default_rng(0), 30)
    assert len(drawn) == 30
    for query, positive, soft in zip(drawn[::3], drawn[1::3], drawn[2::3], strict=True):
        assert source.similarity(query, positive) >= 0.5
        assert 0.0 < source.similarity(query, soft) < 0.5


def test_the_similarity_matrix_knows_what_is_known() -> None:
    named = NamedPlaces("named", [IMAGE] * 4, ["a", "b", "a", "c"])
    lone = LoneImages("lone", [IMAGE] * 4, ["x", "x", "y", "z"])
    sources = [street(), named, lone]
    views = draw_batch(np.random.default_rng(3), sources, [1.0, 1.0, 1.0], groups=9, group_size=3)
    psi = similarity_matrix(views, sources)
    np.testing.assert_array_equal(psi, psi.T)
    assert {v.source for v in views} == {0, 1, 2}
    for i, a in enumerate(views):
        for j, b in enumerate(views):
            if a.source != b.source:
                assert psi[i, j] == 0.0
            elif a.source == 2 and {a.index, b.index} == {0, 1}:
                assert np.isnan(psi[i, j])  # two images of one clip: nobody knows
            elif a.source == 1 and i != j:
                assert psi[i, j] == float(named.places[a.index] == named.places[b.index])


def test_the_same_seed_draws_the_same_batch() -> None:
    sources = [street()]
    first, second = (draw_batch(np.random.default_rng(5), sources, [1.0], 4, 3) for _ in range(2))
    assert first == second
