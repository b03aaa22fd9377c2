"""Train variants of one recipe with the same data, budget and seeds, and compare them on data that none was trained on.

    python -m training.compare training/experiments/losses.yaml
    python -m training.compare training/experiments/losses.yaml --seeds 0 1 2 3 4 --out .training/five_seeds
    python -m training.compare training/experiments/deattention_pitts30k.yaml data_root=/my/data loop.workers=4

An experiment is a recipe, the overrides that make each variant, the seeds and the protocols; stages, if there are any, are
trained first, for variants to go on from. `key=value` changes the recipe of all of them. A run that was finished is not
repeated, one that was killed goes on. Each table has one row per variant, before and after PCA whitening with training
images, and the untrained start, with its difference to the first variant; below it the differences that the experiment
names. recall.png draws all of it.
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
    made.add_argument("experiment", type=Path, help="a YAML file of training/experiments/")
    made.add_argument("overrides", nargs="*", metavar="key=value", help="change a value of the recipe for all variants")
    made.add_argument("--seeds", type=int, nargs="+", help="other seeds than the experiment's")
    made.add_argument("--out", type=Path, help="folder of the runs (default: .training/EXPERIMENT)")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().parse_intermixed_args(arguments)
    with one_line("compare"):
        from training.experiment import Experiment, run
        from training.options import parse_overrides, read_yaml

        experiment = Experiment.checked(read_yaml(options.experiment), str(options.experiment))
        if options.seeds:
            experiment = experiment.model_copy(update={"seeds": tuple(options.seeds)})
        out = options.out or Path(".training") / options.experiment.stem
        run(experiment, options.experiment.parent, out, parse_overrides(options.overrides))


if __name__ == "__main__":
    main()
