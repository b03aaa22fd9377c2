"""The multi-similarity loss and its miner (Wang et al., CVPR 2019), the usual pair on GSV-Cities (FIELD B2.2)."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from pytorch_metric_learning.losses import MultiSimilarityLoss
from torch import Tensor

from training.data.batch import Targets
from training.data.source import POSITIVE
from training.options import Options


class MultiSimilarity(Options):
    """log(1 + sum_p e^(-alpha (s - base))) / alpha + log(1 + sum_n e^(beta (s - base))) / beta, mean over the images.

    s is the cosine of two descriptors; positives have psi >= 0.5, negatives psi = 0, other pairs count as neither.
    `miner_epsilon` None takes all pairs instead of the informative ones. pytorch-metric-learning, which computes the
    loss, calls a batch with at most one pair of each kind empty.
    """

    kind: Literal["multi_similarity"] = "multi_similarity"
    alpha: float = Field(default=1.0, gt=0)
    beta: float = Field(default=50.0, gt=0)
    base: float = Field(default=0.0, ge=-1, le=1)
    miner_epsilon: float | None = Field(default=0.1, ge=0)

    def __call__(self, descriptors: Tensor, targets: Targets) -> Tensor:
        """`descriptors` (B, D) unit length -> scalar; 0 if there is no pair."""
        positive = (targets.similarity >= POSITIVE).fill_diagonal_(False)
        negative = targets.similarity == 0
        loss = MultiSimilarityLoss(self.alpha, self.beta, self.base)
        # autocast would round the cosines to three digits, and beta makes e^(50 s) of them
        with torch.autocast(descriptors.device.type, enabled=False):
            if self.miner_epsilon is not None:
                positive, negative = informative(descriptors.detach(), positive, negative, self.miner_epsilon)
            chosen = (*torch.nonzero(positive, as_tuple=True), *torch.nonzero(negative, as_tuple=True))
            result: Tensor = loss(descriptors, indices_tuple=chosen)
        return result


def informative(descriptors: Tensor, positive: Tensor, negative: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """Those pairs (B, B) bool of each image that its hardest pair of the other kind beats by `epsilon` or nearly so.

    The library's miner takes class labels, with which every pair that is not positive is negative; psi has pairs that are
    neither.
    """
    cosine = descriptors @ descriptors.T
    hardest_negative = cosine.masked_fill(~negative, -torch.inf).amax(dim=1, keepdim=True)
    hardest_positive = cosine.masked_fill(~positive, torch.inf).amin(dim=1, keepdim=True)
    return positive & (cosine - epsilon < hardest_negative), negative & (cosine + epsilon > hardest_positive)
