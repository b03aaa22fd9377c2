"""The generalised contrastive loss of GCL (Leyva-Vallina et al., CVPR 2023)."""

from __future__ import annotations

import torch
from torch import Tensor

POSITIVE, SOFT_NEGATIVE, UNRELATED = 0.5, 0.25, 0.25
"""Shares of a batch by graded similarity: psi >= 0.5, 0 < psi < 0.5, psi = 0 (METHODS 1.4)."""


def graded_contrastive(distance: Tensor, similarity: Tensor, margin: float) -> Tensor:
    """psi d^2/2 + (1 - psi) max(margin - d, 0)^2/2, element by element.

    `distance`: Euclidean distances of unit descriptors; `similarity`: psi in [0, 1], same shape. With psi in {0, 1} this
    is the contrastive loss; for d < margin it rests at d = margin (1 - psi).
    """
    return similarity * distance.square() / 2 + (1 - similarity) * (margin - distance).clamp(min=0).square() / 2


def graded_contrastive_batch(descriptors: Tensor, similarity: Tensor, margin: float) -> Tensor:
    """The loss over every pair of a batch, its three kinds of pair weighted 50/25/25 as GCL samples them.

    GCL draws pairs; on one CPU a forward pass is dear and a pair is free, so here all B(B-1)/2 pairs of the batch count.
    `descriptors` (B, D) unit length, `similarity` (B, B) symmetric in [0, 1], NaN where it is not known: those pairs are
    left out. A kind with no pair adds nothing.
    """
    # left out before the loss, not after: the gradient of a masked NaN is NaN
    first, second = torch.nonzero(similarity.isfinite().triu(diagonal=1), as_tuple=True)
    # sqrt has infinite slope at 0, hence the small constant
    distance = (descriptors[first] - descriptors[second]).square().sum(dim=1).add(1e-12).sqrt()
    psi = similarity[first, second]
    loss = graded_contrastive(distance, psi, margin)
    kinds = ((POSITIVE, psi >= 0.5), (SOFT_NEGATIVE, (psi > 0) & (psi < 0.5)), (UNRELATED, psi == 0))
    return torch.stack([share * loss[kind].mean() for share, kind in kinds if kind.any()]).sum()
