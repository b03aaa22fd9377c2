from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tiny_training import content, write_places

from training.catalog import open_sources
from training.data.batches import TrainingBatches, batch_loader
from training.data.feature_masks import UNKNOWN
from training.data.sampling import Draw
from training.data.source import Source
from training.recipe import Recipe


@pytest.fixture(scope="module")
def batches(tmp_path_factory: pytest.TempPathFactory) -> TrainingBatches:
    root = write_places(tmp_path_factory.mktemp("batches"))
    recipe = Recipe.checked(content(root), "tiny")
    sources: list[Source] = open_sources(recipe.sources, recipe.data_root, recipe.cache)
    return TrainingBatches(sources, recipe.sampling, recipe.network.model_copy(update={"height": 48}), seed=3)


def test_a_batch_is_a_function_of_its_number(batches: TrainingBatches) -> None:
    again, other = batches[5], batches[6]
    assert torch.equal(batches[5].images, again.images)
    assert torch.equal(batches[5].targets.similarity, again.targets.similarity)
    assert not torch.equal(again.images, other.images)
    assert again.images.shape == (9, 48, 64, 3)
    assert again.images.dtype == torch.uint8
    assert again.views.tolist() == [[0, view.index] for view in _draw(batches, 5).views]


def test_masks_are_seen_by_the_same_cameras_as_images(tmp_path: Path) -> None:
    """Images that are white on one side, with masks that say so: both are cut and tilted alike."""
    root = write_places(tmp_path)
    for path in (root / "places").iterdir():
        image = np.zeros((72, 96, 3), np.uint8)
        image[:, : 16 + 12 * int(path.stem[3])] = 255
        cv2.imwrite(str(path), image)
    recipe = Recipe.checked(content(root), "tiny")
    (source,) = open_sources(recipe.sources, recipe.data_root, recipe.cache)
    columns = [2 * (16 + 12 * int(path.stem[3])) // 3 for path in source.images.paths]
    masks = np.where(np.arange(64)[None, None] < np.array(columns)[:, None, None], 254, 0)
    masks = np.repeat(masks, 64, axis=1).astype(np.uint8)
    plain = TrainingBatches([source], recipe.sampling, recipe.network, 3)[0]
    batch = TrainingBatches([source], recipe.sampling, recipe.network, 3, [masks])[0]
    assert torch.equal(batch.images, plain.images)
    assert plain.masks is None
    assert batch.masks is not None
    for image, mask in zip(batch.images.float().mean(dim=3), batch.masks, strict=True):
        known = mask != UNKNOWN
        bright = image > (image.min() + image.max()) / 2
        assert ((mask > 127) == bright)[known].float().mean() > 0.8


def _draw(batches: TrainingBatches, k: int) -> Draw:
    return batches.sampling.draw(np.random.default_rng((batches.seed, k)), batches.sources)


@pytest.mark.parametrize("workers", [0, 1])
def test_processes_share_the_batches_of_one(batches: TrainingBatches, workers: int) -> None:
    one = [batch.images for batch in batch_loader(batches, 0, 4, 0, rank=0, ranks=1, workers=0)]
    two = [
        [batch.images for batch in batch_loader(batches, 0, 2, 0, rank=rank, ranks=2, workers=workers)]
        for rank in range(2)
    ]
    assert [torch.equal(a, b) for a, b in zip(one, [two[0][0], two[1][0], two[0][1], two[1][1]], strict=True)] == [
        True
    ] * 4


def test_a_resumed_round_is_as_long_as_a_whole_one_but_begins_later(batches: TrainingBatches) -> None:
    resumed = batch_loader(batches, 10, 16, 14, rank=0, ranks=1, workers=0)
    assert len(resumed) == 6
    images = [batch.images for batch in resumed]
    assert len(images) == 2
    assert torch.equal(images[0], batches[14].images)


def test_an_unreadable_image_is_black_and_asked_nothing(tmp_path: Path) -> None:
    root = write_places(tmp_path)
    recipe = Recipe.checked(content(root), "tiny")
    sources = open_sources(recipe.sources, recipe.data_root, recipe.cache)
    for path in sorted((root / "places").iterdir())[::2]:
        path.write_bytes(b"no image")
    batch = TrainingBatches(sources, recipe.sampling, recipe.network, seed=0)[0]
    black = (batch.images == 0).flatten(1).all(dim=1)
    assert 0 < black.sum() == len(batch.unreadable) < len(black)
    asked = batch.targets.similarity.isfinite()
    assert not asked[black][:, ~black].any()
    assert np.array_equal(asked[black][:, black], np.eye(int(black.sum()), dtype=bool))
    assert asked[~black][:, ~black].all()
