"""Squeeze-and-excitation (Hu et al., CVPR 2018): channels weighted by what the whole image shows."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from training.attention.attended import Attended
from training.options import Options


class SqueezeExcitation(Options):
    """x sigmoid(W2 relu(W1 mean_xy(x))), with `reduction` times fewer hidden units than channels.

    A fresh one multiplies every channel by about 1/2.
    """

    kind: Literal["se"] = "se"
    reduction: int = Field(default=16, gt=0)

    def build(self, channels: int, size: tuple[int, int]) -> SqueezeExcitationModule:
        return SqueezeExcitationModule(channels, self.reduction)


class SqueezeExcitationModule(nn.Module):
    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.excitation = channel_mlp(channels, reduction)

    def gates(self, x: Tensor) -> Tensor:
        """(N, C, 1, 1), in (0, 1)."""
        return self.excitation(x.mean(dim=(-2, -1), keepdim=True)).sigmoid()

    def forward(self, x: Tensor) -> Attended:
        return Attended(x * self.gates(x))


def channel_mlp(channels: int, reduction: int, bias: bool = False) -> nn.Sequential:
    """(N, C, 1, 1) -> (N, C, 1, 1) through C / `reduction` hidden units, of few channels one."""
    hidden = max(channels // reduction, 1)
    return nn.Sequential(
        nn.Conv2d(channels, hidden, kernel_size=1, bias=bias),
        nn.ReLU(),
        nn.Conv2d(hidden, channels, kernel_size=1, bias=bias),
    )
