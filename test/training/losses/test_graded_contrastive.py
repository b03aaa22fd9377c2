from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from small_batches import NO_TRIPLETS, batches, labels, unit

from training.data.batch import Targets
from training.losses import AnyLoss, Contrastive, GradedContrastive, MultiSimilarity, Triplet
from training.losses.graded_contrastive import graded_contrastive

psis = st.floats(0.0, 1.0)
margins = st.floats(0.1, 1.5)
laws = settings(deadline=None, max_examples=50)
EVERY_LOSS = [
    GradedContrastive(),
    GradedContrastive(average="pairs"),
    Contrastive(),
    Contrastive(average="pairs"),
    Triplet(),
    MultiSimilarity(),
    MultiSimilarity(miner_epsilon=None),
]
every_loss = pytest.mark.parametrize("loss", EVERY_LOSS, ids=str)


def value(distance: float, psi: float, margin: float) -> float:
    return float(graded_contrastive(torch.tensor(distance), torch.tensor(psi), margin))


def test_the_values_of_the_specification() -> None:
    assert value(0.0, 1.0, 0.5) == 0.0
    assert value(0.0, 0.0, 0.5) == pytest.approx(0.125)


@laws
@given(st.floats(0.0, 2.0), psis, margins)
def test_against_the_formula(distance: float, psi: float, margin: float) -> None:
    expected = psi * distance**2 / 2 + (1 - psi) * max(margin - distance, 0.0) ** 2 / 2
    assert value(distance, psi, margin) == pytest.approx(expected, abs=1e-6)


@laws
@given(psis, margins)
def test_it_rests_at_margin_times_one_minus_psi(psi: float, margin: float) -> None:
    distance = torch.tensor(margin * (1 - psi), dtype=torch.float64, requires_grad=True)
    graded_contrastive(distance, torch.tensor(psi, dtype=torch.float64), margin).backward()
    assert distance.grad is not None
    assert abs(float(distance.grad)) < 1e-9


@laws
@given(psis, margins)
def test_it_is_continuous_at_the_margin(psi: float, margin: float) -> None:
    assert value(margin - 1e-6, psi, margin) == pytest.approx(value(margin + 1e-6, psi, margin), abs=1e-5)


@laws
@given(batches(), st.sampled_from(["kinds", "pairs"]))
def test_a_batch_against_a_loop_over_its_pairs(batch: tuple[torch.Tensor, Targets], average: str) -> None:
    descriptors, targets = batch
    positive, soft, unrelated = [], [], []
    for i in range(len(descriptors)):
        for j in range(i + 1, len(descriptors)):
            psi, distance = float(targets.similarity[i, j]), math.dist(descriptors[i].tolist(), descriptors[j].tolist())
            loss = psi * distance**2 / 2 + (1 - psi) * max(0.8 - distance, 0.0) ** 2 / 2
            if psi >= 0.5:
                positive.append(loss)
            elif psi > 0:
                soft.append(loss)
            elif psi == 0:
                unrelated.append(loss)
    if average == "pairs":
        expected = np.mean(positive + soft + unrelated) if positive + soft + unrelated else 0.0
    else:
        kinds = ((0.5, positive), (0.25, soft), (0.25, unrelated))
        expected = sum(share * np.mean(losses) for share, losses in kinds if losses)
    loss_of_batch = GradedContrastive(margin=0.8, average=average)(descriptors, targets)
    assert float(loss_of_batch) == pytest.approx(float(expected), abs=1e-7)


def test_pairs_that_are_almost_equal_keep_their_digits() -> None:
    a = unit(np.random.default_rng(0), 1).float()
    b = torch.nn.functional.normalize(a + 1e-5 * unit(np.random.default_rng(1), 1).float())
    loss = GradedContrastive(average="pairs")(torch.cat([a, b]), labels(np.ones((2, 2))))
    assert float(loss) == pytest.approx(float((a.double() - b.double()).square().sum() / 2), rel=1e-3)


