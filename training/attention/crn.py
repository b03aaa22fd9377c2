"""Contextual reweighting network (Kim et al., CVPR 2017): positions weighted by what surrounds them."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.attention.attended import Attended
from training.options import Options
from vpr_ros.errors import ConfigError

KERNELS = (3, 5, 7)
"""Sides of the context filters."""
FILTERS = (32, 32, 20)
"""So many of each."""
LEAST_WEIGHT = 1e-6
"""Where no filter fires anywhere all positions count the same: with weights of 0 there would be no descriptor."""


class Crn(Options):
    """weight = upsampled(relu(w . relu(context filters of the halved map) + b)): from 0 on, of any scale.

    The features stay as they are. The mask is the weight as a part of the largest in the image. The filters start as
    Xavier's, w at 1 and b at 0; the authors' networks keep w at 1 for VGG-16 and learn it for AlexNet, here it learns. A
    fresh one weights positions by how strongly random filters answer.
    """

    kind: Literal["crn"] = "crn"

    def build(self, channels: int, size: tuple[int, int]) -> CrnModule:
        """Raises ConfigError for a map that cannot be halved."""
        if min(size) < 2:
            raise ConfigError(
                f"crn needs a feature map of at least 2 x 2, it has {size[0]} x {size[1]}: "
                "use larger images or an earlier last_block"
            )
        return CrnModule(channels, size)


class CrnModule(nn.Module):
    def __init__(self, channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size
        self.context = nn.ModuleList(
            nn.Conv2d(channels, filters, kernel, padding=kernel // 2)
            for filters, kernel in zip(FILTERS, KERNELS, strict=True)
        )
        self.accumulation = nn.Conv2d(sum(FILTERS), 1, kernel_size=1)
        for parameter in self.parameters():
            if parameter.dim() == 1:
                nn.init.zeros_(parameter)
            else:
                nn.init.xavier_uniform_(parameter)
        nn.init.ones_(self.accumulation.weight)

    def forward(self, x: Tensor) -> Attended:
        half = functional.avg_pool2d(x, kernel_size=3, stride=2, ceil_mode=True)
        context = torch.cat([each(half).relu() for each in self.context], dim=1)
        accumulated = self.accumulation(context).relu()
        upsampled = functional.interpolate(accumulated, self.size, mode="bilinear", align_corners=False)
        weight = upsampled + LEAST_WEIGHT
        return Attended(x, weight=weight, mask=weight / weight.amax(dim=(-2, -1), keepdim=True))
