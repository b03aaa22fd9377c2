"""Image -> global descriptor, with preprocessing inside so that robot and training cannot disagree."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.models.mobilenet_v2 import CHANNELS, MobileNetV2
from training.models.pooling import GeM

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class PlaceNetwork(nn.Module):
    """(N, H, W, 3) uint8 RGB -> (N, dim) float, unit length: MobileNetV2, GeM, whitening projection, L2."""

    mean: Tensor
    std: Tensor

    def __init__(self, dim: int = 256) -> None:
        super().__init__()
        self.register_buffer("mean", 255.0 * torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", 255.0 * torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))
        self.backbone = MobileNetV2()
        self.pool = GeM()
        self.projection = nn.Linear(CHANNELS, dim)

    def pooled(self, images: Tensor) -> Tensor:
        """(N, 1280), unit length: the features before the projection."""
        x = (images.permute(0, 3, 1, 2).float() - self.mean) / self.std  # channels last, as the image was: fastest
        return functional.normalize(self.pool(self.backbone(x)), dim=1)

    def forward(self, images: Tensor) -> Tensor:
        return functional.normalize(self.projection(self.pooled(images)), dim=1)

    def whiten(self, pooled: Tensor, power: float = 0.5) -> None:
        """Set the projection to the PCA whitening of `pooled` (M, 1280): y = L^-power U^T (x - m).

        `power` 0.5 whitens fully, 0 only rotates. Raises ValueError with fewer samples than dimensions.
        """
        dim = self.projection.out_features
        if len(pooled) < dim:
            raise ValueError(f"whitening to {dim} dimensions needs at least {dim} images, got {len(pooled)}")
        mean = pooled.mean(dim=0)
        centred = pooled - mean
        values, vectors = torch.linalg.eigh(centred.T @ centred / len(pooled))
        values, vectors = values[-dim:].flip(0), vectors[:, -dim:].flip(1)
        weight = (vectors * values.clamp(min=1e-9).pow(-power)).T
        with torch.no_grad():
            self.projection.weight.copy_(weight)
            self.projection.bias.copy_(-weight @ mean)

    def train(self, mode: bool = True) -> PlaceNetwork:
        """Batch normalisation keeps its ImageNet statistics: our batches mix worlds and are small."""
        super().train(mode)
        for module in self.backbone.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self
