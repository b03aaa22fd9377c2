from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.losses.graded_contrastive import graded_contrastive, graded_contrastive_batch

shares = st.floats(0.0, 1.0)
margins = st.floats(0.1, 1.5)


def loss(distance: float, psi: float, margin: float) -> float:
    return float(graded_contrastive(torch.tensor(distance), torch.tensor(psi), margin))


def test_the_values_of_the_specification() -> None:
    assert loss(0.0, 1.0, 0.5) == 0.0
    assert loss(0.0, 0.0, 0.5) == pytest.approx(0.125)


@given(st.floats(0.0, 2.0), shares, margins)
def test_against_the_formula(distance: float, psi: float, margin: float) -> None:
    expected = psi * distance**2 / 2 + (1 - psi) * max(margin - distance, 0.0) ** 2 / 2
    assert loss(distance, psi, margin) == pytest.approx(expected, abs=1e-6)


@given(shares, margins)
def test_it_rests_at_margin_times_one_minus_psi(psi: float, margin: float) -> None:
    distance = torch.tensor(margin * (1 - psi), dtype=torch.float64, requires_grad=True)
    graded_contrastive(distance, torch.tensor(psi, dtype=torch.float64), margin).backward()
    assert distance.grad is not None
    assert abs(float(distance.grad)) < 1e-9


@given(shares, margins)
def test_it_is_continuous_at_the_margin(psi: float, margin: float) -> None:
    assert loss(margin - 1e-6, psi, margin) == pytest.approx(loss(margin + 1e-6, psi, margin), abs=1e-5)


def unit(seed: int, count: int) -> torch.Tensor:
    x = torch.from_numpy(np.random.default_rng(seed).normal(size=(count, 6)))
    return x / x.norm(dim=1, keepdim=True)


def random_psi(seed: int, count: int) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    psi = rng.choice([0.0, 0.3, 0.7, 1.0, np.nan], size=(count, count))
    return torch.from_numpy(np.triu(psi, 1) + np.triu(psi, 1).T + np.eye(count))


@given(st.integers(0, 1000), st.integers(2, 8))
def test_the_batch_against_a_loop_over_pairs(seed: int, count: int) -> None:
    descriptors, psi = unit(seed, count), random_psi(seed, count)
    kinds: dict[float, list[float]] = {0.5: [], 0.25: [], 0.2500001: []}
    for i in range(count):
        for j in range(i + 1, count):
            p = float(psi[i, j])
            if np.isnan(p):
                continue
            kind = 0.5 if p >= 0.5 else 0.25 if p > 0 else 0.2500001
            kinds[kind].append(loss(float((descriptors[i] - descriptors[j]).norm()), p, 0.8))
    known = {share: values for share, values in kinds.items() if values}
    if not known:
        return
    expected = sum(round(share, 2) * float(np.mean(values)) for share, values in known.items())
    assert float(graded_contrastive_batch(descriptors, psi, 0.8)) == pytest.approx(expected, abs=1e-5)


def test_unknown_pairs_leave_no_trace_in_the_gradient() -> None:
    """A masked NaN still poisons the gradient if it is masked after the loss: the bug that our first run met."""
    psi = torch.tensor([[1.0, 0.0, float("nan")], [0.0, 1.0, 0.4], [float("nan"), 0.4, 1.0]], dtype=torch.float64)
    descriptors = unit(0, 3).requires_grad_()
    graded_contrastive_batch(descriptors, psi, 1.0).backward()
    assert descriptors.grad is not None
    assert torch.isfinite(descriptors.grad).all()


def test_equal_descriptors_have_a_finite_gradient() -> None:
    descriptors = unit(0, 1).repeat(2, 1).requires_grad_()
    graded_contrastive_batch(descriptors, torch.zeros(2, 2, dtype=torch.float64), 1.0).backward()
    assert descriptors.grad is not None
    assert torch.isfinite(descriptors.grad).all()
