"""The segmentation network of our own: MobileNetV2 features and the light head of MobileNetV3."""

from __future__ import annotations

from itertools import pairwise

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from training.models.backbones import Backbone
from training.options import Options
from vpr_ros.errors import ConfigError


class SegmentationOptions(Options):
    """`width` x `height`: about so many pixels the network sees of an image, whatever its shape.

    `skips` are the blocks before `backbone.last_block` whose features refine the answer, finest first.
    """

    width: int = Field(gt=0)
    height: int = Field(gt=0)
    backbone: Backbone
    skips: tuple[str, ...] = Field(min_length=1)
    channels: int = Field(default=128, gt=0)
    """Of the head."""


class SegmentationNetwork(nn.Module):
    """LR-ASPP (Howard et al., Searching for MobileNetV3, ICCV 2019, section 6.4), with one skip per resolution.

    The last features pass a 1x1 convolution and are gated by their global average; every skip adds the classes that a
    1x1 convolution sees in its features. Normalisation is inside.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, options: SegmentationOptions, classes: int) -> None:
        """Raises ConfigError for blocks that the backbone lacks, ModelError for its weights."""
        super().__init__()
        self.options = options
        self.backbone = options.backbone.build(options.height, options.width)
        self.register_buffer("mean", torch.tensor(self.backbone.mean), persistent=False)
        self.register_buffer("std", torch.tensor(self.backbone.std), persistent=False)
        self.skips = [self._position(name) for name in options.skips]
        *skip_channels, last = self._channels()
        self.values = nn.Sequential(
            nn.Conv2d(last, options.channels, 1, bias=False), nn.BatchNorm2d(options.channels), nn.ReLU()
        )
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(last, options.channels, 1, bias=False), nn.Sigmoid()
        )
        of_skips = (nn.Conv2d(channels, classes, 1) for channels in skip_channels)
        self.classifiers = nn.ModuleList([*of_skips, nn.Conv2d(options.channels, classes, 1)])

    def forward(self, images: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 RGB of any size -> logits (N, classes, h, w), as fine as the first skip."""
        pixels = (images / 255 - self.mean) / self.std
        *skips, last = self._features(pixels.permute(0, 3, 1, 2))
        *of_skips, of_last = self.classifiers
        logits = of_last(self.values(last) * self.gate(last))
        for features, classify in zip(reversed(skips), reversed(of_skips), strict=True):
            finer = functional.interpolate(logits, size=features.shape[-2:], mode="bilinear", align_corners=False)
            logits = finer + classify(features)
        return logits

    def _features(self, x: Tensor) -> list[Tensor]:
        """Of the skips, finest first, and of the last block."""
        found = []
        for index, block in enumerate(self._blocks()):
            x = block(x)
            if index in self.skips:
                found.append(x)
        return [*found, x]

    def _blocks(self) -> nn.Sequential:
        blocks = getattr(self.backbone, "features", None)
        if not isinstance(blocks, nn.Sequential):
            raise ConfigError(
                f"{self.options.backbone.name} has no blocks features.0, features.1, ...: use mobilenet_v2"
            )
        return blocks

    def _position(self, name: str) -> int:
        known = [f"features.{index}" for index, _ in enumerate(self._blocks())]
        if name not in known[:-1]:
            raise ConfigError(f"network.skips: {name!r} does not come before {known[-1]}, where the backbone stops")
        return known.index(name)

    def _channels(self) -> list[int]:
        """Of each of `_features`."""
        if any(later <= earlier for earlier, later in pairwise(self.skips)):
            raise ConfigError("network.skips must name the finest features first")
        with torch.no_grad():
            features = self._features(torch.zeros(1, 3, self.options.height, self.options.width))
        return [level.shape[1] for level in features]
