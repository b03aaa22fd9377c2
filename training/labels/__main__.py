"""Label the images of a recipe and show what came out: how psi is distributed, and pairs to judge by eye.

    python -m training.labels training/recipes/small_gcl.yaml
    python -m training.labels RECIPE.yaml sources.0.labels.radius_m=30 --out radius_30.html

The labels are kept in the recipe's cache, where training finds them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from training.command import one_line

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from training.data.image_set import ImageSet
    from training.recipe import Recipe


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="python -m training.labels",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("recipe", type=Path, help="a YAML file of training/recipes/")
    made.add_argument("overrides", nargs="*", metavar="key=value", help="change a value of the recipe")
    made.add_argument("--out", type=Path, help="page to write (default: .training/RECIPE_labels.html)")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().parse_intermixed_args(arguments)
    out = options.out or Path(".training") / f"{options.recipe.stem}_labels.html"
    with one_line("labels"):
        from training.labels.page import write_page
        from training.labels.pairs import PairCounts
        from training.options import parse_overrides
        from training.recipe import read_recipe

        labelled = list(_labelled(read_recipe(options.recipe, parse_overrides(options.overrides))))
        write_page(labelled, out)
    for images, similarity, _ in labelled:
        pairs = PairCounts.of(similarity)
        print(
            f"{images.name}: {len(images)} images; pairs: {pairs.positive} positive, {pairs.soft} soft, "
            f"{pairs.unrelated} unrelated, {pairs.unknown} unknown"
        )
    print(f"wrote {out}")


def _labelled(recipe: Recipe) -> Iterator[tuple[ImageSet, csr_array, str]]:
    """Each set of the training and validation sources, psi of its pairs, and the rule's options."""
    from training.catalog import open_sources

    for entry in (*recipe.sources, *(recipe.validation.sources if recipe.validation else ())):
        rule = ", ".join(f"{name}={value}" for name, value in entry.labels.model_dump().items())
        for source in open_sources([entry], recipe.data_root, recipe.cache):
            yield source.images, source.similarity, rule


if __name__ == "__main__":
    main()
