"""Image or label map -> global descriptor, with preprocessing inside so that robot and training cannot disagree."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from training.attention import AnyAttention, Attended
from training.data.inputs import AnyInput, Rgb
from training.models.backbones import Backbone
from training.models.encoding import encoding, widen
from training.models.mixvpr import MixVPR
from training.models.netvlad import NetVLAD
from training.models.pooling import Average, GeM, Max
from training.models.salad import Salad
from training.models.whitening import pca_whitening
from training.options import Options
from vpr_ros.errors import ConfigError

Pool = Annotated[Average | Max | GeM | NetVLAD | MixVPR | Salad, Field(discriminator="kind")]


class NetworkOptions(Options):
    """A place network for images of `width` x `height` px; `dim` is that of a linear projection, None has none.

    - `input` is what it sees: `rgb`, or `semantic` for a teacher that sees label maps;
    - `attention` says what of the feature map counts, None that all does alike;
    - `weight_features` multiplies its weight of each position into the features, as the public code of the de-attention
      paper does. NetVLAD, which normalises every local descriptor, then sees nothing of it: by default the pooling weighs.
    """

    width: int = Field(ge=32)
    height: int = Field(ge=32)
    input: AnyInput = Rgb()
    backbone: Backbone
    attention: AnyAttention | None = None
    weight_features: bool = False
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
        shape = self.backbone.channels, self.backbone.size
        self.attention = options.attention.build(*shape) if options.attention else None
        self.pool = options.pool.build(self.backbone.channels, self.backbone.size)
        self.dim = options.dim or self.pool.dim
        self.projection = nn.Linear(self.pool.dim, options.dim) if options.dim else nn.Identity()

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def features(self, images: Tensor) -> Tensor:
        """(N, C, h, w): the feature map of the backbone."""
        return self.backbone(self.encoding(images))

    def attended(self, images: Tensor) -> Attended:
        """The feature map (N, C, h, w) after attention, and what the pooling has to weigh."""
        # float32 even in mixed precision: powers and lengths need its range and digits
        x = self.features(images).float()
        if self.attention is None:
            return Attended(x)
        found = self.attention(x)
        if self.options.weight_features and found.weight is not None:
            return Attended(found.features * found.weight, mask=found.mask)
        return found

    def pooled(self, images: Tensor) -> Tensor:
        """(N, pool.dim), unit length: before the projection."""
        return self._pooled(self.attended(images))

    def forward(self, images: Tensor) -> Tensor:
        return self._described(self.attended(images))

    def with_mask(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Descriptors (N, dim), and the mask (N, 1, h, w) in (0, 1) of an attention that has one."""
        attended = self.attended(images)
        return self._described(attended), attended.mask

    def _pooled(self, attended: Attended) -> Tensor:
        pooled = self.pool(attended.features.float(), attended.weight)
        return functional.normalize(pooled.float(), dim=1)

    def _described(self, attended: Attended) -> Tensor:
        return functional.normalize(self.projection(self._pooled(attended)).float(), dim=1)

    @contextmanager
    def without_attention(self) -> Iterator[None]:
        """The backbone and the pooling alone, meanwhile."""
        attention, self.attention = self.attention, None
        try:
            yield
        finally:
            self.attention = attention

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
