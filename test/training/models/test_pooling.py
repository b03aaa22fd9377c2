from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional

from training.models.pooling import Average, GeM, Max
from vpr_ros.errors import ConfigError

SIZE = (3, 4)
feature_maps = arrays(np.float64, (2, 5, *SIZE), elements=st.floats(0.01, 10)).map(torch.from_numpy)
weight_maps = arrays(np.float64, (2, 1, *SIZE), elements=st.floats(0.01, 10)).map(torch.from_numpy)
powers = st.floats(1.0, 8.0)
poolings = pytest.mark.parametrize("options", [Average(), Max(), GeM(), GeM(rows=2, columns=3)], ids=repr)


def gem(x: Tensor, p: float) -> Tensor:
    with torch.no_grad():
        return GeM(p=p).build(x.shape[1], SIZE).double()(x)


def test_gem_against_the_formula() -> None:
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    x[0, 0] = -1.0  # a channel that a ReLU would have put out
    expected = np.zeros((2, 3))
    for n in range(2):
        for c in range(3):
            total = 0.0
            for i in range(4):
                for j in range(5):
                    total += max(float(x[n, c, i, j]), 1e-6) ** 2.5
            expected[n, c] = (total / 20) ** (1 / 2.5)
    np.testing.assert_allclose(gem(x, 2.5).numpy(), expected, rtol=1e-6)


def test_average_and_max_against_numpy() -> None:
    x = torch.randn(2, 3, 4, 5)
    np.testing.assert_allclose(Average().build(3, (4, 5))(x), x.numpy().mean(axis=(2, 3)), atol=1e-6)
    np.testing.assert_array_equal(Max().build(3, (4, 5))(x), x.numpy().max(axis=(2, 3)))


@settings(deadline=None, max_examples=50)
@given(x=feature_maps, p=powers)
def test_gem_lies_between_mean_and_max_and_grows_with_p(x: Tensor, p: float) -> None:
    mean, found, above, maximum = x.mean(dim=(2, 3)), gem(x, p), gem(x, p + 1), x.amax(dim=(2, 3))
    slack = 1 + 1e-6  # p is a float32
    assert (mean <= found * slack).all()
    assert (found <= above * slack).all()
    assert (above <= maximum * slack).all()


@settings(deadline=None, max_examples=50)
@given(x=feature_maps)
def test_gem_of_one_is_the_average(x: Tensor) -> None:
    torch.testing.assert_close(gem(x, 1.0), x.mean(dim=(2, 3)))


@settings(deadline=None, max_examples=50)
@given(x=feature_maps, p=powers, scale=st.floats(0.1, 10))
def test_gem_scales_with_its_input(x: Tensor, p: float, scale: float) -> None:
    torch.testing.assert_close(gem(x * scale, p), gem(x, p) * scale, rtol=1e-6, atol=0)


@settings(deadline=None, max_examples=50)
@given(x=feature_maps, order=st.permutations(range(12)))
def test_where_a_feature_is_does_not_matter(x: Tensor, order: list[int]) -> None:
    moved = x.flatten(2)[:, :, order].unflatten(2, SIZE)
    for options in (Average(), Max(), GeM()):
        pool = options.build(5, SIZE).double()
        torch.testing.assert_close(pool(moved), pool(x))


def test_gem_learns_its_power() -> None:
    pool = GeM().build(3, SIZE)
    assert pool.p.item() == 3.0
    pool(torch.rand(2, 3, *SIZE)).sum().backward()
    assert pool.p.grad is not None
    assert pool.p.grad > 0  # a larger power gives a larger mean
    pool.zero_grad()
    pool(torch.zeros(2, 3, *SIZE)).sum().backward()  # eps keeps the slope at 0 finite
    assert torch.isfinite(pool.p.grad)


@pytest.mark.parametrize("options", [Average(), Max(), GeM()])
def test_one_value_per_channel(options: Average | Max | GeM) -> None:
    pool = options.build(7, SIZE)
    assert pool.dim == 7
    assert pool(torch.rand(2, 7, *SIZE)).shape == (2, 7)


def test_a_power_that_is_no_mean_is_refused() -> None:
    with pytest.raises(ValidationError, match="greater than 0"):
        GeM(p=0)


@settings(deadline=None, max_examples=50)
@given(x=feature_maps, rows=st.integers(1, 3), columns=st.integers(1, 4))
def test_a_grid_pools_each_cell_by_itself(x: Tensor, rows: int, columns: int) -> None:
    found = GeM(rows=rows, columns=columns).build(5, SIZE).double()(x)
    if rows * columns == 1:
        torch.testing.assert_close(found, gem(x, 3.0))
        return
    cells = found.detach().unflatten(1, (rows * columns, 5))
    for i in range(rows):
        for j in range(columns):
            cut = x[:, :, SIZE[0] * i // rows : SIZE[0] * (i + 1) // rows, SIZE[1] * j // columns :]
            cut = cut[..., : SIZE[1] * (j + 1) // columns - SIZE[1] * j // columns]
            expected = gem(cut, 3.0)
            torch.testing.assert_close(cells[:, i * columns + j], expected / expected.norm(dim=1, keepdim=True))


def test_a_grid_finer_than_the_map_is_refused() -> None:
    with pytest.raises(ConfigError, match="a 4 x 1 grid does not fit a 3 x 4 feature map"):
        GeM(rows=4).build(5, SIZE)


# --- weights of attention ---------------------------------------------------------------------------------------------


@poolings
@settings(deadline=None, max_examples=50)
@given(x=feature_maps)
def test_weights_of_one_are_none(options: Average | Max | GeM, x: Tensor) -> None:
    pool = options.build(5, SIZE).double()
    assert torch.equal(pool(x, torch.ones(2, 1, *SIZE, dtype=torch.float64)), pool(x))


@poolings
@settings(deadline=None, max_examples=50)
@given(x=feature_maps, weight=weight_maps, scale=st.floats(0.1, 10))
def test_only_ratios_of_weights_turn_the_descriptor(
    options: Average | Max | GeM, x: Tensor, weight: Tensor, scale: float
) -> None:
    pool = options.build(5, SIZE).double()
    found, scaled = (functional.normalize(pool(x, w), dim=1) for w in (weight, scale * weight))
    torch.testing.assert_close(scaled, found)


def test_gem_weighs_before_the_power() -> None:
    torch.manual_seed(0)
    x, weight = torch.rand(1, 2, *SIZE, dtype=torch.float64), torch.rand(1, 1, *SIZE, dtype=torch.float64)
    found = GeM(p=2.5).build(2, SIZE).double()(x, weight)[0]
    for c in range(2):
        total = 0.0
        for i in range(3):
            for j in range(4):
                total += max(float(x[0, c, i, j] * weight[0, 0, i, j]), 1e-6) ** 2.5
        assert found[c].item() == pytest.approx((total / 12) ** (1 / 2.5))


def test_average_and_max_of_a_weighted_map() -> None:
    x, weight = torch.tensor([[[[2.0, 4.0], [6.0, -8.0]]]]), torch.tensor([[[[1.0, 2.0], [0.0, 0.5]]]])
    assert Average().build(1, (2, 2))(x, weight).item() == (2 + 8 + 0 - 4) / 4
    assert Max().build(1, (2, 2))(x, weight).item() == 8
