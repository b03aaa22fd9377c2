"""What a de-attention head learns to ignore: masks of what moves, and of the sky, from label maps (docs/methods.md 2.2 and 2.4).

Training only: a network that has learnt its mask needs no label map.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from training.data.feature_masks import IGNORE, KEEP, LARGEST_SHARE, UNKNOWN, at_features
from training.data.image_set import ImageSet
from training.data.source import Source
from training.options import Options
from vpr_ros.errors import ConfigError, ImageError

_LOG = logging.getLogger(__name__)


class Guidance(Options):
    """The mask that a de-attention head is taught beside the loss of the recipe.

    - `categories`: categories or classes to ignore; the table of every source has to know them all, because a name that
      one of them lacks teaches two truths;
    - `loss`: of predicted against true mask;
    - `weight`: of that loss in the total; from step `after_steps` on it is `weight_after`, if these are given. The
      published scripts use 0.1; the schedule of their code is 0.1 for four epochs, then 0.001.
    """

    categories: tuple[str, ...] = Field(default=("human", "vehicle", "sky"), min_length=1)
    loss: Literal["mse", "bce"] = "mse"
    weight: float = Field(default=0.1, ge=0)
    weight_after: float | None = Field(default=None, ge=0)
    after_steps: int | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _schedule_is_whole(self) -> Self:
        if (self.weight_after is None) != (self.after_steps is None):
            raise ValueError("weight_after and after_steps go together: the second weight, and when it begins")
        return self

    def weight_at(self, step: int) -> float:
        """The weight of the mask loss at an optimiser step."""
        if self.weight_after is None or self.after_steps is None or step < self.after_steps:
            return self.weight
        return self.weight_after

    def mask(self, images: ImageSet, index: int) -> NDArray[np.uint8]:
        """(H, W) at the size of the label map: `IGNORE` at pixels of the categories, else `KEEP`, also where void.

        Raises ImageError for a label map that cannot be read, SourceError for one with a class that its table lacks,
        ConfigError for a set without label maps or a table without one of the categories.
        """
        labels, table = images.label_map(index)
        return np.where(table.named(self.categories), IGNORE, KEEP).astype(np.uint8)[labels]

    def precompute(self, images: ImageSet, height: int, width: int, workers: int = 0) -> NDArray[np.uint8]:
        """(N, height, width): the masks at feature resolution, one byte per position, which `to_target` reads.

        1.2 kB per image at 30 x 40, so they stay in memory. `UNKNOWN` where a set has no label maps, or one cannot be read,
        which costs a warning. `workers` threads read. Raises SourceError and ConfigError as `mask` does.
        """
        if images.label_maps is None:
            return np.full((len(images), height, width), UNKNOWN, np.uint8)
        with ThreadPoolExecutor(max(1, workers)) as pool:
            rows = pool.map(partial(self._shares, images, height, width), range(len(images)))
            return np.stack(
                list(tqdm(rows, f"masks of {images.name}", len(images), unit="image", disable=None, leave=False))
            )

    def _shares(self, images: ImageSet, height: int, width: int, index: int) -> NDArray[np.uint8]:
        try:
            mask = self.mask(images, index)
        except ImageError as error:
            _LOG.warning("%s: its image guides nothing", error)
            return np.full((height, width), UNKNOWN, np.uint8)
        return np.rint(at_features(mask, height, width) * LARGEST_SHARE).astype(np.uint8)

    def loss_of(self, predicted: Tensor, target: Tensor) -> Tensor:
        """`predicted` (B, 1, h, w) and `target` (B, h, w), both in [0, 1] -> scalar: the mean over the known positions.

        `target` is NaN where nobody knows; 0 if it is nowhere known.
        """
        known = ~target.isnan()
        asked, truth = predicted[:, 0][known].float(), target[known].float()
        # autocast refuses the logarithms of half precision, though these are not
        with torch.autocast(predicted.device.type, enabled=False):
            compare = functional.mse_loss if self.loss == "mse" else functional.binary_cross_entropy
            return compare(asked, truth, reduction="sum") / max(1, len(truth))


def guided(sources: Sequence[Source]) -> list[Source]:
    """Those with label maps. Raises ConfigError if there is none."""
    found = [source for source in sources if source.images.label_maps]
    if not found:
        raise ConfigError("guidance needs label maps: give a source label_maps, see python -m training.segment")
    return found
