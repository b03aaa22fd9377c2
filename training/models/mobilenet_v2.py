"""MobileNetV2 features (Sandler et al., CVPR 2018), with torchvision's parameter names.

Written here because torchvision has no CPU build in our development environment, and the weights at hand use its names.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from vpr_ros.errors import ModelError

# expansion, output channels, blocks, stride of the first block: table 2 of the paper
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
CHANNELS = 1280


def _convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(),
    )


class InvertedResidual(nn.Module):
    """Expand by 1x1, filter by depthwise 3x3, project linearly; a shortcut where the shape allows it."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.has_shortcut = stride == 1 and inputs == outputs
        expand = [_convolution(inputs, hidden, kernel=1)] if expansion != 1 else []
        self.conv = nn.Sequential(
            *expand,
            _convolution(hidden, hidden, stride=stride, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.has_shortcut else self.conv(x)


class MobileNetV2(nn.Module):
    """(N, 3, H, W) float -> (N, 1280, H/32, W/32)."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [_convolution(3, 32, stride=2)]
        inputs = 32
        for expansion, outputs, blocks, stride in STAGES:
            for block in range(blocks):
                layers.append(InvertedResidual(inputs, outputs, stride if block == 0 else 1, expansion))
                inputs = outputs
        layers.append(_convolution(inputs, CHANNELS, kernel=1))
        self.features = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x)

    def load_imagenet(self, path: Path) -> None:
        """Load a torchvision state dict; its classifier is left out. Raises ModelError if any feature weight is missing."""
        state = torch.load(path, map_location="cpu", weights_only=True)
        missing, unexpected = self.load_state_dict(state, strict=False)
        foreign = [key for key in unexpected if not key.startswith("classifier.")]
        if missing or foreign:
            raise ModelError(
                f"{path} does not hold MobileNetV2 weights: missing {missing[:3]}, unexpected {foreign[:3]}"
            )
