"""Labelled images: which file belongs to which, what a network learns from them, the same crops every time."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from small_worlds import texture

from training.data.classes import ClassTable, read_table
from training.semantics.labelled import (
    IGNORED,
    CropBatches,
    Crops,
    LabelledFolder,
    class_count,
    images_under,
    label_file,
    read_targets,
)
from vpr_ros.errors import ConfigError, SourceError

CAMVID = read_table("camvid")
AS_IT_IS = Crops(light=0.0, grey=0.0)


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), pixels)
    return path


@pytest.fixture
def striped(tmp_path: Path) -> list[tuple[Path, Path]]:
    """One image whose grey value says its class: columns of sky, building, pole, road."""
    labels = np.repeat(np.arange(4, dtype=np.uint8), 16)[None].repeat(48, axis=0)
    image = save(tmp_path / "images/a.png", np.dstack([labels * 60] * 3))
    return [(image, save(tmp_path / "labels/a.png", labels))]


def test_images_of_all_folders_in_natural_order(tmp_path: Path) -> None:
    names = ["b/2.png", "b/10.jpg", "a.png"]
    for name in names:
        save(tmp_path / name, np.zeros((2, 2), np.uint8))
    (tmp_path / "b/notes.txt").touch()
    found = images_under(tmp_path)
    assert set(found) == {tmp_path / name for name in names}
    assert found.index(tmp_path / "b/2.png") < found.index(tmp_path / "b/10.jpg")


def test_no_images(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="holds no images"):
        images_under(tmp_path)
    with pytest.raises(SourceError, match="no such folder of images"):
        images_under(tmp_path / "nowhere")


def test_label_files_of_camvid_and_cityscapes(tmp_path: Path) -> None:
    images, labels = tmp_path / "images", tmp_path / "labels"
    grey = np.zeros((2, 2), np.uint8)
    of_camvid = save(labels / "0001TP.png", grey)
    of_cityscapes = save(labels / "ulm/ulm_01_gtFine_labelIds.png", grey)
    assert label_file(images / "0001TP.jpg", images, labels) == of_camvid
    assert label_file(images / "ulm/ulm_01_leftImg8bit.png", images, labels) == of_cityscapes
    save(images / "0002TP.png", grey)
    with pytest.raises(SourceError, match=r"0002TP\.png has no label image: .*labels/0002TP\.png is not there"):
        LabelledFolder(images=Path("images"), labels=Path("labels")).pairs(tmp_path)


def test_void_is_not_learnt(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", np.array([[0, 10, 11]], np.uint8))
    assert read_targets(path, CAMVID).tolist() == [[0, 10, IGNORED]]
    assert class_count(CAMVID) == 11
    assert class_count(read_table("cityscapes")) == 19
    gap = {"classes": {0: {"name": "a", "cluster": "sky"}, 2: {"name": "b", "cluster": "sky"}}}
    with pytest.raises(ConfigError, match="numbered 0, 1, 2"):
        class_count(ClassTable.checked(gap, "gap"))


def batches(pairs: list[tuple[Path, Path]], seed: int = 0, crops: Crops = AS_IT_IS) -> CropBatches:
    return CropBatches(pairs, CAMVID, crops, size=3, width=32, height=24, seed=seed)


def test_labels_stay_on_their_pixels(striped: list[tuple[Path, Path]]) -> None:
    images, targets = batches(striped)[0]
    assert images.shape == (3, 24, 32, 3)
    assert images.dtype == torch.uint8
    assert (targets.shape, targets.dtype) == ((3, 24, 32), torch.int64)
    off = (images[..., 0].long() - targets * 60).abs()
    assert (off <= 2).float().mean() > 0.85  # all but where two stripes meet


def test_mirrored_and_not(striped: list[tuple[Path, Path]]) -> None:
    world = batches(striped)
    order = {
        bool(targets[0, 0, 0] < targets[0, 0, -1])
        for targets in (world[k][1] for k in range(8))
        if targets[0, 0, 0] != targets[0, 0, -1]
    }
    assert order == {True, False}


def test_a_batch_is_a_function_of_seed_and_number(striped: list[tuple[Path, Path]]) -> None:
    crops = Crops()
    first, again = batches(striped, 1, crops)[5], batches(striped, 1, crops)[5]
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], batches(striped, 2, crops)[5][0])
    assert not torch.equal(first[0], batches(striped, 1, crops)[6][0])


def test_grey_images_are_for_cameras_without_colour() -> None:
    image = texture(0, 20, 10)
    grey = Crops(grey=1.0).recolour(np.random.default_rng(0), image)
    assert np.ptp(grey.astype(int), axis=2).max() <= 1
    unchanged = Crops(light=0.0, grey=0.0).recolour(np.random.default_rng(0), image)
    assert np.abs(unchanged.astype(int) - image).max() <= 1


def test_labels_of_another_size_are_refused(striped: list[tuple[Path, Path]], tmp_path: Path) -> None:
    save(striped[0][1], np.zeros((5, 5), np.uint8))
    with pytest.raises(SourceError, match=r"labels/a\.png is not of the size of .*images/a\.png"):
        batches(striped)[0]
