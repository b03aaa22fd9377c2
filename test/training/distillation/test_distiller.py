from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from small_batches import unit
from tiny_training import LABEL_MAPS, content, write_label_maps, write_places, write_teacher_and_student

from training.catalog import open_sources
from training.data.source import Source
from training.distillation import Distillation, Distiller, Samples
from training.distillation.distiller import best_rotation
from training.models.network_file import load_network
from training.models.place_network import PlaceNetwork
from training.recipe import Recipe
from vpr_ros.errors import ConfigError, TrainingError


def table(weights: dict[tuple[int, int], float], images: int) -> csr_array:
    rows, columns = zip(*weights, strict=True)
    return csr_array((list(weights.values()), (rows, columns)), (images, images))


def test_the_loss_is_the_weighted_mean_over_both_members() -> None:
    rng = np.random.default_rng(0)
    targets = [unit(rng, 4).float(), unit(rng, 3).float()]
    targets[0][3] = torch.nan
    weights = [table({(0, 1): 1.0, (1, 2): 0.5}, 4), table({(2, 0): 0.25}, 3)]
    views = torch.tensor([(0, 1), (1, 0), (0, 3), (0, 0), (1, 2), (1, 1)])
    descriptors = unit(rng, 6).float().requires_grad_()
    loss = Distiller(targets, weights, factor=2.0).loss(descriptors, views)

    def square(view: int, source: int, image: int) -> float:
        return float((descriptors[view] - targets[source][image]).square().sum().detach())

    pairs = [(1.0, square(3, 0, 0) + square(0, 0, 1)), (0.25, square(4, 1, 2) + square(1, 1, 0))]
    expected = 2.0 * sum(w * squares for w, squares in pairs) / sum(2 * w for w, _ in pairs)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert descriptors.grad is not None
    assert torch.isfinite(descriptors.grad).all()
    assert (descriptors.grad[[2, 5]] == 0).all()  # no sample of theirs is in the batch


def test_a_batch_without_a_sample_teaches_nothing() -> None:
    targets, weights = [unit(np.random.default_rng(0), 4).float()], [table({(0, 1): 1.0}, 4)]
    loss = Distiller(targets, weights, 1.0).loss(
        unit(np.random.default_rng(1), 2).float(), torch.tensor([(0, 0), (0, 2)])
    )
    assert loss.item() == 0.0


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_turned_space_is_turned_back(seed: int) -> None:
    rng = np.random.default_rng(seed)
    onto = unit(rng, 20).numpy()
    turn, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    of = onto @ turn
    of[3] = np.nan
    found = best_rotation(of, onto)
    np.testing.assert_allclose(found @ found.T, np.eye(6), atol=1e-5)
    np.testing.assert_allclose((of @ found)[4:], onto[4:], atol=1e-5)


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ("all", [1, 1, 1, 1]),
        ("D1", [1, 0, 0, 0]),
        ("D2", [0, 1, 0, 0]),
        ("D3", [0, 0, 1, 0]),
        ("S1", [1, 1, 1, 0]),
        ("S2", [0, 0, 0, 1]),
        ("weighted", [1 - math.log(2) / math.log(11), 1.0, 1 - math.log(3) / math.log(11), 0]),
    ],
)
def test_what_each_selection_weighs(samples: str, expected: list[float]) -> None:
    d1_to_d4 = Samples(np.arange(4), np.arange(4), teacher=np.array([2, 1, 3, 11]), student=np.array([11, 2, 1, 1]))
    options = Distillation.model_validate({"teacher": "t", "samples": samples, "floor": 1.0})
    np.testing.assert_allclose(options.weigh(d1_to_d4), expected)


# --- with networks and files ------------------------------------------------------------------------------------------


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """Places whose label maps tell them apart, whatever the light."""
    plain = content(write_label_maps(write_places(tmp_path)))
    plain["sources"][0]["label_maps"] = LABEL_MAPS
    return Recipe.checked(plain, "tiny")


def networks(recipe: Recipe, folder: Path, **changes: Any) -> tuple[Path, PlaceNetwork, list[Source]]:
    teacher, student = write_teacher_and_student(recipe, folder, **changes)
    return teacher, load_network(student), open_sources(recipe.sources, recipe.data_root, recipe.cache)


def test_a_teacher_of_label_maps_is_prepared_once(recipe: Recipe, tmp_path: Path) -> None:
    teacher, student, sources = networks(recipe, tmp_path)
    prepared = Distillation(teacher=teacher, align=False).prepare(student, sources, seed=0)
    (found,) = prepared.samples
    assert len(found.query) == 18 * 2
    assert (found.teacher == 1).all()  # equal label maps have equal descriptors
    assert prepared.audit.teacher == prepared.audit.queries == 18
    assert prepared.shares.sum() == pytest.approx(1.0)
    assert "36 samples" in prepared.text()
    (target,) = prepared.distiller.targets
    shown = torch.from_numpy(np.stack([_clusters(sources[0], recipe, i) for i in range(18)]))
    with torch.no_grad():
        torch.testing.assert_close(target, load_network(teacher)(shown))


def _clusters(source: Source, recipe: Recipe, index: int) -> np.ndarray:
    assert source.images.label_maps
    labels = cv2.imread(str(source.images.label_maps.paths[index]), cv2.IMREAD_GRAYSCALE)
    lut = source.images.label_maps.tables[index].cluster_indices(
        ("building", "static", "vegetation", "ground", "sky", "dynamic")
    )
    return cv2.resize(lut[labels], (recipe.network.width, recipe.network.height), interpolation=cv2.INTER_NEAREST)


def test_the_control_teaches_the_wrong_images_with_the_same_weights(recipe: Recipe, tmp_path: Path) -> None:
    teacher, student, sources = networks(recipe, tmp_path)
    right, wrong = (
        Distillation(teacher=teacher, shuffled=shuffled, align=False).prepare(student, sources, seed=1).distiller
        for shuffled in (False, True)
    )
    assert not torch.equal(right.targets[0], wrong.targets[0])
    key = [(-1.0) ** np.arange(4) @ rows.numpy().T for rows in (right.targets[0], wrong.targets[0])]
    np.testing.assert_allclose(np.sort(key[0]), np.sort(key[1]), atol=1e-6)
    assert (right.weights[0] != wrong.weights[0]).nnz == 0


def test_a_teacher_that_knows_nothing_more_stops_training(recipe: Recipe, tmp_path: Path) -> None:
    teacher, _, sources = networks(recipe, tmp_path)
    student = load_network(teacher)
    with pytest.raises(TrainingError, match="solves none of the 0 queries that the student misses"):
        Distillation(teacher=teacher).prepare(student, sources, seed=0)


def test_a_teacher_of_another_size_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    teacher, student, sources = networks(recipe, tmp_path, dim=3)
    with pytest.raises(ConfigError, match="describes with 3 numbers and the student with 4"):
        Distillation(teacher=teacher).prepare(student, sources, seed=0)


def test_a_source_without_label_maps_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    teacher, student, _ = networks(recipe, tmp_path)
    bare = [entry.model_copy(update={"label_maps": None}) for entry in recipe.sources]
    with pytest.raises(ConfigError, match="has no label maps"):
        Distillation(teacher=teacher).prepare(student, open_sources(bare, recipe.data_root, recipe.cache), seed=0)
