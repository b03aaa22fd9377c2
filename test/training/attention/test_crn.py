from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.signal import correlate

from training.attention.crn import LEAST_WEIGHT, Crn, CrnModule
from training.models.netvlad import NetVLAD
from vpr_ros.errors import ConfigError

SIZE = (6, 9)


def random_module() -> CrnModule:
    torch.manual_seed(0)
    module = Crn().build(4, SIZE).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    return module


def halved(plane: np.ndarray) -> np.ndarray:
    """Means of windows of 3 x 3, cut at the border, at every second position."""
    rows, columns = -(-(plane.shape[0] - 3) // 2) + 1, -(-(plane.shape[1] - 3) // 2) + 1
    found = np.zeros((rows, columns))
    for i in range(rows):
        for j in range(columns):
            found[i, j] = plane[2 * i : 2 * i + 3, 2 * j : 2 * j + 3].mean()
    return found


def upsampled(plane: np.ndarray) -> np.ndarray:
    """Bilinear between centres of pixels."""
    found = np.zeros(SIZE)
    for i in range(SIZE[0]):
        for j in range(SIZE[1]):
            y = np.clip((i + 0.5) * plane.shape[0] / SIZE[0] - 0.5, 0, plane.shape[0] - 1)
            x = np.clip((j + 0.5) * plane.shape[1] / SIZE[1] - 0.5, 0, plane.shape[1] - 1)
            for a in range(plane.shape[0]):
                for b in range(plane.shape[1]):
                    found[i, j] += max(1 - abs(y - a), 0) * max(1 - abs(x - b), 0) * plane[a, b]
    return found


def test_against_the_paper_with_loops() -> None:
    module, x = random_module(), torch.randn(2, 4, *SIZE, dtype=torch.float64)
    with torch.no_grad():
        features, weight, mask = module(x)
    w = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    for n, image in enumerate(x.numpy()):
        half = np.stack([halved(plane) for plane in image])
        context = []
        for i, radius in enumerate((1, 2, 3)):
            padded = np.pad(half, ((0, 0), (radius, radius), (radius, radius)))
            for filters, bias in zip(w[f"context.{i}.weight"], w[f"context.{i}.bias"], strict=True):
                context.append(np.maximum(correlate(padded, filters, mode="valid")[0] + bias, 0))
        accumulated = sum(w["accumulation.weight"][0, k, 0, 0] * plane for k, plane in enumerate(context))
        accumulated = np.maximum(accumulated + w["accumulation.bias"], 0)
        assert 0 < (accumulated == 0).mean() < 1
        expected = upsampled(accumulated) + LEAST_WEIGHT
        np.testing.assert_allclose(weight[n, 0].numpy(), expected, atol=1e-9)
        np.testing.assert_allclose(mask[n, 0].numpy(), expected / expected.max(), atol=1e-12)
    assert features is x


def test_where_nothing_fires_all_positions_count_the_same() -> None:
    module, x = random_module(), torch.randn(2, 4, *SIZE, dtype=torch.float64)
    with torch.no_grad():
        module.accumulation.weight.fill_(-1.0)
        module.accumulation.bias.fill_(-1.0)
    features, weight, mask = module(x)
    assert (weight == LEAST_WEIGHT).all()
    assert (mask == 1).all()
    pool = NetVLAD(clusters=3).build(4, SIZE).double()
    found = pool(features, weight)
    torch.testing.assert_close(found, pool(x))
    found[:, 0].sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in module.parameters())


@pytest.mark.parametrize("size", [(2, 2), (15, 20), (7, 2)])
def test_odd_and_small_maps(size: tuple[int, int]) -> None:
    assert Crn().build(3, size)(torch.randn(1, 3, *size)).weight.shape == (1, 1, *size)


def test_a_map_that_cannot_be_halved_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 2 x 2, it has 1 x 4: use larger images or an earlier last_block"):
        Crn().build(3, (1, 4))
