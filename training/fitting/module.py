"""The training step, for Lightning: it brings mixed precision, accumulation, several processes, resuming and logs."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from training.data.batches import Batch, TrainingBatches, batch_loader, image_loader
from training.data.feature_masks import to_target
from training.data.mining import Mined, mine
from training.data.protocol import Part
from training.data.sampling import MinedTriplets
from training.data.source import Source
from training.distillation import Distiller
from training.fitting.learning_rate import learning_rate_share
from training.models.describe import describe
from training.models.place_network import PlaceNetwork
from training.recipe import Recipe
from vpr_ros.errors import TrainingError
from vpr_ros.printable import printable

RECALL = "validation/recall@1"
DEGENERATE = 0.03
"""A mask whose mean over a batch is so near to 0 or to 1 is said to be degenerate."""
MASK_EVERY = 20
"""Steps between two looks at it."""
THROUGHPUT_EVERY = 10
"""Batches between two measurements of images per second."""


class PlaceTraining(pl.LightningModule):
    """`network` on batches of `sources` by `recipe`; `parts` ask for recall@1 on the way, `distiller` teaches beside.

    `masks` (N, h, w) uint8 of the images of each source guide its attention, if the recipe says so.
    """

    def __init__(
        self,
        recipe: Recipe,
        network: PlaceNetwork,
        sources: Sequence[Source],
        parts: Sequence[Part] = (),
        distiller: Distiller | None = None,
        masks: Sequence[NDArray[np.uint8]] = (),
    ) -> None:
        super().__init__()
        self.recipe, self.network, self.sources, self.parts = recipe, network, sources, parts
        self.distiller, self.masks = distiller, masks
        self.is_degenerate = False
        self.batches_done = 0
        """Of this process, since the beginning of training."""
        self.mined: Mined | None = None
        self.unreadable: set[str] = set()
        self._described: dict[int, list[tuple[Tensor, Tensor]]] = {}
        self._clock: tuple[float, int] | None = None

    # --- batches -----------------------------------------------------------------------------------------------------

    @property
    def round_batches(self) -> int:
        """Batches of one process between two minings; without mining, all of training."""
        sampling = self.recipe.sampling
        total = self.recipe.loop.steps * self.recipe.loop.accumulate
        if isinstance(sampling, MinedTriplets):
            return min(total, max(1, sampling.refresh_queries // (sampling.tuples * self.trainer.world_size)))
        return total

    def train_dataloader(self) -> DataLoader[Batch]:
        size = self.round_batches
        start = self.batches_done // size * size
        sampling = self.recipe.sampling
        if isinstance(sampling, MinedTriplets):
            if self.batches_done == start or self.mined is None:
                self.mined = self._mine(sampling, start)
            sampling = sampling.with_table(self.mined)
        batches = TrainingBatches(self.sources, sampling, self.recipe.network, self.recipe.seed, self.masks)
        return batch_loader(
            batches,
            start,
            start + size,
            self.batches_done,
            rank=self.global_rank,
            ranks=self.trainer.world_size,
            workers=self.recipe.loop.workers,
        )

    def _mine(self, sampling: MinedTriplets, start: int) -> Mined:
        rng = np.random.default_rng((self.recipe.seed, start, 1))  # the same on every process
        mined = mine(rng, self.sources, self.describe, sampling, previous=self.mined)
        self.log_now("mining/triplets", float(len(mined.source)))
        return mined

    def describe(self, source: int, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        """(n, D) descriptors of images of a source, NaN where the file cannot be read."""
        images, sampling = self.sources[source].images.take(indices), self.recipe.sampling
        bare = isinstance(sampling, MinedTriplets) and not sampling.with_attention
        with self.network.without_attention() if bare else nullcontext():
            found = describe(self.network, images, self.recipe.loop.workers)
        self._say_unreadable(str(images.paths[i]) for i in np.flatnonzero(np.isnan(found[:, 0])))
        return found

    # --- the step ----------------------------------------------------------------------------------------------------

    def training_step(self, batch: Batch, _: int) -> Tensor:
        descriptors, mask = self.network.with_mask(batch.images)
        descriptors = descriptors.float()
        loss = self.recipe.loss(descriptors, batch.targets)
        if self.distiller:
            distillation = self.distiller.loss(descriptors, batch.views)
            self.log_dict({"loss/places": loss, "loss/distillation": distillation})
            loss = loss + distillation
        if mask is not None:
            self._watch(mask.detach())
        if self.recipe.guidance and mask is not None and batch.masks is not None:
            guided = self.recipe.guidance.loss_of(mask, to_target(batch.masks))
            self.log("loss/mask", guided)
            loss = loss + self.recipe.guidance.weight_at(self.global_step) * guided
        self.batches_done += 1
        self._say_unreadable(batch.unreadable)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss.item()} at step {self.global_step}; lower optimiser.learning_rate, or use "
                "loop.precision=32-true and loop.clip_gradient=1. The last checkpoint is from before."
            )
        self.log("loss", loss, prog_bar=True)
        return loss

    def _watch(self, mask: Tensor) -> None:
        """Say once that a mask has become the same everywhere: then it tells nothing, and all 0 leaves nothing to pool."""
        mean = mask.mean()
        self.log_dict({"mask/mean": mean, "mask/deviation": mask.std()})
        if self.global_step % MASK_EVERY:
            return  # to look would make a GPU wait
        low, high = bool(mean < DEGENERATE), bool(mean > 1 - DEGENERATE)
        if (low or high) and not self.is_degenerate:
            self.print(
                f"the attention's mask is {'0' if low else '1'} nearly everywhere at step {self.global_step}: "
                + ("the descriptors are made of little" if low else "it ignores nothing")
                + "; see guidance.categories and guidance.weight"
            )
        self.is_degenerate = low or high

    def _say_unreadable(self, paths: Iterable[str]) -> None:
        for path in paths:
            if path not in self.unreadable:
                self.unreadable.add(path)
                self.print(
                    f"cannot read {printable(path)}: left out of its batches ({len(self.unreadable)} such images so far)"
                )

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        now = time.perf_counter()
        if self._clock is None:
            self._clock = (now, self.batches_done)
        elif self.batches_done - self._clock[1] >= THROUGHPUT_EVERY:
            images = len(batch.images) * (self.batches_done - self._clock[1]) * self.trainer.world_size
            self.log("images_per_second", images / (now - self._clock[0]))
            self._clock = (now, self.batches_done)

    def configure_optimizers(self) -> Any:
        options = self.recipe.optimiser
        rates = {True: options.learning_rate, False: options.learning_rate * options.head_factor}
        named = [(name, p) for name, p in self.network.named_parameters() if p.requires_grad]
        trained = [
            {"params": [p for name, p in named if name.startswith("backbone.") == is_backbone], "lr": rate}
            for is_backbone, rate in rates.items()
        ]
        optimiser: torch.optim.Optimizer
        if options.kind == "adamw":
            optimiser = torch.optim.AdamW(trained, options.learning_rate, weight_decay=options.weight_decay)
        else:
            optimiser = torch.optim.SGD(
                trained, options.learning_rate, options.momentum, weight_decay=options.weight_decay
            )
        steps = self.recipe.loop.steps
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: learning_rate_share(step, options, steps))
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    # --- validation --------------------------------------------------------------------------------------------------

    def val_dataloader(self) -> list[DataLoader[Any]]:
        recipe = self.recipe
        sets = [images for part in self.parts for images in (part.database, part.queries)]
        return [image_loader(images, recipe.network, recipe.loop.workers) for images in sets]

    def on_validation_epoch_start(self) -> None:
        self._described = {}

    def validation_step(self, batch: list[Tensor], _: int, dataloader_idx: int = 0) -> None:
        images, readable = batch
        described = self.network(images).float().cpu(), readable.cpu()
        self._described.setdefault(dataloader_idx, []).append(described)

    def on_validation_epoch_end(self) -> None:
        # every process describes every image: simple, exact, and validation is short
        right = [self._right(2 * i, 2 * i + 1, part) for i, part in enumerate(self.parts)]
        answers = torch.cat(right).float()
        if not len(answers):
            raise TrainingError("validation: no query can be read together with a right answer any more")
        recall = float(answers.mean())
        self.log(RECALL, recall, prog_bar=True)

    def _right(self, database: int, queries: int, part: Part) -> Tensor:
        """(Q',) bool: is the first answer right, of the queries that can be read and have one that can."""
        (d, d_ok), (q, q_ok) = (
            [torch.cat(parts) for parts in zip(*self._described[loader], strict=True)] for loader in (database, queries)
        )
        similarity = (q @ d.T).masked_fill(~d_ok, -math.inf)
        first = similarity.argmax(dim=1).tolist()
        asked = [i for i, positives in enumerate(part.positives) if q_ok[i] and bool(d_ok[positives].any())]
        return torch.tensor([first[i] in part.positives[i] for i in asked])

    # --- what a checkpoint carries -----------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["batches_done"] = self.batches_done
        checkpoint["mined"] = self.mined.to_state() if self.mined else None

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.batches_done = checkpoint["batches_done"]
        self.mined = Mined.from_state(checkpoint["mined"]) if checkpoint["mined"] else None

    def log_now(self, name: str, value: float) -> None:
        """Log outside of Lightning's steps."""
        for logger in self.loggers:
            logger.log_metrics({name: value}, step=self.global_step)
