"""The generalised contrastive loss of GCL (Leyva-Vallina et al., CVPR 2023; docs/methods.md 1.2)."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from training.data.batch import Targets
from training.data.source import POSITIVE
from training.options import Options

POSITIVE_SHARE, SOFT_NEGATIVE_SHARE, UNRELATED_SHARE = 0.5, 0.25, 0.25
"""Shares of the pairs that GCL samples: psi >= 0.5, 0 < psi < 0.5, psi = 0 (docs/methods.md 1.4)."""


def graded_contrastive(distance: Tensor, psi: Tensor, margin: float) -> Tensor:
    """psi d^2/2 + (1 - psi) max(margin - d, 0)^2/2, element by element.

    `distance`: Euclidean distances of unit descriptors; `psi` in [0, 1], same shape. With psi in {0, 1} this is the
    contrastive loss; for d < margin it rests at d = margin (1 - psi).
    """
    return psi * distance.square() / 2 + (1 - psi) * (margin - distance).clamp(min=0).square() / 2


def pairs(descriptors: Tensor, similarity: Tensor) -> tuple[Tensor, Tensor]:
    """Distance and psi of the B(B-1)/2 pairs of a batch.

    Differences, not inner products: 2 - 2 a.b has no digits left where a and b are close, which is where positives rest.
    """
    first, second = torch.triu_indices(len(descriptors), len(descriptors), 1, device=descriptors.device)
    return torch.pdist(descriptors), similarity[first, second]


def mean(loss: Tensor, kind: Tensor) -> Tensor:
    """Mean over the pairs of a kind, 0 if there are none. A mask, because an index would make the GPU wait."""
    return (loss * kind).sum() / kind.sum().clamp(min=1)


class GradedContrastive(Options):
    """The graded loss over the pairs of a batch whose psi is known.

    `average` "pairs" is their plain mean, as in the paper, whose sampler balances them (`Pairs`). "kinds" takes the mean
    of each kind, weighted 50/25/25, for batches where every pair counts and most are unrelated; a kind without a pair
    adds nothing.
    """

    kind: Literal["graded_contrastive"] = "graded_contrastive"
    margin: float = Field(default=0.5, gt=0, le=2)
    average: Literal["kinds", "pairs"] = "kinds"

    def __call__(self, descriptors: Tensor, targets: Targets) -> Tensor:
        """`descriptors` (B, D) unit length -> scalar; 0 if no pair is known."""
        distance, psi = pairs(descriptors, targets.similarity)
        # NaN goes before the loss: the gradient of a NaN that is masked after it is NaN
        loss = graded_contrastive(distance, psi.nan_to_num(), self.margin)
        if self.average == "pairs":
            return mean(loss, psi.isfinite())
        return (
            POSITIVE_SHARE * mean(loss, psi >= POSITIVE)
            + SOFT_NEGATIVE_SHARE * mean(loss, (psi > 0) & (psi < POSITIVE))
            + UNRELATED_SHARE * mean(loss, psi == 0)
        )
