"""Descriptors are computed once, and never stand for images or models that have changed."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
from small_worlds import texture

from training.evaluation.descriptor_cache import DescriptorCache
from vpr_ros.errors import ModelError, SourceError


def files(cache: DescriptorCache) -> list[Path]:
    return [path for path in cache.folder.rglob("*") if path.is_file()]


def test_images_are_described_in_order_and_once(cache, mean_colour, write_images) -> None:
    images = write_images("map", range(8))
    first = cache.describe(mean_colour, images)
    assert mean_colour.described == [3, 3, 2]
    one_by_one = [mean_colour.describe([cv2.imread(str(path))[..., ::-1]])[0] for path in images.paths]
    np.testing.assert_array_equal(first, one_by_one)
    mean_colour.described.clear()
    np.testing.assert_array_equal(cache.describe(mean_colour, images), first)
    assert mean_colour.described == []
    assert [path.suffix for path in files(cache)] == [".npy"]


def test_another_model_or_a_changed_image_is_described_again(cache, mean_colour, write_images) -> None:
    images = write_images("map", range(2))
    before = cache.describe(mean_colour, images)
    mean_colour.id = "mean colour 2"
    cache.describe(mean_colour, images)
    assert mean_colour.described == [2, 2]
    cv2.imwrite(str(images.paths[1]), texture(9, 80, 60))
    after = cache.describe(mean_colour, images)
    assert mean_colour.described == [2, 2, 2]
    np.testing.assert_array_equal(before[0], after[0])
    assert not np.array_equal(before[1], after[1])


def damage_by_cutting(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def damage_by_emptying(path: Path) -> None:
    path.write_bytes(b"")


def damage_by_pickle(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.array([{"a": 1}, {}], dtype=object))


def damage_by_another_shape(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros((3, 3), np.float32))


@pytest.mark.parametrize("damage", [damage_by_cutting, damage_by_emptying, damage_by_pickle, damage_by_another_shape])
def test_a_damaged_file_is_computed_again_and_said(damage, cache, mean_colour, write_images, caplog) -> None:
    images = write_images("map", range(2))
    before = cache.describe(mean_colour, images)
    (file,) = files(cache)
    damage(file)
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(cache.describe(mean_colour, images), before)
    assert f"{file} is damaged" in caplog.text
    assert mean_colour.described == [2, 2]
    cache.describe(mean_colour, images)
    assert mean_colour.described == [2, 2]


def test_a_cache_that_cannot_be_written_costs_time_only(tmp_path, mean_colour, write_images, caplog) -> None:
    (tmp_path / "taken").write_text("a file where the folder should be")
    images = write_images("map", range(2))
    with caplog.at_level(logging.WARNING):
        assert len(DescriptorCache(tmp_path / "taken").describe(mean_colour, images)) == 2
    assert "cannot be written (" in caplog.text


def test_unreadable_images_are_nan_rows(cache, mean_colour, write_images) -> None:
    images = write_images("map", [None, 1, 2, None, None, None, 3])
    described = cache.describe(mean_colour, images)
    assert np.isnan(described).all(axis=1).tolist() == [True, False, False, True, True, True, False]
    np.testing.assert_array_equal(cache.describe(mean_colour, images), described)
    images.paths[0].unlink()
    assert np.isnan(cache.describe(mean_colour, images)[0]).all()


def test_a_set_without_any_readable_image_is_an_error(cache, mean_colour, write_images) -> None:
    images = write_images("map", [None, None])
    with pytest.raises(SourceError, match=r"map: none of its 2 images can be read, .*000\.png first"):
        cache.describe(mean_colour, images)


def test_descriptors_that_are_not_finite_are_an_error(cache, mean_colour, write_images, monkeypatch) -> None:
    images = write_images("map", [1, 2])
    monkeypatch.setattr(
        type(mean_colour), "describe", lambda self, images: np.full((len(images), 3), np.inf, np.float32)
    )
    with pytest.raises(
        ModelError, match=r"mean colour has no finite descriptor for .*000\.png: did its training diverge"
    ):
        cache.describe(mean_colour, images)
    assert files(cache) == []
