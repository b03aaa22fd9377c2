"""From the pixels of an image or a label map to what a backbone takes: inside the network, on its device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from training.data.classes import NO_CLUSTER
from training.data.inputs import Rgb, Semantic

PALETTE_SEED = 0


class Normalise(nn.Module):
    """(N, H, W, 3) uint8 RGB -> (N, 3, H, W) float32; `mean` and `std` are of values in [0, 1]."""

    channels = 3
    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", 255.0 * torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", 255.0 * torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        # channels last, as the image was: fastest
        return (images.permute(0, 3, 1, 2).float() - self.mean) / self.std


class WeightedOneHot(nn.Module):
    """(N, H, W) uint8 numbers of clusters -> (N, C, H, W) float32: the cluster's weight in its channel, 0 elsewhere.

    The encoding of the SEG branch (docs/methods.md 3.5). Pixels without a cluster are 0 in every channel.
    """

    rows: Tensor

    def __init__(self, weights: Sequence[float]) -> None:
        super().__init__()
        self.channels = len(weights)
        rows = torch.zeros(NO_CLUSTER + 1, self.channels)
        rows[: self.channels] = torch.diag(torch.tensor(weights))
        self.register_buffer("rows", rows)

    def forward(self, clusters: Tensor) -> Tensor:
        # a row per pixel: one gather, and its layout is channels last
        return self.rows[clusters.int()].permute(0, 3, 1, 2)


def encoding(see: Rgb | Semantic, mean: Sequence[float], std: Sequence[float]) -> Normalise | WeightedOneHot:
    """What `see` becomes, for a backbone whose images have this `mean` and `std`."""
    return Normalise(mean, std) if see.kind == "rgb" else WeightedOneHot(list(see.weights.values()))


def widen(backbone: nn.Module, channels: int) -> None:
    """Give the first convolution `channels` input channels instead of three.

    Each channel starts as a random colour that the old weights see: the pretrained network looks at a label map painted in
    the colours of a palette. The mean of the old filters, the usual start, could not tell two clusters of one weight apart.
    """
    name, old = next((name, m) for name, m in backbone.named_modules() if isinstance(m, nn.Conv2d))
    parent, _, last = name.rpartition(".")
    bias = old.bias is not None
    stride, padding = (old.stride[0], old.stride[1]), (int(old.padding[0]), int(old.padding[1]))
    new = nn.Conv2d(channels, old.out_channels, (old.kernel_size[0], old.kernel_size[1]), stride, padding, bias=bias)
    palette = torch.randn(channels, 3, generator=torch.Generator().manual_seed(PALETTE_SEED))
    with torch.no_grad():
        new.weight.copy_(torch.einsum("ok...,ck->oc...", old.weight, palette))
        if old.bias is not None and new.bias is not None:
            new.bias.copy_(old.bias)
    new.requires_grad_(old.weight.requires_grad)
    setattr(backbone.get_submodule(parent), last, new)
