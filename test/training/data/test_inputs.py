from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.data.augment import Crop
from training.data.classes import NO_CLUSTER, read_table
from training.data.image_set import ImageSet, LabelMaps
from training.data.inputs import Rgb, Semantic
from vpr_ros.errors import ConfigError, ImageError, SourceError

WHOLE = Crop(0, 0, 1, 1)


def of_labels(tmp_path: Path, labels: np.ndarray, table: str = "camvid") -> ImageSet:
    cv2.imwrite(str(tmp_path / "0.png"), labels)
    return ImageSet.of("one", [tmp_path / "0.jpg"], label_maps=LabelMaps.of([tmp_path / "0.png"], read_table(table)))


def test_classes_become_clusters_in_the_order_of_the_weights(tmp_path: Path) -> None:
    labels = np.array([[0, 1, 3], [5, 8, 11]], np.uint8)  # sky, building, road; tree, car, void
    images = of_labels(tmp_path, labels)
    assert Semantic().read(images, 0).tolist() == [[4, 0, 3], [2, 5, NO_CLUSTER]]
    turned = Semantic(weights={"dynamic": 0, "sky": 1, "ground": 1, "vegetation": 1, "static": 1, "building": 1})
    assert turned.read(images, 0).tolist() == [[1, 5, 2], [3, 0, NO_CLUSTER]]


def test_what_cannot_be_a_label_map_is_refused(tmp_path: Path) -> None:
    images = of_labels(tmp_path, np.full((2, 2), 77, np.uint8))
    with pytest.raises(SourceError, match=r"0\.png holds class id 77"):
        Semantic().read(images, 0)
    (tmp_path / "0.png").write_bytes(b"no png")
    with pytest.raises(ImageError, match=r"0\.png is no PNG"):
        Semantic().read(images, 0)
    with pytest.raises(ConfigError, match="one has no label maps: give its source label_maps"):
        Semantic().read(ImageSet.of("one", [tmp_path / "0.jpg"]), 0)
    with pytest.raises(ConfigError, match="of cluster 'sky', which is none of building"):
        Semantic(weights={"building": 1}).read(images := of_labels(tmp_path, np.zeros((2, 2), np.uint8)), 0)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_augmentation_invents_no_cluster(seed: int) -> None:
    rng = np.random.default_rng(seed)
    clusters = rng.choice(np.array([0, 3, 5], np.uint8), (12, 16))
    view = Semantic().view(rng, clusters, Crop(0.1, 0.1, 0.8, 0.9), 32, 24)
    assert view.shape == (24, 32)
    assert set(np.unique(view)) <= {0, 3, 5, NO_CLUSTER}


def test_both_inputs_see_the_same_window() -> None:
    labels = np.zeros((40, 60), np.uint8)
    labels[:, 30:] = 4
    image = np.repeat(labels[..., None] * 60, 3, axis=2)
    crop = Crop(0.25, 0.0, 0.5, 1.0)
    seen = Semantic().view(np.random.default_rng(1), labels, crop, 30, 40)  # this generator does not tilt
    np.testing.assert_array_equal(seen, Semantic().resize(crop.cut(labels), 30, 40))
    np.testing.assert_array_equal(Rgb().resize(crop.cut(image), 30, 40)[..., 0] == 240, seen == 4)
    assert Rgb().blank(30, 40).shape == (40, 30, 3)
    assert (Semantic().blank(30, 40) == NO_CLUSTER).all()
