"""PCA whitening of a trained network's projection, fitted on the images it will be used with.

    python -m training.whiten .training/gcl/network.safetensors whitened.safetensors --on ../shared/data/gardenspoint/day_left
    python -m training.whiten network.safetensors for_my_robot.safetensors --on map_images/ --power 0.4
    python -m training.whiten network.safetensors whitened.safetensors --on-training-images --dim 512 --power 0.4
    python -m training.whiten network.safetensors smaller.safetensors --keep 128

A robot's own map is known before it is driven in, so fitting on it is fair there; in an evaluation it is transductive (the
GCL paper does it) and has to be said. The file remembers what it was fitted on. The dimensions of a whitened descriptor
come in order of the variance that they explain: `--keep` drops the last ones of a network that is whitened already.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from training.checkpoint import load_network, read_metadata, save_network
from training.data.batches import readable_batches
from training.data.catalog import open_sources
from training.data.image_set import ImageSet
from training.data.source import Source
from training.models.place_network import PlaceNetwork
from training.recipe import Recipe
from vpr_ros.errors import ConfigError, VprError
from vpr_ros.sources.folders import image_files

COUNT = 2500
"""Of training images, as many as recipes of shipped models use."""


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


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", type=Path, help="a network.safetensors of training.train")
    parser.add_argument("out", type=Path, help="the whitened network to write")
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--on", type=Path, nargs="+", help="folders of images to fit on")
    how.add_argument("--on-training-images", action="store_true", help="fit on images that its recipe trains on")
    how.add_argument("--keep", type=int, metavar="DIM", help="fit nothing: keep the first dimensions")
    parser.add_argument("--dim", type=int, help="of the descriptor (default: that of the network's projection)")
    parser.add_argument("--power", type=float, default=0.5, help="0.5 whitens fully, 0 only rotates (default: 0.5)")
    options = parser.parse_args(arguments)
    try:
        network, metadata = load_network(options.network), read_metadata(options.network)
        if options.keep:
            network, done = leading(network, options.keep), f"the first {options.keep} dimensions"
        else:
            if options.dim:
                network = with_projection(network, options.dim)
            if options.on_training_images:
                recipe = Recipe.checked(json.loads(metadata["recipe"]), f"the recipe of {options.network}")
                images = draw_images(open_sources(recipe.sources, recipe.data_root, recipe.cache), COUNT, recipe.seed)
                where = "that it was trained on"
            else:
                images = ImageSet.of("map", [path for folder in options.on for path in image_files(folder)])
                where = f"of {', '.join(map(str, options.on))}"
            network.whiten(pooled_features(network, images), options.power)
            metadata["whitened_on"] = f"{len(images)} images {where}"
            done = f"whitened on {metadata['whitened_on']}"
        save_network(network, options.out, metadata)
    except VprError as error:
        raise SystemExit(f"whiten: {error}") from error
    print(f"wrote {options.out}: {done}")


if __name__ == "__main__":
    main()