# What every loss keeps


@every_loss
@laws
@given(batch=batches())
def test_value_and_gradient_are_finite(loss: AnyLoss, batch: tuple[torch.Tensor, Targets]) -> None:
    """A NaN that is masked after the loss still poisons the gradient: the bug that our first run met."""
    descriptors = batch[0].requires_grad_()
    result = loss(descriptors, batch[1])
    result.backward()
    assert result.shape == ()
    assert result.item() >= 0
    assert descriptors.grad is not None
    assert torch.isfinite(descriptors.grad).all()


@every_loss
@laws
@given(batch=batches(), seed=st.integers(0, 100))
def test_the_order_of_the_batch_does_not_matter(loss: AnyLoss, batch: tuple[torch.Tensor, Targets], seed: int) -> None:
    descriptors, targets = batch
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(descriptors)))
    permuted = Targets(targets.similarity[order][:, order], NO_TRIPLETS)
    assert float(loss(descriptors[order], permuted)) == pytest.approx(float(loss(descriptors, targets)), abs=1e-9)


@pytest.mark.parametrize("loss", EVERY_LOSS[:5], ids=str)  # multi-similarity is a mean over images: one more divides it
@laws
@given(batch=batches())
def test_an_image_of_which_nothing_is_known_changes_nothing(loss: AnyLoss, batch: tuple[torch.Tensor, Targets]) -> None:
    descriptors, targets = batch
    count = len(descriptors) + 1
    psi = torch.full((count, count), torch.nan).fill_diagonal_(1.0)
    psi[1:, 1:] = targets.similarity
    more = torch.cat([unit(np.random.default_rng(0), 1), descriptors]).requires_grad_()
    result = loss(more, labels(psi))
    result.backward()
    assert result.item() == pytest.approx(float(loss(descriptors, targets)), abs=1e-9)
    assert more.grad is not None
    assert not more.grad[0].any()


@every_loss
def test_a_batch_without_a_known_pair_is_zero_and_can_be_differentiated(loss: AnyLoss) -> None:
    descriptors = unit(np.random.default_rng(0), 4).requires_grad_()
    result = loss(descriptors, labels(np.where(np.eye(4), 1.0, np.nan)))
    result.backward()
    assert result.item() == 0.0
    assert descriptors.grad is not None
    assert not descriptors.grad.any()


@every_loss
def test_equal_descriptors_have_a_finite_gradient(loss: AnyLoss) -> None:
    """A square root has an infinite slope at 0, and a network that has collapsed is there."""
    descriptors = unit(np.random.default_rng(0), 1).repeat(4, 1).requires_grad_()
    loss(descriptors, labels(np.kron(np.eye(2), np.ones((2, 2))))).backward()
    assert descriptors.grad is not None
    assert torch.isfinite(descriptors.grad).all()


@every_loss
def test_mixed_precision_does_not_round_the_loss(loss: AnyLoss) -> None:
    rng = np.random.default_rng(0)
    descriptors, targets = unit(rng, 30).float(), labels(np.kron(np.eye(10), np.ones((3, 3))))
    with torch.autocast("cpu", torch.bfloat16):
        rounded = loss(descriptors, targets)
    assert rounded.dtype == torch.float32
    assert rounded.item() == loss(descriptors, targets).item()


@every_loss
def test_a_recipe_chooses_a_loss_by_its_kind(loss: AnyLoss) -> None:
    assert TypeAdapter(AnyLoss).validate_python(loss.model_dump()) == loss


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"kind": "graded"}, "does not match any of the expected tags"),
        ({"kind": "triplet", "margin": 0}, r"triplet\.margin\n.*greater than 0"),
        ({"kind": "contrastive", "margin": 2.5}, r"contrastive\.margin\n.*less than or equal to 2"),
        ({"kind": "triplet", "tau": 1}, r"triplet\.tau\n.*not permitted"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(recipe: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(AnyLoss).validate_python(recipe)
