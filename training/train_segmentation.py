"""Train a segmentation network by a recipe, measure it on images never trained on, and write it as one ONNX file.

    python -m training.train_segmentation training/recipes/segmentation_camvid.yaml
    python -m training.train_segmentation training/recipes/segmentation_camvid.yaml loop.steps=20 --out /tmp/short
    python -m training.train_segmentation training/recipes/segmentation_camvid.yaml --resume   # goes on where it was killed

The output folder gets recipe.yaml (everything, defaults too), last.ckpt to resume from, log.csv (step, loss, mIoU on the
validation images) and segmentation.onnx for training.segment. Without --resume nothing of an older run is overwritten.
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
    made.add_argument("recipe", type=Path, help="a YAML file, as training/recipes/segmentation_camvid.yaml")
    made.add_argument("overrides", nargs="*", metavar="key=value", help="change a value of the recipe")
    made.add_argument("--out", type=Path, default=None, help="output folder (default: .training/RECIPE)")
    made.add_argument("--resume", action="store_true", help="go on from last.ckpt in the output folder")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().parse_intermixed_args(arguments)
    out = options.out or Path(".training") / options.recipe.stem
    with one_line("train_segmentation"):
        from training.data.classes import read_table
        from training.fitting.provenance import commit
        from training.fitting.segmentation import accuracy_lines, read_recipe, train, write_model

        made_by = commit()  # of the code that runs, whatever happens to the checkout meanwhile
        recipe = read_recipe(options.recipe, options.overrides)
        network = train(recipe, out, resume=options.resume)
        counts = write_model(network, recipe, out / "segmentation.onnx", made_by)
    print(f"{recipe.test.images}: intersection over union")
    print("\n".join(accuracy_lines(counts, read_table(recipe.table))))
    print(
        f"wrote {out}/segmentation.onnx; now: python -m training.segment IMAGES --model {out}/segmentation.onnx --out LABELS"
    )


if __name__ == "__main__":
    main()
