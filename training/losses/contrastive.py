"""The contrastive loss (Hadsell et al., CVPR 2006): the binary baseline of GCL (docs/methods.md 1.2)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from training.data.batch import Targets
from training.data.source import POSITIVE
from training.losses.graded_contrastive import graded_contrastive, mean, pairs
from training.options import Options


class Contrastive(Options):
    """The graded loss with psi rounded: 1 from psi >= 0.5, else 0, so that soft negatives are negatives.

    `average` "pairs" is the plain mean over the known pairs, "kinds" half the mean of the positives and half that of the
    negatives; a kind without a pair adds nothing.
    """

    kind: Literal["contrastive"] = "contrastive"
    margin: float = Field(default=0.5, gt=0, le=2)
    average: Literal["kinds", "pairs"] = "kinds"

    def __call__(self, descriptors: Tensor, targets: Targets) -> Tensor:
        """`descriptors` (B, D) unit length -> scalar; 0 if no pair is known."""
        distance, psi = pairs(descriptors, targets.similarity)
        positive, negative = psi >= POSITIVE, psi < POSITIVE
        loss = graded_contrastive(distance, positive.to(distance), self.margin)
        if self.average == "pairs":
            return mean(loss, positive | negative)
        return (mean(loss, positive) + mean(loss, negative)) / 2
