from __future__ import annotations

import numpy as np
import torch

from training.models.mixvpr import MixVPR


def test_against_the_paper_with_loops() -> None:
    torch.manual_seed(0)
    pool = MixVPR(depth=2, channels=3, rows=2).build(5, (2, 3)).double()
    with torch.no_grad():
        for parameter in pool.parameters():
            parameter.normal_()
    w = {name: tensor.numpy() for name, tensor in pool.state_dict().items()}
    image = torch.randn(5, 2, 3, dtype=torch.float64)
    x = image.numpy().reshape(5, 6)
    for layer in range(2):
        mixed = np.zeros_like(x)
        for c in range(5):
            row = (x[c] - x[c].mean()) / np.sqrt(x[c].var() + 1e-5)
            row = row * w[f"mixers.{layer}.norm.weight"] + w[f"mixers.{layer}.norm.bias"]
            hidden = np.maximum(w[f"mixers.{layer}.first.weight"] @ row + w[f"mixers.{layer}.first.bias"], 0)
            mixed[c] = x[c] + w[f"mixers.{layer}.second.weight"] @ hidden + w[f"mixers.{layer}.second.bias"]
        x = mixed
    x = w["project_channels.weight"][:, :, 0] @ x + w["project_channels.bias"][:, None]
    x = x @ w["project_positions.weight"].T + w["project_positions.bias"]
    with torch.no_grad():
        np.testing.assert_allclose(pool(image[None])[0].numpy(), x.ravel(), atol=1e-10)


def test_mixing_starts_as_nothing() -> None:
    pool, x = MixVPR().build(8, (3, 4)), torch.randn(2, 8, 12)
    assert torch.equal(pool.mixers(x), x)


def test_the_paper_has_4096_dimensions() -> None:
    pool = MixVPR().build(1024, (20, 20))
    assert pool.dim == 4096
    assert pool(torch.rand(1, 1024, 20, 20)).shape == (1, 4096)


def test_every_parameter_learns_after_the_first_step() -> None:
    pool = MixVPR(depth=2, channels=3, rows=2).build(5, (2, 3))
    optimiser, x = torch.optim.SGD(pool.parameters(), 0.1), torch.randn(4, 5, 2, 3)
    for _ in range(2):
        optimiser.zero_grad()
        pool(x).square().sum().backward()
        optimiser.step()
    assert all(parameter.grad.abs().sum() > 0 for parameter in pool.parameters())


def test_a_weight_is_of_the_map_before_it_is_mixed() -> None:
    torch.manual_seed(0)
    pool, x, weight = MixVPR(channels=3, rows=2).build(5, (2, 3)), torch.randn(4, 5, 2, 3), torch.rand(4, 1, 2, 3)
    assert torch.equal(pool(x, torch.ones_like(weight)), pool(x))
    assert torch.equal(pool(x, weight), pool(x * weight))
    assert not torch.allclose(pool(x, weight), pool(x))
