from __future__ import annotations

import numpy as np
import pytest
import torch

from training.models.salad import SINKHORN_STEPS, Salad, transport
from vpr_ros.errors import ConfigError


def test_transport_against_sinkhorn_with_loops() -> None:
    torch.manual_seed(0)
    clusters, positions = 3, 7
    scores, dustbin = torch.randn(2, clusters, positions), torch.tensor(0.7)
    for n in range(2):
        mass = np.exp(np.vstack([scores[n].double().numpy(), np.full((1, positions), 0.7)]))
        wanted = [1.0] * clusters + [positions - clusters]
        for _ in range(SINKHORN_STEPS):
            for k in range(clusters + 1):
                mass[k] *= wanted[k] / mass[k].sum()
            for i in range(positions):
                mass[:, i] /= mass[:, i].sum()
        np.testing.assert_allclose(transport(scores, dustbin)[n].numpy(), mass[:clusters], rtol=1e-4)


def test_each_position_gives_one_and_each_cluster_takes_about_one() -> None:
    torch.manual_seed(0)
    shares = transport(torch.randn(2, 8, 50), torch.tensor(1.0))
    assert (shares > 0).all()
    assert (shares.sum(dim=1) < 1).all()  # the dustbin has the rest
    torch.testing.assert_close(shares.sum(dim=2), torch.ones(2, 8), atol=0.05, rtol=0)


def test_unit_length_wherever_the_features_are() -> None:
    torch.manual_seed(0)
    pool, x = Salad(clusters=4, cluster_dim=6, scene_dim=5).build(7, (3, 4)), torch.randn(2, 7, 3, 4)
    with torch.no_grad():
        found, moved = pool(x), pool(x.flip(3))
    assert found.shape == (2, pool.dim) == (2, 29)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(found, moved)


def test_the_paper_has_8448_dimensions() -> None:
    assert Salad().build(768, (16, 16)).dim == 8448


def test_everything_learns() -> None:
    pool = Salad(clusters=4, cluster_dim=6, scene_dim=5).build(7, (3, 4))
    pool(torch.randn(2, 7, 3, 4))[:, 0].sum().backward()
    assert all(parameter.grad is not None for parameter in pool.parameters())
    assert pool.dustbin.grad != 0


def test_a_map_without_room_for_the_dustbin_is_refused() -> None:
    with pytest.raises(ConfigError, match="more positions than its 64 clusters, the feature map has 8 x 8"):
        Salad().build(512, (8, 8))


def test_a_weight_is_of_what_positions_give() -> None:
    torch.manual_seed(0)
    pool, x = Salad(clusters=4, cluster_dim=6, scene_dim=5).build(7, (3, 4)), torch.randn(2, 7, 3, 4)
    weight = torch.rand(2, 1, 3, 4)
    with torch.no_grad():
        assert torch.equal(pool(x, torch.ones_like(weight)), pool(x))
        found, local = pool(x, weight).numpy(), pool.features(x).flatten(2).numpy()
        shares = transport(pool.scores(x).flatten(2), pool.dustbin).numpy()
        scene = pool.scene((x * weight).mean(dim=(2, 3), keepdim=True))[:, :, 0, 0].numpy()
    for n in range(2):
        vectors = []
        for k in range(4):
            given = np.zeros(6)
            for i, counts in enumerate(weight[n].flatten().tolist()):
                given += counts * shares[n, k, i] * local[n, :, i]
            vectors.append(given / np.linalg.norm(given))
        expected = np.concatenate([*vectors, scene[n] / np.linalg.norm(scene[n])])
        np.testing.assert_allclose(found[n], expected / np.linalg.norm(expected), atol=1e-6)
