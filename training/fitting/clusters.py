"""The cluster centres that a NetVLAD pooling begins with (docs/methods.md 2.1), found once and kept in the recipe's cache.

k-means over local descriptors of the backbone on training images. The file is found again by what it was made of: input,
size, backbone with its weights, pooling, images, guidance and seed.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from tqdm import tqdm

from training.attention.guidance import Guidance, guided
from training.data.batches import DESCRIBED_AT_ONCE, image_loader
from training.data.feature_masks import to_target
from training.data.image_set import ImageSet
from training.data.source import Source
from training.files import write_cache
from training.fitting.whitening import draw_images
from training.models.netvlad import NetVLADPooling, sample_local_descriptors
from training.models.place_network import PlaceNetwork
from training.recipe import Recipe
from vpr_ros.printable import on_one_line

IMAGES = 500
"""100 local descriptors of each: the 50,000 of docs/methods.md 2.1."""
LEAST_KEPT = 0.5
"""Of the area of a position, for a cluster to be found with it (docs/methods.md 2.1)."""
_VERSION = 1
"""Raise it when other clusters are found from the same data."""
_LOG = logging.getLogger(__name__)


def initialise(network: PlaceNetwork, recipe: Recipe, sources: Sequence[Source]) -> Path | None:
    """Set centres and assignment of a NetVLAD pooling, from its cache file if that is there; the path of the file.

    Other poolings need nothing: None. With guidance only sources with label maps are drawn from: of the others nobody
    knows what to leave out. A cache file that is damaged, or another's, costs a warning and the time to compute. Training
    draws the same random numbers afterwards, whether the file was there or not.

    Raises ConfigError where guidance finds no label maps, and what `NetVLADPooling.initialise` and `Guidance.mask` raise.
    """
    pool = network.pool
    if not isinstance(pool, NetVLADPooling):
        return None
    images = draw_images(guided(sources) if recipe.guidance else sources, IMAGES, recipe.seed)
    key = _key(network, images, recipe.guidance, recipe.seed)
    file = recipe.cache / "clusters" / f"{key}.safetensors"
    if not _load(file, pool, key):
        was_training = network.training
        network.eval()
        with torch.random.fork_rng(devices=[]):  # a data loader draws from it
            maps = _feature_maps(network, images, recipe.guidance, recipe.loop.workers)
            pool.initialise(sample_local_descriptors(maps, seed=recipe.seed), recipe.seed)
        network.train(was_training)
        _save(file, pool, key)
    return file


@torch.no_grad()
def _feature_maps(network: PlaceNetwork, images: ImageSet, guidance: Guidance | None, workers: int) -> Iterator[Tensor]:
    """(n, C, h, w) of the images that can be read, NaN where guidance ignores them."""
    size = network.backbone.size
    if guidance:
        kept = to_target(torch.from_numpy(guidance.precompute(images, *size, workers))) >= LEAST_KEPT
    else:
        kept = torch.ones(len(images), *size, dtype=torch.bool)
    batches = tqdm(image_loader(images, network.options, workers), "clustering", unit="batch", disable=None)
    for (batch, readable), here in zip(batches, kept.split(DESCRIBED_AT_ONCE), strict=True):
        if readable.any():
            features = network.features(batch[readable].to(network.device))
            yield features.masked_fill(~here[readable, None].to(features.device), torch.nan)


def _key(network: PlaceNetwork, images: ImageSet, guidance: Guidance | None, seed: int) -> str:
    """sha256 of all that the clusters depend on."""
    options = network.options
    made_of = {
        "version": _VERSION,
        "network": options.model_dump(mode="json", include={"input", "width", "height", "pool"}),
        "backbone": [options.backbone.name, options.backbone.last_block],
        "weights": hashlib.sha256(save(_state(network.backbone))).hexdigest(),
        "images": images.fingerprint(),
        "ignored": guidance.categories if guidance else (),
        "seed": seed,
    }
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()


def _state(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.cpu().contiguous() for name, tensor in module.state_dict().items()}


def _load(file: Path, pool: NetVLADPooling, key: str) -> bool:
    """Whether the cache file was there and is what it should be."""
    if not file.exists():
        return False
    try:
        with safe_open(file, framework="pt") as content:
            if (content.metadata() or {}).get("key") != key:
                raise ValueError("its clusters were made of something else")
            pool.load_state_dict({name: content.get_tensor(name) for name in content.keys()})  # noqa: SIM118
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        _LOG.warning("%s is damaged (%s): clusters are found again", file, on_one_line(error))
        return False
    return True


def _save(file: Path, pool: NetVLADPooling, key: str) -> None:
    def write(stream: IO[bytes]) -> None:
        stream.write(save(_state(pool), {"key": key}))

    write_cache(file, write)
