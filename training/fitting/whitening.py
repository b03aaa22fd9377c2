"""PCA whitening of a network's projection, fitted on images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from training.data.batches import readable_batches
from training.data.image_set import ImageSet
from training.data.source import Source
from training.models.place_network import PlaceNetwork
from vpr_ros.errors import ConfigError


def pooled_features(network: PlaceNetwork, images: ImageSet, workers: int = 0) -> Tensor:
    """(M, D) float32 before the projection, of the readable images among N."""
    device, options, was_training = network.device, network.options, network.training
    network.eval()
    with torch.no_grad():
        batches = readable_batches(images, options, workers)
        found = [network.pooled(batch.to(device)).cpu() for batch in batches]
    network.train(was_training)
    if not found:
        raise ConfigError(f"{images.name}: no readable image to whiten with")
    return torch.cat(found)


def draw_images(sources: Sequence[Source], count: int, seed: int) -> ImageSet:
    """About `count` images, of each source as many as its share."""
    rng = np.random.default_rng(seed)
    total = sum(source.share for source in sources)
    drawn = []
    for source in sources:
        n = min(len(source.images), max(1, round(count * source.share / total)))
        drawn.append(source.images.take(np.sort(rng.choice(len(source.images), n, replace=False))))
    return ImageSet.union("drawn", drawn)


def whiten(
    network: PlaceNetwork, sources: Sequence[Source], count: int, power: float, *, seed: int, workers: int = 0
) -> None:
    """Fit on about `count` images, of each source as many as its share. Raises ConfigError for too few."""
    network.whiten(pooled_features(network, draw_images(sources, count, seed), workers), power)


def with_projection(network: PlaceNetwork, dim: int) -> PlaceNetwork:
    """The same network with a projection to `dim` that has yet to be fitted; an old projection is replaced."""
    made = PlaceNetwork(network.options.without_weights().model_copy(update={"dim": dim}))
    kept = {name: value for name, value in network.state_dict().items() if not name.startswith("projection.")}
    made.load_state_dict(kept, strict=False)
    return made.to(network.device).train(network.training)


def leading(network: PlaceNetwork, dim: int) -> PlaceNetwork:
    """The same network with the first `dim` rows of its projection: the whitening to so many dimensions, if it is one.

    Raises ConfigError where there are not so many.
    """
    projection = network.projection
    if not isinstance(projection, nn.Linear) or not 0 < dim <= projection.out_features:
        raise ConfigError(
            f"this network has no {dim} projected dimensions to keep: it has {network.options.dim or 'no'}"
        )
    made = with_projection(network, dim)
    made.projection.load_state_dict({name: value[:dim] for name, value in projection.state_dict().items()})
    return made
