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
import hashlib
import io
import json
import logging
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
import yaml
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from numpy.typing import NDArray

from training.checkpoint import commit, load_network, save_network, write_whole
from training.cluster import initialise
from training.data.catalog import open_sources
from training.data.protocol import Part, across_sequences
from training.data.source import Source
from training.distillation.page import write_page
from training.guidance import guided
from training.models.place_network import PlaceNetwork
from training.module import RECALL, PlaceTraining
from training.options import parse_overrides
from training.recipe import Recipe, Whitening, differences, read_recipe
from training.whiten import whiten, with_projection
from vpr_ros.errors import ConfigError, TrainingError, VprError

LOCAL = ("data_root", "cache", "loop.workers", "loop.checkpoint_every", "loop.accelerator")
"""What may differ when a run is resumed: nothing that changes a loss."""


class CheckpointFile(TorchCheckpointIO):
    """Lightning's checkpoint files, written whole or not at all."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        content = io.BytesIO()
        torch.save(checkpoint, content)
        write_whole(Path(path), content.getbuffer())

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        try:
            return torch.load(path, map_location=map_location, weights_only=True)
        except (OSError, RuntimeError, EOFError, UnpicklingError) as error:
            raise TrainingError(f"{path} cannot be read as a checkpoint of training.train") from error


class _Record(pl.Callback):
    """Every checkpoint says what made it, and refuses to go on with something else."""

    def __init__(self, recipe: Recipe, data: str, commit: str) -> None:
        self.plain: dict[str, Any] = {"recipe": recipe.model_dump(mode="json"), "data": data, "commit": commit}

    def on_save_checkpoint(self, trainer: Any, module: Any, checkpoint: dict[str, Any]) -> None:
        checkpoint["vpr_ros"] = self.plain

    def on_load_checkpoint(self, trainer: Any, module: Any, checkpoint: dict[str, Any]) -> None:
        was = checkpoint.get("vpr_ros")
        if was is None:
            raise TrainingError("the checkpoint is not one of training.train")
        changed = [key for key in differences(was["recipe"], self.plain["recipe"]) if key not in LOCAL]
        if changed:
            raise TrainingError(f"the checkpoint was made with another recipe: {', '.join(changed)} differ")
        if was["data"] != self.plain["data"]:
            raise TrainingError("the checkpoint was made with other data: files or labels have changed since")


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
    pl.seed_everything(recipe.seed, verbose=False)
    sources = open_sources(recipe.sources, recipe.data_root, recipe.cache)
    for source in sources:
        print(f"{source.images.name}: {len(source.images)} images")
    parts = validation_parts(recipe)
    network = load_start(recipe) if recipe.start else PlaceNetwork(recipe.network)
    if not (goes_on or recipe.start):
        prepare(network, recipe, sources)
    prepared = recipe.distillation and recipe.distillation.prepare(network, sources, recipe.seed, recipe.loop.workers)
    out.mkdir(parents=True, exist_ok=True)
    (out / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False))
    if prepared:
        print(prepared.text())
        write_page(out / "distillation.html", prepared, sources)
    masks = guidance_masks(recipe, network, sources)
    module = PlaceTraining(recipe, network, sources, parts, prepared.distiller if prepared else None, masks)
    data = data_fingerprint(sources, recipe.networks)
    trainer = make_trainer(recipe, out, _Record(recipe, data, made_by))
    if recipe.loop.steps:
        trainer.fit(module, ckpt_path=str(last) if goes_on else None, weights_only=True)
    if (out / "best.ckpt").exists():
        best = torch.load(out / "best.ckpt", map_location="cpu", weights_only=True)
        module.load_state_dict(best["state_dict"])
    path = out / "network.safetensors"
    if trainer.is_global_zero:
        if recipe.whitening and recipe.whitening.after:
            if recipe.whitening.dim:
                network = with_projection(network, recipe.whitening.dim)
            whiten_by(recipe, network, sources)
        save_network(network, path, record(recipe, sources, data, made_by))
    return path


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


def make_trainer(recipe: Recipe, out: Path, record: pl.Callback) -> pl.Trainer:
    loop, validation = recipe.loop, recipe.validation
    callbacks: list[pl.Callback] = [
        record,
        LearningRateMonitor(logging_interval="step"),
        ModelCheckpoint(out, "last", every_n_train_steps=loop.checkpoint_every, enable_version_counter=False),
    ]
    if validation:
        callbacks.append(ModelCheckpoint(out, "best", monitor=RECALL, mode="max", enable_version_counter=False))
        if validation.patience:
            callbacks.append(EarlyStopping(RECALL, patience=validation.patience, mode="max"))
    several = loop.devices * loop.nodes > 1
    quiet_lightning()
    return pl.Trainer(
        max_steps=loop.steps,
        max_epochs=-1,
        accumulate_grad_batches=loop.accumulate,
        precision=loop.precision,
        gradient_clip_val=loop.clip_gradient,
        accelerator=loop.accelerator,
        devices=loop.devices,
        num_nodes=loop.nodes,
        strategy="ddp" if several else "auto",
        use_distributed_sampler=False,
        reload_dataloaders_every_n_epochs=1,
        val_check_interval=validation.every * loop.accumulate if validation else None,
        check_val_every_n_epoch=None if validation else 1,
        limit_val_batches=None if validation else 0,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        logger=[TensorBoardLogger(out, "tensorboard", ""), CSVLogger(out, "metrics", flush_logs_every_n_steps=10)],
        callbacks=callbacks,
        plugins=[CheckpointFile()],
        enable_progress_bar=sys.stderr.isatty(),
        enable_model_summary=False,
    )


def quiet_lightning() -> None:
    """Silence what is true of every run here and would be read as a mistake."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for message in (
        "your dataloader is not resumable",  # ours begins after the batches that are done
        "does not have many workers",
        "exists and is not empty",
        "in eval mode at the start of training",  # frozen batch normalisation
        "isinstance.treespec, LeafSpec",
    ):
        warnings.filterwarnings("ignore", message=f".*{message}")


