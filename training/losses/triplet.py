"""The triplet margin loss of NetVLAD-style training (METHODS 2.5)."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import TripletMarginLoss
from pytorch_metric_learning.reducers import MeanReducer
from torch import Tensor

from training.data.batch import Targets
from training.data.source import POSITIVE
from training.options import Options


class Triplet(Options):
    """Mean of max(d(a,p) - d(a,n) + margin, 0) with Euclidean d, not squared, over the mined triplets of a batch.

    A batch without mined triplets uses all that it holds: p with psi >= 0.5 to a, n with psi = 0.
    """

    kind: Literal["triplet"] = "triplet"
    margin: float = Field(default=0.1, gt=0, le=2)

    def __call__(self, descriptors: Tensor, targets: Targets) -> Tensor:
        """`descriptors` (B, D) unit length -> scalar; 0 if there is no triplet."""
        triplets = targets.triplets if len(targets.triplets) else all_triplets(targets.similarity)
        # the library's own mean leaves out triplets that already keep the margin; the formula counts them
        loss = TripletMarginLoss(self.margin, distance=LpDistance(normalize_embeddings=False), reducer=MeanReducer())
        result: Tensor = loss(descriptors, indices_tuple=triplets.unbind(1))
        return result


def all_triplets(similarity: Tensor) -> Tensor:
    """(T, 3) anchor, positive, negative of every triplet in a (B, B) psi."""
    positive = (similarity >= POSITIVE).fill_diagonal_(False)
    negative = similarity == 0
    return torch.nonzero(positive[:, :, None] & negative[:, None, :])
