"""Bottleneck attention module (Park et al., BMVC 2018): channels and positions weighted at once."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from training.attention.attended import Attended
from training.attention.squeeze_excitation import channel_mlp
from training.options import Options


class Bam(Options):
    """x (1 + sigmoid(Mc + Ms)), Mc of (N, C, 1, 1) and Ms of (N, 1, h, w).

    Mc = BN(MLP(mean_xy x)); Ms = BN(conv1x1(conv3x3(conv3x3(conv1x1(x))))), the 3 x 3 ones dilated. Both have `reduction`
    times fewer inner channels, with ReLU. The authors' code multiplies Mc and Ms; this is the sum of the paper. A fresh one
    multiplies every element by 1 to 2, on average by about 1.5. To train it, a batch must have more than one image.
    """

    kind: Literal["bam"] = "bam"
    reduction: int = Field(default=16, gt=0)
    dilation: int = Field(default=4, gt=0)

    def build(self, channels: int, size: tuple[int, int]) -> BamModule:
        return BamModule(channels, self.reduction, self.dilation)


class BamModule(nn.Module):
    def __init__(self, channels: int, reduction: int, dilation: int) -> None:
        super().__init__()
        inner = max(channels // reduction, 1)
        self.channel = nn.Sequential(channel_mlp(channels, reduction, bias=True), nn.BatchNorm2d(channels))
        self.spatial = nn.Sequential(
            nn.Conv2d(channels, inner, kernel_size=1),
            nn.ReLU(),
            nn.Conv2d(inner, inner, kernel_size=3, padding=dilation, dilation=dilation),
            nn.ReLU(),
            nn.Conv2d(inner, inner, kernel_size=3, padding=dilation, dilation=dilation),
            nn.ReLU(),
            nn.Conv2d(inner, 1, kernel_size=1),
            nn.BatchNorm2d(1),
        )

    def forward(self, x: Tensor) -> Attended:
        logits = self.channel(x.mean(dim=(-2, -1), keepdim=True)) + self.spatial(x)
        return Attended(x * (1 + logits.sigmoid()))
