from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_batches import batches, labels

from training.data.batch import Targets
from training.losses import Contrastive, GradedContrastive

laws = settings(deadline=None, max_examples=50)
averages = st.sampled_from(["kinds", "pairs"])


@laws
@given(batches(), averages)
def test_against_a_loop_over_the_pairs(batch: tuple[torch.Tensor, Targets], average: str) -> None:
    descriptors, targets = batch
    positive, negative = [], []
    for i in range(len(descriptors)):
        for j in range(i + 1, len(descriptors)):
            psi, distance = float(targets.similarity[i, j]), math.dist(descriptors[i].tolist(), descriptors[j].tolist())
            if psi >= 0.5:
                positive.append(distance**2 / 2)
            elif psi < 0.5:  # soft negatives are negatives
                negative.append(max(0.8 - distance, 0.0) ** 2 / 2)
    if average == "pairs":
        expected = np.mean(positive + negative) if positive + negative else 0.0
    else:
        expected = sum(0.5 * np.mean(losses) for losses in (positive, negative) if losses)
    loss = Contrastive(margin=0.8, average=average)(descriptors, targets)
    assert float(loss) == pytest.approx(float(expected), abs=1e-7)


@laws
@given(batches())
def test_it_is_the_graded_loss_of_binary_labels(batch: tuple[torch.Tensor, Targets]) -> None:
    descriptors, targets = batch
    psi = targets.similarity
    binary = labels(torch.where(psi.isnan(), psi, (psi >= 0.5).float()))
    expected = GradedContrastive(average="pairs")(descriptors, binary)
    assert float(Contrastive(average="pairs")(descriptors, targets)) == pytest.approx(float(expected), abs=1e-9)
