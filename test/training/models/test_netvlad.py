from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor
from torch.nn import functional

from training.models.netvlad import NetVLAD, NetVLADPooling, sample_local_descriptors
from vpr_ros.errors import ConfigError, TrainingError

SIZE = (3, 4)
feature_maps = arrays(np.float32, (2, 5, *SIZE), elements=st.floats(-10, 10, width=32)).map(torch.from_numpy)
seeds = st.integers(0, 2**32 - 1)


def pooling(clusters: int, channels: int) -> NetVLADPooling:
    torch.manual_seed(0)
    return NetVLAD(clusters=clusters).build(channels, SIZE)


def random_maps(seed: int) -> tuple[Tensor, Tensor]:
    """Features and weights of two images."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(2, 5, *SIZE, generator=generator, dtype=torch.float64)
    return features, 0.01 + torch.rand(2, 1, *SIZE, generator=generator, dtype=torch.float64)


def slow_netvlad(x: np.ndarray, weight: np.ndarray, assignment: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """One (C, h, w) map, equations 1 to 4 of the paper with loops; weights (h, w) of its residuals."""
    clusters, channels = centres.shape
    vlad = np.zeros((clusters, channels))
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            local = x[:, i, j] / np.linalg.norm(x[:, i, j])
            scores = [float(assignment[k] @ local) for k in range(clusters)]
            shares = [np.exp(score) / sum(np.exp(other) for other in scores) for score in scores]
            for k in range(clusters):
                vlad[k] += weight[i, j] * shares[k] * (local - centres[k])
    for k in range(clusters):
        vlad[k] /= np.linalg.norm(vlad[k])
    return vlad.ravel() / np.linalg.norm(vlad)


def test_against_the_paper_with_loops() -> None:
    pool, (x, weight) = pooling(6, 5).double(), random_maps(0)
    with torch.no_grad():
        pool.assignment.weight.mul_(10)  # far from even shares
        assignment, centres = pool.assignment.weight[:, :, 0, 0].numpy(), pool.centres.numpy()
        for weights in (None, weight):
            counts = np.ones((2, *SIZE)) if weights is None else weights[:, 0].numpy()
            expected = [slow_netvlad(*each, assignment, centres) for each in zip(x.numpy(), counts, strict=True)]
            np.testing.assert_allclose(pool(x, weights).numpy(), expected, atol=1e-12)


@settings(deadline=None, max_examples=50)
@given(x=feature_maps, order=st.permutations(range(12)))
def test_unit_length_wherever_the_features_are(x: Tensor, order: list[int]) -> None:
    pool = pooling(4, 5)
    with torch.no_grad():
        found, moved = pool(x), pool(x.flatten(2)[:, :, order].unflatten(2, SIZE))
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(moved, found, atol=1e-4, rtol=0)


@settings(deadline=None, max_examples=50)
@given(x=feature_maps)
def test_weights_of_one_are_none(x: Tensor) -> None:
    pool = pooling(4, 5)
    assert torch.equal(pool(x, torch.ones(2, 1, *SIZE)), pool(x))


@settings(deadline=None, max_examples=50)
@given(seed=seeds, scale=st.floats(0.01, 100))
def test_only_ratios_of_weights_matter(seed: int, scale: float) -> None:
    pool, (x, weight) = pooling(4, 5).double(), random_maps(seed)
    torch.testing.assert_close(pool(x, scale * weight), pool(x, weight))


@settings(deadline=None, max_examples=50)
@given(seed=seeds, column=st.integers(1, SIZE[1] - 1))
def test_what_weighs_nothing_is_not_there(seed: int, column: int) -> None:
    pool, (x, weight) = pooling(4, 5).double(), random_maps(seed)
    weight[..., column:] = 0
    torch.testing.assert_close(pool(x, weight), pool(x[..., :column], weight[..., :column]))


@settings(deadline=None, max_examples=50)
@given(seed=seeds)
def test_a_mask_multiplied_into_the_features_cancels(seed: int) -> None:
    pool, (x, weight) = pooling(4, 5).double(), random_maps(seed)
    torch.testing.assert_close(pool(x * weight), pool(x))
    assert not torch.allclose(pool(x, weight), pool(x))  # why the weight is an argument


def test_an_image_that_weighs_nothing_has_no_descriptor() -> None:
    pool, (x, weight) = pooling(4, 5).double(), random_maps(0)
    assert (pool(x, 0 * weight) == 0).all()


def test_the_literature_has_32768_dimensions() -> None:
    assert NetVLAD().build(512, (30, 40)).dim == 32768


def around(directions: Tensor, each: int) -> Tensor:
    torch.manual_seed(1)
    noisy = directions.repeat_interleave(each, dim=0) + 0.03 * torch.randn(len(directions) * each, directions.shape[1])
    return 5.0 * noisy  # their length must not matter


def test_k_means_finds_the_clusters() -> None:
    directions = torch.eye(8)[:4]
    pool = pooling(4, 8)
    pool.initialise(around(directions, 50))
    nearest = (pool.centres @ directions.T).argmax(dim=1)
    assert sorted(nearest.tolist()) == [0, 1, 2, 3]
    torch.testing.assert_close(pool.centres.detach(), directions[nearest], atol=0.05, rtol=0)


def test_the_second_cluster_gets_one_percent_of_the_first() -> None:
    locals_ = functional.normalize(around(functional.normalize(torch.randn(4, 8), dim=1), 50), dim=1)
    pool = pooling(4, 8)
    pool.initialise(locals_)
    with torch.no_grad():
        scores = pool.assignment(locals_[:, :, None, None])[:, :, 0, 0].sort(dim=1, descending=True).values
    assert (scores[:, 0] - scores[:, 1]).mean().exp().item() == pytest.approx(100, rel=1e-3)
    weights, centres = pool.assignment.weight[:, :, 0, 0], pool.centres
    torch.testing.assert_close(functional.normalize(weights, dim=1), functional.normalize(centres, dim=1))


def test_initialisation_repeats_with_its_seed() -> None:
    found = []
    for seed in (1, 1, 2):
        pool = pooling(4, 8)
        pool.initialise(torch.randn(100, 8, generator=torch.Generator().manual_seed(0)), seed)
        found.append(pool.centres.detach())
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_too_few_or_equal_descriptors_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 64 local descriptors to find its clusters, got 63"):
        pooling(64, 8).initialise(torch.randn(63, 8))
    with pytest.raises(TrainingError, match="all local descriptors are the same"):
        pooling(4, 8).initialise(torch.ones(100, 8))


def test_local_descriptors_are_drawn_from_every_image() -> None:
    image = torch.arange(5.0)[:, None, None].expand(5, 4, 6)
    position = torch.arange(24.0).reshape(1, 4, 6).expand(5, 4, 6)
    batches = [torch.stack([image, position], dim=1)[:3], torch.stack([image, position], dim=1)[3:]]  # (N, 2, 4, 6)
    found = sample_local_descriptors(batches, per_image=10, seed=3)
    assert found.shape == (50, 2)
    assert found[:, 0].tolist() == [i for i in range(5) for _ in range(10)]
    drawn = [tuple(found[found[:, 0] == i, 1].tolist()) for i in range(5)]
    assert all(len(set(positions)) == 10 for positions in drawn)  # without repetition
    assert len(set(drawn)) == 5
    assert torch.equal(found, sample_local_descriptors(batches, per_image=10, seed=3))
    assert not torch.equal(found, sample_local_descriptors(batches, per_image=10, seed=4))
    assert len(sample_local_descriptors(batches, per_image=100)) == 5 * 24
