"""NetVLAD (Arandjelovic et al., CVPR 2016): residuals to learnt cluster centres, softly assigned."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import faiss
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from training.models.pooling import Pooling
from training.options import Options
from vpr_ros.errors import ConfigError, TrainingError

LEAST_SHARE = 0.01
"""Of its second-nearest cluster in the average local descriptor, compared with the nearest, after initialisation."""


class NetVLAD(Options):
    """K clusters; dim = K C. Its centres are random until `training.cluster` fits them."""

    kind: Literal["netvlad"] = "netvlad"
    clusters: int = Field(default=64, gt=1)

    def build(self, channels: int, size: tuple[int, int]) -> NetVLADPooling:
        return NetVLADPooling(channels, self.clusters)


class NetVLADPooling(Pooling):
    """V_k = sum_i a_k(x_i) (x_i - c_k) over unit local descriptors x_i; rows then the whole of unit length.

    a = softmax_k(w_k . x), w and c independent and learnt. A weight m_i is of the residuals, as in the contextual
    reweighting network (Kim et al., CVPR 2017): V_k = sum_i m_i a_k(x_i) (x_i - c_k). Of x_i it would cancel. Only ratios
    of weights matter; weights that are all 0 give the zero vector.
    """

    def __init__(self, channels: int, clusters: int) -> None:
        super().__init__(clusters * channels)
        self.assignment = nn.Conv2d(channels, clusters, kernel_size=1, bias=False)
        self.centres = nn.Parameter(functional.normalize(torch.randn(clusters, channels), dim=1))

    def forward(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        x = functional.normalize(x, dim=1)
        shares = self.assignment(x).flatten(2).softmax(dim=1)  # (N, K, hw)
        if weight is not None:
            shares = shares * weight.flatten(2)
        # sum a x - c sum a: the (N, K, hw, C) residuals are never in memory
        vlad = shares @ x.flatten(2).transpose(1, 2) - shares.sum(dim=2, keepdim=True) * self.centres
        return functional.normalize(functional.normalize(vlad, dim=2).flatten(1), dim=1)

    def initialise(self, local_descriptors: Tensor, seed: int = 0) -> None:
        """Centres by k-means over (M, C) local descriptors, and an assignment of which the second-best cluster gets 1 %.

        w_k = alpha c_k / |c_k| with alpha = -ln(0.01) / mean(best - second-best cosine). Raises ConfigError for fewer
        descriptors than clusters, TrainingError for descriptors that are all the same.
        """
        clusters, channels = self.centres.shape
        x = functional.normalize(local_descriptors.detach().float().cpu(), dim=1)
        if len(x) < clusters:
            raise ConfigError(f"NetVLAD needs at least {clusters} local descriptors to find its clusters, got {len(x)}")
        # faiss would choose among many points and warn about few
        kmeans = faiss.Kmeans(channels, clusters, seed=seed, min_points_per_centroid=1, max_points_per_centroid=len(x))
        kmeans.train(x.numpy())
        centres = torch.from_numpy(kmeans.centroids)
        directions = functional.normalize(centres, dim=1)
        best, second = (x @ directions.T).topk(2, dim=1).values.mean(dim=0).tolist()
        if best == second:
            raise TrainingError("NetVLAD found one cluster only: all local descriptors are the same")
        alpha = -math.log(LEAST_SHARE) / (best - second)
        with torch.no_grad():
            self.centres.copy_(centres)
            self.assignment.weight.copy_(alpha * directions[:, :, None, None])


def sample_local_descriptors(maps: Iterable[Tensor], per_image: int = 100, seed: int = 0) -> Tensor:
    """(M, C) on the CPU: up to `per_image` positions drawn from each image of feature maps (N, C, h, w).

    Twice as many are tried, to reject those that are NaN: what shall not have a cluster (docs/methods.md 2.1). Raises ConfigError
    where there is no image.
    """
    generator = torch.Generator().manual_seed(seed)
    found = []
    for features in maps:
        for local in features.flatten(2).transpose(1, 2).cpu():  # (hw, C)
            tried = local[torch.randperm(len(local), generator=generator)[: 2 * per_image]]
            found.append(tried[~tried.isnan().any(dim=1)][:per_image])
    if not found:
        raise ConfigError("no readable image to find the clusters of NetVLAD with")
    return torch.cat(found)