def validation_parts(recipe: Recipe) -> list[Part]:
    """One question per set of the recipe's validation sources."""
    if recipe.validation is None:
        return []
    sources = open_sources(recipe.validation.sources, recipe.data_root, recipe.cache)
    return [across_sequences(source.images, source.similarity) for source in sources]


def data_fingerprint(sources: Sequence[Source], networks: Sequence[Path] = ()) -> str:
    """sha256 of images and labels, and of the networks that training begins with."""
    digest = hashlib.sha256()
    for network in networks:
        digest.update(network.read_bytes())
    for source in sources:
        digest.update(source.images.fingerprint().encode())
        digest.update(np.ascontiguousarray(source.similarity.data).tobytes())
    return digest.hexdigest()


def record(recipe: Recipe, sources: Sequence[Source], data: str, made_by: str) -> dict[str, str]:
    """The metadata of a trained network."""
    return {
        "name": recipe.name,
        "recipe": json.dumps(recipe.model_dump(mode="json")),
        "trained_on": "; ".join(f"{source.images.name} ({len(source.images)} images)" for source in sources),
        "data": data,
        "commit": made_by,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path, help="a YAML file of training/recipes/")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="change a value of the recipe")
    parser.add_argument("--out", type=Path, default=None, help="output folder (default: .training/RECIPE)")
    parser.add_argument("--resume", action="store_true", help="go on from last.ckpt in the output folder")
    options = parser.parse_intermixed_args(arguments)
    try:
        recipe = read_recipe(options.recipe, parse_overrides(options.overrides))
        network = train(recipe, options.out or Path(".training") / options.recipe.stem, resume=options.resume)
    except VprError as error:
        raise SystemExit(f"train: {error}") from error
    print(f"wrote {network}; now: python -m training.export {network} MODEL.onnx")


if __name__ == "__main__":
    main()
