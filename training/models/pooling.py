"""From a feature map to one vector."""

from __future__ import annotations

import itertools
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from training.options import Options
from vpr_ros.errors import ConfigError


class Pooling(nn.Module):
    """(N, C, h, w) and, from attention, how much each position counts -> (N, dim).

    That `weight` is (N, 1, h, w), >= 0; ones are the same as None.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim


def weighted(x: Tensor, weight: Tensor | None) -> Tensor:
    """For poolings that do not normalise local descriptors: each the longer the more it counts."""
    return x if weight is None else x * weight


class Average(Options):
    """The mean over space, of x weight; dim = C."""

    kind: Literal["average"] = "average"

    def build(self, channels: int, size: tuple[int, int]) -> AveragePooling:
        return AveragePooling(channels)


class AveragePooling(Pooling):
    def forward(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        return weighted(x, weight).mean(dim=(-2, -1))


class Max(Options):
    """The maximum over space (MAC), of x weight; dim = C."""

    kind: Literal["max"] = "max"

    def build(self, channels: int, size: tuple[int, int]) -> MaxPooling:
        return MaxPooling(channels)


class MaxPooling(Pooling):
    def forward(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        return weighted(x, weight).amax(dim=(-2, -1))


class GeM(Options):
    """Generalised mean over space (Radenovic et al., TPAMI 2019), from `p` = 3 on learnt; dim = C rows columns.

    (mean_xy max(x, eps)^p)^(1/p): p = 1 is average pooling, p -> inf is max pooling. A weight is of x, so that it counts
    with the power p: mean_xy max(x weight, eps)^p. With `rows` and `columns` the map is cut into a grid whose cells are
    pooled apart, made unit length and concatenated: the descriptor then knows where in the image things are, which helps a
    camera that comes back the way it came.
    """

    kind: Literal["gem"] = "gem"
    p: float = Field(default=3.0, gt=0)
    eps: float = Field(default=1e-6, gt=0)
    rows: int = Field(default=1, gt=0)
    columns: int = Field(default=1, gt=0)

    def build(self, channels: int, size: tuple[int, int]) -> GeMPooling:
        """Raises ConfigError for a grid with more cells than the map has positions."""
        height, width = size
        if self.rows > height or self.columns > width:
            raise ConfigError(f"a {self.rows} x {self.columns} grid does not fit a {height} x {width} feature map")
        return GeMPooling(channels, self.p, self.eps, _cuts(height, self.rows), _cuts(width, self.columns))


def _cuts(length: int, parts: int) -> list[slice]:
    """Nearly equal slices of a fixed length: the exported graph has no shapes to work out."""
    if parts == 1:
        return [slice(None)]
    edges = [length * i // parts for i in range(parts + 1)]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]


class GeMPooling(Pooling):
    def __init__(self, channels: int, p: float, eps: float, rows: list[slice], columns: list[slice]) -> None:
        super().__init__(channels * len(rows) * len(columns))
        self.p = nn.Parameter(torch.tensor(p))
        self.eps = eps
        self.rows, self.columns = rows, columns

    def forward(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        powers = weighted(x, weight).clamp(min=self.eps).pow(self.p)
        cells = [powers[:, :, rows, columns].mean(dim=(-2, -1)) for rows in self.rows for columns in self.columns]
        pooled = torch.stack(cells, dim=1).pow(1.0 / self.p)
        return pooled[:, 0] if len(cells) == 1 else functional.normalize(pooled, dim=2).flatten(1)
