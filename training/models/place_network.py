"""Image or label map -> global descriptor, with preprocessing inside so that robot and training cannot disagree."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from training.data.inputs import AnyInput, Rgb
from training.models.backbones import Backbone
from training.models.encoding import encoding, widen
from training.models.mixvpr import MixVPR
from training.models.netvlad import NetVLAD, NetVLADPooling, sample_local_descriptors
from training.models.pooling import Average, GeM, Max
from training.models.salad import Salad
from training.models.whitening import pca_whitening
from training.options import Options
from vpr_ros.errors import ConfigError

Pool = Annotated[Average | Max | GeM | NetVLAD | MixVPR | Salad, Field(discriminator="kind")]


class NetworkOptions(Options):
    """A place network for images of `width` x `height` px; `dim` is that of a linear projection, None has none.

    `input` is what it sees: `rgb`, or `semantic` for a teacher that sees label maps.
    """

    width: int = Field(ge=32)
    height: int = Field(ge=32)
    input: AnyInput = Rgb()
    backbone: Backbone
    pool: Pool = GeM()
    dim: int | None = Field(default=None, gt=0)

    def without_weights(self) -> NetworkOptions:
        """The same network for weights that are at hand: its pretrained ones are not looked for."""
        return self.model_copy(update={"backbone": self.backbone.model_copy(update={"weights": "none"})})


class PlaceNetwork(nn.Module):
    """(N, H, W, 3) uint8 RGB -> (N, dim) float32, unit length: backbone, pooling, L2, projection, L2.

    One that sees label maps takes (N, H, W) uint8 numbers of clusters.
    """

    def __init__(self, options: NetworkOptions) -> None:
        """Raises what `Backbone.build` and the pooling's `build` raise."""
        super().__init__()
        self.options = options
        self.backbone = options.backbone.build(options.height, options.width)
        self.encoding = encoding(options.input, self.backbone.mean, self.backbone.std)
        if options.input.kind == "semantic":
            widen(self.backbone, self.encoding.channels)
        self.pool = options.pool.build(self.backbone.channels, self.backbone.size)
        self.dim = options.dim or self.pool.dim
        self.projection = nn.Linear(self.pool.dim, options.dim) if options.dim else nn.Identity()

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def features(self, images: Tensor) -> Tensor:
        """(N, C, h, w): the feature map of the backbone."""
        return self.backbone(self.encoding(images))

    def pooled(self, images: Tensor) -> Tensor:
        """(N, pool.dim), unit length: before the projection."""
        # float32 even in mixed precision: powers and lengths need its range and digits
        return functional.normalize(self.pool(self.features(images).float()).float(), dim=1)

    def forward(self, images: Tensor) -> Tensor:
        return functional.normalize(self.projection(self.pooled(images)).float(), dim=1)

    @torch.no_grad()
    def initialise(self, batches: Iterable[Tensor], seed: int = 0) -> None:
        """Fit the cluster centres of NetVLAD on images; other poolings need nothing and read no batch.

        `batches` are what the network takes; some 500 images give the usual 50,000 local descriptors.
        """
        if isinstance(self.pool, NetVLADPooling):
            was_training = self.training
            self.eval()
            maps = (self.features(images.to(self.device)) for images in batches)
            self.pool.initialise(sample_local_descriptors(maps, seed=seed), seed)
            self.train(was_training)

    def whiten(self, pooled: Tensor, power: float = 0.5) -> None:
        """Set the projection to the PCA whitening of `pooled` (M, pool.dim).

        Raises ConfigError where there is no projection, and what `pca_whitening` raises.
        """
        if not isinstance(self.projection, nn.Linear):
            raise ConfigError("this network has no projection to whiten: set network.dim")
        weight, bias = pca_whitening(pooled.cpu().numpy(), self.dim, power)
        with torch.no_grad():
            self.projection.weight.copy_(torch.from_numpy(weight))
            self.projection.bias.copy_(torch.from_numpy(bias))
