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

from training.command import one_line

COUNT = 2500
"""Of training images, as many as recipes of shipped models use."""


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("network", type=Path, help="a network.safetensors of training.train")
    made.add_argument("out", type=Path, help="the whitened network to write")
    how = made.add_mutually_exclusive_group(required=True)
    how.add_argument("--on", type=Path, nargs="+", help="folders of images to fit on")
    how.add_argument("--on-training-images", action="store_true", help="fit on images that its recipe trains on")
    how.add_argument("--keep", type=int, metavar="DIM", help="fit nothing: keep the first dimensions")
    made.add_argument("--dim", type=int, help="of the descriptor (default: that of the network's projection)")
    made.add_argument("--power", type=float, default=0.5, help="0.5 whitens fully, 0 only rotates (default: 0.5)")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    with one_line("whiten"):
        from training.catalog import open_sources
        from training.data.image_set import ImageSet
        from training.fitting.whitening import draw_images, leading, pooled_features, with_projection
        from training.models.network_file import load_network, read_metadata, save_network
        from training.recipe import Recipe
        from vpr_ros.sources.folders import image_files

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
    print(f"wrote {options.out}: {done}")


if __name__ == "__main__":
    main()
