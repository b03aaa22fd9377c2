from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from training.models.whitening import pca_whitening
from vpr_ros.errors import ConfigError, TrainingError


def cloud(count: int, size: int, seed: int = 0) -> NDArray[np.float32]:
    """Correlated, of unequal variance, away from the origin."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(size, size)) * rng.uniform(0.1, 2, size)
    return (rng.normal(size=(count, size)) @ mixing + rng.normal(size=size)).astype(np.float32)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 1000), size=st.integers(2, 12), data=st.data())
def test_the_covariance_becomes_the_identity(seed: int, size: int, data: st.DataObject) -> None:
    dim = data.draw(st.integers(1, size))
    x = cloud(40, size, seed)
    weight, bias = pca_whitening(x, dim)
    y = x @ weight.T + bias
    np.testing.assert_allclose(y.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(y.T @ y / len(y), np.eye(dim), atol=1e-4)


@pytest.mark.parametrize(("count", "size"), [(100, 20), (15, 40)])  # more images than dimensions, and fewer
@pytest.mark.parametrize("power", [0.5, 0.3])
def test_against_the_eigenvectors_of_the_covariance(count: int, size: int, power: float) -> None:
    x = cloud(count, size).astype(np.float64)
    weight, bias = pca_whitening(x, 10, power)
    centred = x - x.mean(axis=0)
    values, vectors = np.linalg.eigh(centred.T @ centred / count)
    for i in range(10):
        expected = values[-1 - i] ** -power * vectors[:, -1 - i]
        np.testing.assert_allclose(weight[i] * np.sign(weight[i] @ expected), expected, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(bias, -weight @ x.mean(axis=0))


def test_without_power_it_only_rotates() -> None:
    x = cloud(50, 8)
    weight, bias = pca_whitening(x, 8, power=0)
    np.testing.assert_allclose(weight @ weight.T, np.eye(8), atol=1e-12)
    y = x @ weight.T + bias
    distances = [np.linalg.norm(each[:, None] - each[None], axis=2) for each in (x, y)]
    np.testing.assert_allclose(*distances, atol=1e-5)


def test_directions_without_variance_are_not_blown_up() -> None:
    x = cloud(50, 8)
    x[:, 3] = 0.25
    weight, _ = pca_whitening(x, 8)
    largest = np.linalg.norm(weight, axis=1)[0]
    assert np.linalg.norm(weight, axis=1)[-1] == pytest.approx(largest * 1e9**0.5, rel=1e-3)


def test_the_input_stays_as_it_was() -> None:
    x = cloud(50, 8).astype(np.float64)
    before = x.copy()
    pca_whitening(x, 4)
    np.testing.assert_array_equal(x, before)


def test_what_cannot_be_whitened_is_refused() -> None:
    x = cloud(10, 8)
    with pytest.raises(ConfigError, match=r"cannot make 9 dimensions of 8; lower network\.dim"):
        pca_whitening(x, 9)
    with pytest.raises(ConfigError, match="to 8 dimensions needs more than 8 images, got 8"):
        pca_whitening(x[:8], 8)
    with pytest.raises(TrainingError, match="all 10 descriptors are the same"):
        pca_whitening(np.broadcast_to(x[:1], x.shape), 4)
    x[3, 5] = np.nan
    with pytest.raises(TrainingError, match="not finite"):
        pca_whitening(x, 4)
