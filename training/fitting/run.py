"""Run a recipe: sources, network, what comes before the first step, the loop, and the trained network on disk."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import yaml
from numpy.typing import NDArray

from training.attention.guidance import guided
from training.catalog import open_sources
from training.data.image_set import ImageSet
from training.data.protocol import Part, across_sequences
from training.data.source import Source
from training.distillation.page import write_page
from training.files import write_whole
from training.fitting.checkpoint_file import load_checkpoint
from training.fitting.clusters import initialise
from training.fitting.module import PlaceTraining
from training.fitting.provenance import commit, data_fingerprint, record, weights_id
from training.fitting.trainer import Record, check_devices, make_trainer
from training.fitting.whitening import whiten, with_projection
from training.models.network_file import load_network, save_network
from training.models.place_network import PlaceNetwork
from training.options import differences
from training.recipe import Recipe, Whitening
from vpr_ros.errors import ConfigError, ImageError, TrainingError
from vpr_ros.files import check_writable
from vpr_ros.printable import on_one_line, printable


def train(recipe: Recipe, out: Path, *, resume: bool = False) -> Path:
    """Run a recipe; the path of the trained network.

    Raises TrainingError for a loss that is not finite, a full disk, a folder that holds another run, or a checkpoint that
    does not belong to the recipe and data; SourceError and ModelError for what the recipe names and is not there.
    """
    made_by = commit()  # of the code that runs, whatever happens to the checkout meanwhile
    last = out / "last.ckpt"
    goes_on = last.exists()
    if goes_on and not resume:
        raise TrainingError(f"{out} holds a run already: --resume goes on with it, --out chooses another folder")
    check_devices(recipe.loop)
    check_writable(out)
    pl.seed_everything(recipe.seed, verbose=False)
    sources = open_sources(recipe.sources, recipe.data_root, recipe.cache)
    for source in sources:
        print(printable(f"{source.images.name}: {len(source.images)} images"))
    parts = validation_parts(recipe)
    # the checkpoint has all weights: of a run that goes on the file of the pretrained ones may be gone
    options = recipe.network.without_weights() if goes_on else recipe.network
    network = load_start(recipe) if recipe.start else PlaceNetwork(options)
    if not (goes_on or recipe.start):
        prepare(network, recipe, sources)
    prepared = recipe.distillation and recipe.distillation.prepare(network, sources, recipe.seed, recipe.loop.workers)
    write_whole(out / "recipe.yaml", yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False).encode())
    if prepared:
        print(prepared.text())
        write_page(out / "distillation.html", prepared, sources)
    masks = guidance_masks(recipe, network, sources)
    module = PlaceTraining(recipe, network, sources, parts, prepared.distiller if prepared else None, masks)
    data = data_fingerprint(sources, recipe.networks)
    made_of = Record(recipe, data, made_by, weights_id(recipe))
    trainer = make_trainer(recipe, out, made_of)
    if recipe.loop.steps:
        try:
            trainer.fit(module, ckpt_path=str(last) if goes_on else None, weights_only=True)
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            if not goes_on or made_of.has_started:
                raise
            raise _does_not_fit(last, error) from error
    if (out / "best.ckpt").exists():
        best = load_checkpoint(out / "best.ckpt", "cpu")
        try:
            module.load_state_dict(best["state_dict"])
        except (RuntimeError, KeyError, TypeError, AttributeError) as error:
            raise _does_not_fit(out / "best.ckpt", error) from error
    path = out / "network.safetensors"
    if trainer.is_global_zero:
        if recipe.whitening and recipe.whitening.after:
            if recipe.whitening.dim:
                network = with_projection(network, recipe.whitening.dim)
            whiten_by(recipe, network, sources)
        save_network(network, path, record(recipe, sources, data, made_by))
    return path


def _does_not_fit(checkpoint: Path, error: Exception) -> TrainingError:
    reason = on_one_line(error)[:200]
    return TrainingError(f"{checkpoint} does not fit this recipe and version ({type(error).__name__}: {reason})")


def guidance_masks(recipe: Recipe, network: PlaceNetwork, sources: Sequence[Source]) -> list[NDArray[np.uint8]]:
    """(N, h, w) of each source, at feature resolution. Raises ConfigError where no source has label maps."""
    guidance = recipe.guidance
    if guidance is None:
        return []
    guided(sources)
    size, workers = network.backbone.size, recipe.loop.workers
    return [guidance.precompute(source.images, *size, workers) for source in sources]


def load_start(recipe: Recipe) -> PlaceNetwork:
    """The network that the recipe goes on from. Raises ConfigError where it is not the recipe's."""
    assert recipe.start
    network = load_network(recipe.start)
    theirs, ours = (options.without_weights().model_dump(mode="json") for options in (network.options, recipe.network))
    if changed := differences(theirs, ours, "network"):
        raise ConfigError(f"{recipe.start} is another network than the recipe's: {', '.join(changed)} differ")
    return network.train()


def prepare(network: PlaceNetwork, recipe: Recipe, sources: Sequence[Source]) -> None:
    """Before the first step: cluster centres of a VLAD pooling, whitening of the projection."""
    initialise(network, recipe, sources)
    if recipe.whitening and recipe.whitening.before:
        whiten_by(recipe, network, sources)


def whiten_by(recipe: Recipe, network: PlaceNetwork, sources: Sequence[Source]) -> None:
    """Fit the projection, if there is one, on training images as the recipe says, or by default where it says nothing."""
    options = recipe.whitening or Whitening()
    if network.options.dim:
        whiten(network, sources, options.images, options.power, seed=recipe.seed, workers=recipe.loop.workers)


def validation_parts(recipe: Recipe) -> list[Part]:
    """One question per set of the recipe's validation sources.

    Raises ConfigError where no query has a right answer, or none that can be read: every checkpoint would be as good.
    """
    if recipe.validation is None:
        return []
    sources = open_sources(recipe.validation.sources, recipe.data_root, recipe.cache)
    parts = [across_sequences(source.images, source.similarity) for source in sources]
    names = printable(", ".join(source.images.name for source in sources))
    if not any(len(positives) for part in parts for positives in part.positives):
        raise ConfigError(
            f"validation: nothing can be right: no query of {names} has an image with psi >= 0.5 in the first sequence, the map; "
            "see validation.sources, their labels and sequences"
        )
    if not any(_can_be_right(part, recipe) for part in parts):
        raise ConfigError(
            f"validation: no query of {names} can be read together with a right answer: its images are broken"
        )
    return parts


def _can_be_right(part: Part, recipe: Recipe) -> bool:
    """Whether some query and a right answer to it can be read: the first pair decides unless files are broken."""

    @cache
    def readable(images: ImageSet, index: int) -> bool:
        try:
            recipe.network.input.read(images, index)
        except ImageError:
            return False
        return True

    return any(
        readable(part.queries, query) and any(readable(part.database, int(right)) for right in positives)
        for query, positives in enumerate(part.positives)
        if len(positives)
    )
