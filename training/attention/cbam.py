"""Convolutional block attention module (Woo et al., ECCV 2018): channels weighted, then positions."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from training.attention.attended import Attended
from training.attention.squeeze_excitation import channel_mlp
from training.options import Options


class Cbam(Options):
    """x' = x sigmoid(MLP(mean_xy x) + MLP(max_xy x)), then each position counts sigmoid(conv7x7([mean_c x', max_c x'])).

    The MLP has `reduction` times fewer hidden units than channels. A fresh one weights channels and positions by about 1/2.
    """

    kind: Literal["cbam"] = "cbam"
    reduction: int = Field(default=16, gt=0)

    def build(self, channels: int, size: tuple[int, int]) -> CbamModule:
        return CbamModule(channels, self.reduction)


class CbamModule(nn.Module):
    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.mlp = channel_mlp(channels, reduction)
        self.spatial = nn.Conv2d(2, 1, kernel_size=7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Attended:
        logits = self.mlp(x.mean(dim=(-2, -1), keepdim=True)) + self.mlp(x.amax(dim=(-2, -1), keepdim=True))
        x = x * logits.sigmoid()
        over_channels = torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)
        mask = self.spatial(over_channels).sigmoid()
        return Attended(x, weight=mask, mask=mask)
