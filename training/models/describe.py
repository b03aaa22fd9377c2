"""Descriptors of many images by a network in training."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from training.data.batches import image_loader
from training.data.image_set import ImageSet
from training.models.place_network import PlaceNetwork


@torch.no_grad()
def describe(network: PlaceNetwork, images: ImageSet, workers: int = 0) -> NDArray[np.float32]:
    """(N, D) descriptors, NaN where the file cannot be read. The network is in evaluation mode meanwhile."""
    was_training = network.training
    network.eval()
    found, is_read = [], []
    loader = image_loader(images, network.options, workers)
    for batch, readable in tqdm(loader, desc=f"describing {images.name}", unit="batch", disable=None, leave=False):
        found.append(network(batch.to(network.device)).float().cpu())
        is_read.append(readable)
    network.train(was_training)
    return torch.cat(found).masked_fill(~torch.cat(is_read)[:, None], math.nan).numpy()
