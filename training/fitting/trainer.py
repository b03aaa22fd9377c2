"""Lightning's trainer as a recipe wants it, and the checkpoints that it writes and goes on from.

Checkpoints are read with `weights_only`: nothing pickled is run.
"""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO

from training.fitting.checkpoint_file import load_checkpoint, save_checkpoint
from training.fitting.module import RECALL
from training.options import differences
from training.recipe import LOCAL, MOVABLE, WEIGHTS, Loop, Recipe
from vpr_ros.errors import ConfigError, TrainingError


class CheckpointFile(TorchCheckpointIO):
    """Lightning's checkpoint files, written whole or not at all."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        save_checkpoint(checkpoint, Path(path))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        checkpoint = load_checkpoint(Path(path), map_location)
        if not isinstance(checkpoint.get("vpr_ros"), dict) or not checkpoint["vpr_ros"].keys() >= {"recipe", "data"}:
            raise TrainingError(f"{path} is no checkpoint of training.train")
        if missing := {"state_dict", "loops", "optimizer_states", "lr_schedulers", "batches_done"} - checkpoint.keys():
            raise TrainingError(f"{path} is no checkpoint of training.train: it has no {', '.join(sorted(missing))}")
        return checkpoint


class Record(pl.Callback):
    """Every checkpoint says what made it, and refuses to go on with something else.

    Where files lie may differ, what is in them may not: `data` has the networks that training begins with, `weights` the
    pretrained weights, as `weights_id` returns them.
    """

    def __init__(self, recipe: Recipe, data: str, commit: str, weights: str = "") -> None:
        plain = recipe.model_dump(mode="json")
        self.plain: dict[str, Any] = {"recipe": plain, "data": data, "commit": commit, "weights": weights}
        self.has_started = False
        """Whether what was restored from a checkpoint, if anything was, fits."""

    def on_train_start(self, trainer: Any, module: Any) -> None:
        self.has_started = True

    def on_save_checkpoint(self, trainer: Any, module: Any, checkpoint: dict[str, Any]) -> None:
        checkpoint["vpr_ros"] = self.plain

    def on_load_checkpoint(self, trainer: Any, module: Any, checkpoint: dict[str, Any]) -> None:
        was = checkpoint["vpr_ros"]
        weights, known = self.plain["weights"], was.get("weights", "")
        movable: tuple[str, ...] = MOVABLE
        if known and weights == known:
            movable += (WEIGHTS,)
        elif known and not weights:  # the file is gone: the checkpoint has all that was in it
            self.plain["weights"] = known
        changed = [key for key in differences(was["recipe"], self.plain["recipe"]) if key not in (*LOCAL, *movable)]
        if known and weights and weights != known and WEIGHTS not in changed:
            changed.append(WEIGHTS)
        if changed:
            raise TrainingError(f"the checkpoint was made with another recipe: {', '.join(changed)} differ")
        if was["data"] != self.plain["data"]:
            raise TrainingError("the checkpoint was made with other data: files or labels have changed since")


def check_devices(loop: Loop) -> None:
    """Raises ConfigError for devices that this machine does not have."""
    if loop.accelerator == "cpu":
        return
    there = torch.cuda.device_count()
    if loop.accelerator == "gpu" and not (there or torch.backends.mps.is_available()):
        raise ConfigError(
            "loop.accelerator is gpu, but torch sees none here (the driver, or a torch for the CPU); take loop.accelerator=cpu or auto"
        )
    if 0 < there < loop.devices:
        raise ConfigError(f"loop.devices is {loop.devices}, but there are {there} GPUs here")


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
