"""One YAML file is one experiment. What it leaves out has the default written here, and the run folder keeps the whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from training.attention.guidance import Guidance
from training.catalog import SourceOptions
from training.data.sampling import AnySampling, Groups
from training.distillation import Distillation
from training.losses import AnyLoss, GradedContrastive
from training.models.place_network import NetworkOptions
from training.options import Options, read_yaml

LOCAL = ("data_root", "cache", "loop.workers", "loop.checkpoint_every", "loop.accelerator")
"""What may differ when a run is resumed: nothing that changes a loss."""
MOVABLE = ("start", "distillation.teacher")
"""Files that may lie elsewhere when a run is resumed: their content is part of the data's fingerprint."""
WEIGHTS = "network.backbone.weights"
"""Movable where its checksum is known."""
WITH_MASK = ("deattention", "crn")
"""Attention whose mask can be guided."""


class Whitening(Options):
    """PCA whitening of the projection with training images, before the first step and after the last.

    `power` 0.5 whitens fully, 0 only rotates. After training it is needed where the loss moved the features (the graded
    loss makes them alike: docs/training.md).

    `dim` is for a network that trains without a projection (`network.dim` null): whitening gives it one of so many
    dimensions when training is over.
    """

    images: int = Field(default=2000, gt=0)
    dim: int | None = Field(default=None, gt=0)
    power: float = Field(default=0.5, ge=0, le=0.5)
    before: bool = True
    after: bool = True


class Optimiser(Options):
    """`warmup_steps` of linear warm-up, then `schedule`: a cosine to zero, a constant, or x `step_factor` every `step_every`.

    `head_factor` times the learning rate is that of attention, pooling and projection, which nobody has pretrained.
    """

    kind: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = Field(default=1e-4, gt=0)
    head_factor: float = Field(default=1.0, gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Of sgd."""
    warmup_steps: int = Field(default=50, ge=0)
    schedule: Literal["cosine", "constant", "steps"] = "cosine"
    step_every: int = Field(default=1000, gt=0)
    step_factor: float = Field(default=0.1, gt=0, le=1)


class Loop(Options):
    """How long and how: an optimiser step is `accumulate` batches on each of `devices` x `nodes` processes."""

    steps: int = Field(ge=0)
    """0 leaves the network as it starts, whitened if the recipe whitens: what training is compared with."""
    accumulate: int = Field(default=1, gt=0)
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    clip_gradient: float | None = Field(default=None, gt=0)
    """Largest norm of the gradient."""
    checkpoint_every: int = Field(default=200, gt=0)
    workers: int = Field(default=1, ge=0)
    """Processes that read and augment images."""
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: int = Field(default=1, gt=0)
    nodes: int = Field(default=1, gt=0)


class Validation(Options):
    """Recall@1 while training, for early stopping and the best checkpoint: never data that the result is reported on.

    In each set of `sources` the first sequence is the map and the others ask; an answer with psi >= 0.5 is right.
    """

    sources: tuple[SourceOptions, ...] = Field(min_length=1)
    every: int = Field(default=100, gt=0)
    patience: int | None = Field(default=None, gt=0)
    """Validations without a better recall before training stops; None never stops early."""


class Recipe(Options):
    """`start` is a network.safetensors to go on from, instead of the backbone's pretrained weights: a second stage."""

    name: str
    seed: int = Field(default=0, ge=0)
    data_root: Path
    cache: Path = Path(".training/cache")
    network: NetworkOptions
    start: Path | None = None
    whitening: Whitening | None = Whitening()
    sources: tuple[SourceOptions, ...] = Field(min_length=1)
    sampling: AnySampling = Groups()
    loss: AnyLoss = GradedContrastive()
    distillation: Distillation | None = None
    guidance: Guidance | None = None
    optimiser: Optimiser = Optimiser()
    loop: Loop
    validation: Validation | None = None

    @property
    def networks(self) -> tuple[Path, ...]:
        """Trained networks that training begins with."""
        teacher = (self.distillation.teacher,) if self.distillation else ()
        return ((self.start,) if self.start else ()) + teacher

    @model_validator(mode="after")
    def _guides_a_mask(self) -> Self:
        if self.guidance and getattr(self.network.attention, "kind", None) not in WITH_MASK:
            raise ValueError(
                f"guidance teaches the mask of an attention: set network.attention to {' or '.join(WITH_MASK)}"
            )
        return self

    @model_validator(mode="after")
    def _projects_once(self) -> Self:
        if self.whitening and self.whitening.dim and self.network.dim:
            raise ValueError("network.dim projects already: whitening.dim is for a network without a projection")
        return self

    @model_validator(mode="after")
    def _distils_into_a_start(self) -> Self:
        if self.distillation and self.start is None:
            raise ValueError("distillation is a second stage: `start` names the trained network that learns")
        return self


def read_recipe(path: Path, overrides: Mapping[str, Any] = MappingProxyType({})) -> Recipe:
    """A recipe with overrides by dotted key (`loop.steps`, `sources.0.share`).

    Raises ConfigError naming the file and the key at fault.
    """
    return Recipe.checked(read_yaml(path, overrides), str(path))
