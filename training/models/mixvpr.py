"""MixVPR-type head (Ali-bey et al., WACV 2023), written from the paper: feature maps mixed by small MLPs over space."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from training.models.pooling import Pooling, weighted
from training.options import Options


class MixVPR(Options):
    """`depth` mixers over the h w positions, then C -> `channels` and h w -> `rows`; dim = channels rows.

    The paper takes ResNet-50 up to `layer3` at 320 x 320. It needs the input size that it was built for. A weight is of
    x, before the mixing.
    """

    kind: Literal["mixvpr"] = "mixvpr"
    depth: int = Field(default=4, gt=0)
    channels: int = Field(default=1024, gt=0)
    rows: int = Field(default=4, gt=0)

    def build(self, channels: int, size: tuple[int, int]) -> MixVPRPooling:
        return MixVPRPooling(channels, size[0] * size[1], self.depth, self.channels, self.rows)


class MixVPRPooling(Pooling):
    def __init__(self, channels: int, positions: int, depth: int, channels_out: int, rows: int) -> None:
        super().__init__(channels_out * rows)
        self.mixers = nn.Sequential(*(FeatureMixer(positions) for _ in range(depth)))
        self.project_channels = nn.Conv1d(channels, channels_out, kernel_size=1)
        self.project_positions = nn.Linear(positions, rows)

    def forward(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        mixed = self.mixers(weighted(x, weight).flatten(2))
        return self.project_positions(self.project_channels(mixed)).flatten(1)


class FeatureMixer(nn.Module):
    """x + W2 relu(W1 norm(x)) over the last axis, the positions of one channel."""

    def __init__(self, positions: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(positions)
        self.first = nn.Linear(positions, positions)
        self.second = nn.Linear(positions, positions)
        nn.init.zeros_(self.second.weight)  # starts as the identity: depth costs nothing at first
        nn.init.zeros_(self.second.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(self.first(self.norm(x)).relu())
