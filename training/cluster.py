"""The cluster centres that a NetVLAD pooling begins with, found once and kept in the recipe's cache.

    python -m training.cluster training/recipes/triplet_pitts30k_vgg16_netvlad.yaml
    python -m training.cluster RECIPE network.pool.clusters=32 seed=1 --out clusters.safetensors

k-means over local descriptors of the backbone on 500 training images, and the assignment that belongs to the centres
(docs/methods.md 2.1); with guidance, positions that show what it ignores are left out. training.train does the same where this has
not run before. The file is found again by what it was made of: input, size, backbone with its weights, pooling, images,
guidance and seed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from training.command import one_line
from vpr_ros.errors import ConfigError


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("recipe", type=Path, help="a YAML file of training/recipes/")
    made.add_argument("overrides", nargs="*", metavar="key=value", help="change a value of the recipe")
    made.add_argument("--out", type=Path, help="write centres and assignment here too")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().parse_intermixed_args(arguments)
    with one_line("cluster"):
        import torch
        from safetensors.torch import save

        from training.catalog import open_sources
        from training.files import write_whole
        from training.fitting.clusters import initialise
        from training.models.place_network import PlaceNetwork
        from training.options import parse_overrides
        from training.recipe import read_recipe

        recipe = read_recipe(options.recipe, parse_overrides(options.overrides))
        if recipe.start or recipe.network.pool.kind != "netvlad":
            raise ConfigError(
                f"{options.recipe} begins with no clusters: its pooling is not netvlad, or it has a start"
            )
        sources = open_sources(recipe.sources, recipe.data_root, recipe.cache)
        torch.manual_seed(recipe.seed)  # as training.train, for a backbone without pretrained weights
        network = PlaceNetwork(recipe.network)
        file = initialise(network, recipe, sources)
        if options.out:
            state = {name: tensor.cpu().contiguous() for name, tensor in network.pool.state_dict().items()}
            write_whole(options.out, save(state))
    print(f"{recipe.network.pool.clusters} clusters in {options.out or file}")


if __name__ == "__main__":
    main()
