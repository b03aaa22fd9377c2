"""SALAD-type head (Izquierdo and Civera, CVPR 2024), written from the paper: NetVLAD's assignment as optimal transport."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from training.models.pooling import Pooling, weighted
from training.options import Options
from vpr_ros.errors import ConfigError

HIDDEN = 512
SINKHORN_STEPS = 3


class Salad(Options):
    """`clusters` of `cluster_dim` and a `scene_dim` vector of the whole map; dim = clusters cluster_dim + scene_dim.

    The paper makes the last of the class token of DINOv2; a feature map has none, so here it is of the mean. A weight is of
    what a position gives to the clusters, after the transport, as in NetVLAD, and of x in that mean.
    """

    kind: Literal["salad"] = "salad"
    clusters: int = Field(default=64, gt=0)
    cluster_dim: int = Field(default=128, gt=0)
    scene_dim: int = Field(default=256, gt=0)

    def build(self, channels: int, size: tuple[int, int]) -> SaladPooling:
        """Raises ConfigError for a map that has no more positions than there are clusters: the dustbin gets the rest."""
        positions = size[0] * size[1]
        if positions <= self.clusters:
            raise ConfigError(
                f"salad needs more positions than its {self.clusters} clusters, the feature map has {size[0]} x {size[1]}: "
                "use larger images, an earlier last_block or fewer clusters"
            )
        return SaladPooling(channels, self.clusters, self.cluster_dim, self.scene_dim)


class SaladPooling(Pooling):
    def __init__(self, channels: int, clusters: int, cluster_dim: int, scene_dim: int) -> None:
        super().__init__(clusters * cluster_dim + scene_dim)
        self.scores = _mlp(channels, clusters)
        self.features = _mlp(channels, cluster_dim)
        self.scene = _mlp(channels, scene_dim)
        self.dustbin = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        shares = transport(self.scores(x).flatten(2), self.dustbin)
        if weight is not None:
            shares = shares * weight.flatten(2)
        clusters = shares @ self.features(x).flatten(2).transpose(1, 2)  # (N, clusters, cluster_dim)
        scene = self.scene(weighted(x, weight).mean(dim=(-2, -1), keepdim=True)).flatten(1)
        vectors = (functional.normalize(clusters, dim=2).flatten(1), functional.normalize(scene, dim=1))
        return functional.normalize(torch.cat(vectors, dim=1), dim=1)


def transport(scores: Tensor, dustbin: Tensor) -> Tensor:
    """(N, K, L) scores of K clusters and L positions -> (N, K, L) shares: each position gives 1, each cluster takes 1.

    The dustbin, a cluster of equal scores, takes the other L - K. Sinkhorn's iterations on logarithms.
    """
    n, clusters, positions = scores.shape
    log_shares = torch.cat([scores.float(), dustbin.float().expand(n, 1, positions)], dim=1)
    log_taken = torch.zeros(clusters + 1, 1, device=scores.device)
    log_taken[-1] = math.log(positions - clusters)
    for _ in range(SINKHORN_STEPS):
        log_shares = log_shares - log_shares.logsumexp(dim=2, keepdim=True) + log_taken
        log_shares = log_shares - log_shares.logsumexp(dim=1, keepdim=True)
    return log_shares[:, :-1].exp()


def _mlp(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, HIDDEN, kernel_size=1), nn.ReLU(), nn.Conv2d(HIDDEN, outputs, kernel_size=1))
