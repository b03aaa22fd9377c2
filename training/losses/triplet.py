"""The triplet margin loss of NetVLAD-style training (docs/methods.md 2.5)."""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from training.data.batch import Targets
from training.data.source import POSITIVE
from training.options import Options


class TripletLoss(Options):
    """max(violation, 0) over the mined triplets of a batch, also those that keep the margin.

    A batch without mined triplets uses all that it holds: p with psi >= 0.5 to a, n with psi = 0. `reduction` "mean" does
    not depend on how many triplets a batch has; "sum" does, and is here for comparison: the de-attention code sums in its
    baseline and averages beside a mask loss (docs/methods.md 2.6 c).
    """

    reduction: Literal["mean", "sum"] = "mean"

    def __call__(self, descriptors: Tensor, targets: Targets) -> Tensor:
        """`descriptors` (B, D) unit length -> scalar; 0 if there is no triplet."""
        triplets = targets.triplets if len(targets.triplets) else all_triplets(targets.similarity)
        a, p, n = triplets.unbind(1)
        # differences, not inner products: see graded_contrastive.pairs
        d = torch.cdist(descriptors, descriptors, compute_mode="donot_use_mm_for_euclid_dist")
        losses = self.violation(d[a, p], d[a, n], d[p, n]).clamp(min=0)
        return losses.sum() if self.reduction == "sum" else losses.sum() / max(1, len(losses))

    @abstractmethod
    def violation(self, ap: Tensor, an: Tensor, pn: Tensor) -> Tensor:
        """(T,) by how much each triplet misses its margin, <= 0 if it keeps it, from its Euclidean distances (T,)."""


class Triplet(TripletLoss):
    """max(d(a,p) - d(a,n) + margin, 0) with Euclidean d, not squared."""

    kind: Literal["triplet"] = "triplet"
    margin: float = Field(default=0.1, gt=0, le=2)

    def violation(self, ap: Tensor, an: Tensor, pn: Tensor) -> Tensor:
        return ap - an + self.margin


def all_triplets(similarity: Tensor) -> Tensor:
    """(T, 3) anchor, positive, negative of every triplet in a (B, B) psi."""
    positive = (similarity >= POSITIVE).fill_diagonal_(False)
    negative = similarity == 0
    return torch.nonzero(positive[:, :, None] & negative[:, None, :])
