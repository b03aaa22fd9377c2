"""Semantic-guided de-attention (Pattern Recognition 141, 2023, 109645): a learnt mask of what does not mark a place.

Written from docs/methods.md 2.3. The mask learns from segmented images and needs no segmentation on the robot.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from training.attention.attended import Attended
from training.attention.crn import FILTERS, KERNELS
from training.attention.squeeze_excitation import SqueezeExcitation
from training.options import Options
from vpr_ros.errors import ConfigError

Filters = Annotated[int, Field(gt=0)]


class DeAttention(Options):
    """mask m = sigmoid(BN(relu(conv1x1([BN(relu(conv_k(x / |x|))) for k = 3, 5, 7])))).

    - `version`: 1 weights positions by m (x m in the paper), 2 by 1 + m (x + x m);
    - `filters`: how many of 3 x 3, 5 x 5 and 7 x 7;
    - `padding`: of the map for these filters;
    - `squeeze_excitation`: of the weighted map (reduction 16), as in the final configuration of the paper.

    The mask of a fresh one in training is around 1/2 everywhere, at random.
    """

    kind: Literal["deattention"] = "deattention"
    version: Literal[1, 2] = 1
    filters: tuple[Filters, Filters, Filters] = FILTERS
    padding: Literal["reflect", "zeros"] = "reflect"
    squeeze_excitation: bool = True

    def build(self, channels: int, size: tuple[int, int]) -> DeAttentionModule:
        """Raises ConfigError for a map that is too small to be reflected around the largest filter."""
        least = max(KERNELS) // 2 + 1
        if self.padding == "reflect" and min(size) < least:
            raise ConfigError(
                f"deattention with reflect padding needs a feature map of at least {least} x {least}, "
                f"it has {size[0]} x {size[1]}: use larger images, an earlier last_block or padding: zeros"
            )
        return DeAttentionModule(channels, size, self)


class DeAttentionModule(nn.Module):
    def __init__(self, channels: int, size: tuple[int, int], options: DeAttention) -> None:
        super().__init__()
        self.version = options.version
        self.context = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, filters, kernel, padding=kernel // 2, padding_mode=options.padding),
                nn.ReLU(),
                nn.BatchNorm2d(filters),
            )
            for filters, kernel in zip(options.filters, KERNELS, strict=True)
        )
        self.accumulation = nn.Sequential(
            nn.Conv2d(sum(options.filters), 1, kernel_size=1), nn.ReLU(), nn.BatchNorm2d(1), nn.Sigmoid()
        )
        self.channel = SqueezeExcitation().build(channels, size) if options.squeeze_excitation else None

    def mask(self, x: Tensor) -> Tensor:
        """(N, 1, h, w), in (0, 1)."""
        x = functional.normalize(x, dim=1)
        return self.accumulation(torch.cat([each(x) for each in self.context], dim=1))

    def forward(self, x: Tensor) -> Attended:
        mask = self.mask(x)
        weight = mask if self.version == 1 else 1 + mask
        if self.channel is not None:
            x = x * self.channel.gates(x * weight)  # gates weight channels only: weighting by position may follow
        return Attended(x, weight=weight, mask=mask)
