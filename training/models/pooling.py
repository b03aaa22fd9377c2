"""From a feature map to one vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GeM(nn.Module):
    """Generalised mean over space: (mean_xy max(x, eps)^p)^(1/p) with learnable p (Radenovic et al., TPAMI 2019).

    (N, C, H, W) -> (N, C). p = 1 is average pooling, p -> inf is max pooling.
    """

    def __init__(self, p: float = 3.0, eps: float = 1e-6) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor(p))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(min=self.eps).pow(self.p).mean(dim=(-2, -1)).pow(1.0 / self.p)
