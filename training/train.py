"""Train a place-recognition network by a recipe.

    python -m training.train training/recipes/small_gcl.yaml
    python -m training.train training/recipes/small_gcl.yaml loop.steps=20 loss.margin=0.7 --out /tmp/short
    python -m training.train training/recipes/small_gcl.yaml --resume            # goes on where it was killed
    torchrun --nproc-per-node 2 -m training.train RECIPE loop.devices=2            # also on several nodes: loop.nodes

The output folder gets recipe.yaml (everything, defaults too), last.ckpt to resume from, best.ckpt if the recipe validates,
tensorboard/ and metrics/ with the curves, and at the end network.safetensors for training.evaluate and training.export.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from training.command import one_line


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("recipe", type=Path, help="a YAML file of training/recipes/")
    made.add_argument("overrides", nargs="*", metavar="key=value", help="change a value of the recipe")
    made.add_argument("--out", type=Path, default=None, help="output folder (default: .training/RECIPE)")
    made.add_argument("--resume", action="store_true", help="go on from last.ckpt in the output folder")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().parse_intermixed_args(arguments)
    with one_line("train"):
        from training.fitting.run import train
        from training.options import parse_overrides
        from training.recipe import read_recipe

        recipe = read_recipe(options.recipe, parse_overrides(options.overrides))
        network = train(recipe, options.out or Path(".training") / options.recipe.stem, resume=options.resume)
    print(f"wrote {network}; now: python -m training.export {network} MODEL.onnx")


if __name__ == "__main__":
    main()
