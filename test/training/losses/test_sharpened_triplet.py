from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from small_batches import batches, labels, unit

from training.data.batch import Targets
from training.losses import AnyLoss, SharpenedTriplet, Triplet

laws = settings(deadline=None, max_examples=50)
versions = pytest.mark.parametrize("version", [1, 2])
QUERY, POSITIVE, NEGATIVE = 0, 1, 2
ONE = Targets(torch.ones(3, 3), torch.tensor([[QUERY, POSITIVE, NEGATIVE]]))
three = st.integers(0, 2**32 - 1).map(lambda seed: unit(np.random.default_rng(seed), 3, dim=3))


def test_the_defaults_are_those_of_the_published_script() -> None:
    loss = TypeAdapter(AnyLoss).validate_python({"kind": "sharpened_triplet"})
    assert loss == SharpenedTriplet(version=1, margin=0.1, pn_margin=1.4, reduction="mean")


@versions
@laws
@given(batch=batches())
def test_against_a_loop_over_the_triplets(batch: tuple[torch.Tensor, Targets], version: int) -> None:
    descriptors, targets = batch
    x, psi, every = descriptors.tolist(), targets.similarity, range(len(descriptors))
    losses = []
    for q in every:
        for p in every:
            for n in every:
                if q != p and psi[q, p] >= 0.5 and psi[q, n] == 0:
                    standard = math.dist(x[q], x[p]) + 0.2 - math.dist(x[q], x[n])
                    sharpening = 1.2 - math.dist(x[p], x[n])
                    losses.append(max(sharpening + (standard if version == 1 else 0), 0.0))
    found = {
        reduction: float(SharpenedTriplet(version=version, margin=0.2, pn_margin=1.2, reduction=reduction)(*batch))
        for reduction in ("mean", "sum")
    }
    assert found["sum"] == pytest.approx(sum(losses), abs=1e-6)
    assert found["mean"] == pytest.approx(float(np.mean(losses)) if losses else 0.0, abs=1e-7)


def test_only_the_mined_triplets_count_also_those_that_keep_their_margins() -> None:
    descriptors = unit(np.random.default_rng(0), 6)
    mined = torch.tensor([[0, 1, 2], [3, 4, 5], [4, 5, 0]])
    loss = SharpenedTriplet(pn_margin=1.3)
    alone = [float(loss(descriptors, Targets(torch.ones(6, 6), triplet[None]))) for triplet in mined]
    assert 0.0 in alone
    assert max(alone) > 0
    assert float(loss(descriptors, Targets(torch.ones(6, 6), mined))) == pytest.approx(np.mean(alone), abs=1e-9)


def test_the_sum_of_the_standard_loss_is_its_mean_times_the_triplets() -> None:
    descriptors = unit(np.random.default_rng(1), 6)
    targets = Targets(torch.ones(6, 6), torch.tensor([[0, 1, 2], [0, 1, 3], [4, 5, 0]]))
    mean, total = (float(Triplet(margin=1, reduction=reduction)(descriptors, targets)) for reduction in ("mean", "sum"))
    assert mean > 0
    assert total == pytest.approx(3 * mean)


@laws
@given(x=three)
def test_it_is_the_standard_loss_where_the_negative_keeps_its_distance_to_the_positive(x: torch.Tensor) -> None:
    away = math.dist(x[POSITIVE].tolist(), x[NEGATIVE].tolist())
    sharpened = SharpenedTriplet(pn_margin=away)(x, ONE)
    assert float(sharpened) == pytest.approx(float(Triplet()(x, ONE)), abs=1e-12)


@laws
@given(x=three)
def test_it_is_active_where_the_negative_is_too_near_to_both_together(x: torch.Tensor) -> None:
    q, p, n = x.tolist()
    active = math.dist(q, n) + math.dist(p, n) < math.dist(q, p) + 0.1 + 1.4
    assert (float(SharpenedTriplet()(x, ONE)) > 0) == active


@versions
@laws
@given(x=three)
def test_a_step_takes_the_negative_away_from_the_positive(x: torch.Tensor, version: int) -> None:
    x = x.requires_grad_()
    SharpenedTriplet(version=version, margin=2, pn_margin=2)(x, ONE).backward()
    assert x.grad is not None
    q, p, n = x.detach()
    step = -x.grad[NEGATIVE]
    expected = (n - p) / (n - p).norm() + (version == 1) * (n - q) / (n - q).norm()
    torch.testing.assert_close(step, expected)
    if version == 2:
        assert not x.grad[QUERY].any()


@versions
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_descriptors_that_coincide_have_finite_gradients(version: int, dtype: torch.dtype) -> None:
    for same in ([1, 1, 0], [1, 0, 1], [0, 1, 1], [1, 1, 1]):  # with the query, or positive and negative
        x = torch.eye(3, dtype=dtype)[same].requires_grad_()
        loss = SharpenedTriplet(version=version)(x, ONE)
        loss.backward()
        assert x.grad is not None
        assert loss.isfinite()
        assert x.grad.isfinite().all()


@versions
def test_without_a_triplet_it_is_zero_and_can_be_differentiated(version: int) -> None:
    x = unit(np.random.default_rng(2), 4).requires_grad_()
    loss = SharpenedTriplet(version=version)(x, labels(np.ones((4, 4))))
    loss.backward()
    assert loss.item() == 0
    assert x.grad is not None
    assert not x.grad.any()
