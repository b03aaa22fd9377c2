"""Second-stage training: the student's descriptors are pulled to the teacher's where the teacher knows (docs/methods.md 3.5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from scipy.sparse import csr_array
from torch import Tensor

from training.data.source import Source
from training.distillation.samples import GROUPS, Audit, Samples, rank_samples
from training.models.describe import describe
from training.models.network_file import load_network
from training.models.place_network import PlaceNetwork
from training.options import Options
from vpr_ros.errors import ConfigError, TrainingError

SELECTIONS = {"all": (1, 2, 3, 4), "D1": (1,), "D2": (2,), "D3": (3,), "S1": (1, 2, 3), "S2": (4,)}
"""Groups of the ablation (docs/methods.md 3.2). S2 is D4."""
POSTER_SHARES = (0.0411, 0.5067, 0.1477, 0.3045)
"""Of D1 to D4 on MSLS, in the poster (docs/methods.md 3.2)."""


class Distillation(Options):
    """Feature distillation of a frozen teacher, beside the loss of the recipe.

    - `teacher`: its network.safetensors;
    - `samples`: `weighted` by docs/methods.md 3.5, or all of one selection alike: `all`, S1 (selected), S2, D1, D2, D3;
    - `shuffled`: the control: each image gets the teacher's descriptor of another image of its source;
    - `threshold`, `floor`, `temperature`: N, b and T of docs/methods.md 3.5;
    - `factor`: lambda, of the distillation loss beside the other;
    - `align`: turn the teacher's space onto the student's by the best rotation before the first step. No distance between
      the teacher's descriptors changes; without it a student begins by unlearning its own axes.
    """

    teacher: Path
    samples: Literal["weighted", "all", "D1", "D2", "D3", "S1", "S2"] = "weighted"
    shuffled: bool = False
    threshold: int = Field(default=10, gt=0)
    floor: float = Field(default=0.5, ge=0, le=1)
    temperature: float = Field(default=1.0, gt=0)
    factor: float = Field(default=1.0, ge=0)
    align: bool = True

    def weigh(self, samples: Samples) -> NDArray[np.float64]:
        """(P,) the weight of each sample."""
        if self.samples == "weighted":
            return samples.weights(self.threshold, self.floor, self.temperature)
        return np.isin(samples.groups(self.threshold), SELECTIONS[self.samples]).astype(np.float64)

    def prepare(self, student: PlaceNetwork, sources: Sequence[Source], seed: int, workers: int = 0) -> Prepared:
        """Describe every training image by both branches, rank, audit and weigh: once, before the first step.

        Raises ConfigError where the descriptors have different sizes, ModelError for a file that is no teacher,
        TrainingError where the teacher solves no query that the student misses.
        """
        teacher = load_network(self.teacher).to(student.device)
        if teacher.dim != student.dim:
            raise ConfigError(
                f"the teacher {self.teacher} describes with {teacher.dim} numbers and the student with {student.dim}: "
                "train the teacher with the student's network options but its input"
            )
        described = [[describe(branch, s.images, workers) for branch in (teacher, student)] for s in sources]
        samples = [rank_samples(source, *both) for source, both in zip(sources, described, strict=True)]
        audit = sum(map(Audit.of, samples), Audit(0, 0, 0, 0))
        if not audit.teacher_only:
            raise TrainingError(
                f"the teacher solves none of the {audit.queries - audit.student} queries that the student misses "
                f"(teacher {audit.teacher}, student {audit.student} of {audit.queries}): there is nothing to distil. "
                "Train the teacher longer, look at its label maps, or add sources whose appearance changes"
            )
        rng = np.random.default_rng(seed)
        targets = [of_teacher for of_teacher, _ in described]
        if self.shuffled:
            targets = [_shuffled(target, rng) for target in targets]
        if self.align:
            turn = best_rotation(np.concatenate(targets), np.concatenate([of_student for _, of_student in described]))
            targets = [target @ turn for target in targets]
        weights = [self._table(s, len(source.images)) for s, source in zip(samples, sources, strict=True)]
        distiller = Distiller([torch.from_numpy(target) for target in targets], weights, self.factor)
        return Prepared(self, distiller, tuple(samples), audit)

    def _table(self, samples: Samples, images: int) -> csr_array:
        """(N, N) the weight of each sample, at query and positive."""
        table = csr_array((self.weigh(samples), (samples.query, samples.positive)), (images, images))
        table.eliminate_zeros()
        return table


class Distiller:
    """Targets (N, D) of the images of each source, and the weights (N, N) of its samples."""

    def __init__(self, targets: Sequence[Tensor], weights: Sequence[csr_array], factor: float) -> None:
        self.targets, self.weights, self.factor = targets, weights, factor

    def loss(self, descriptors: Tensor, views: Tensor) -> Tensor:
        """lambda sum_i w_i |t_i - f_i|^2 / sum_i w_i over both members i of every sample in a batch; 0 without a sample.

        `descriptors` (B, D) f, unit length; `views` (B, 2) int64: source and image of each.
        """
        weight = torch.zeros(len(views))
        target = torch.zeros(descriptors.shape)
        for s in views[:, 0].unique().tolist():
            members = torch.nonzero(views[:, 0] == s)[:, 0]
            images = views[members, 1]
            among = self.weights[s][images.numpy()][:, images.numpy()]
            weight[members] = torch.from_numpy(among.sum(axis=0) + among.sum(axis=1)).float()
            target[members] = self.targets[s][images]
        target[weight == 0] = 0.0  # an image that the teacher cannot see is NaN
        weight, target = weight.to(descriptors), target.to(descriptors)
        squares = (descriptors - target).square().sum(dim=1)
        return self.factor * (weight * squares).sum() / weight.sum().clamp(min=torch.finfo(weight.dtype).tiny)


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """What second-stage training needs, and what to tell about it: the samples of each source and their audit."""

    options: Distillation
    distiller: Distiller
    samples: tuple[Samples, ...]
    audit: Audit

    @property
    def shares(self) -> NDArray[np.float64]:
        """(4,) of D1 to D4 among all samples."""
        counts = sum(np.bincount(s.groups(self.options.threshold), minlength=len(GROUPS) + 1)[1:] for s in self.samples)
        return np.asarray(counts, np.float64) / np.sum(counts)

    def text(self) -> str:
        """For the terminal."""
        shares = ", ".join(f"{name} {share:.1%}" for name, share in zip(GROUPS, self.shares, strict=True))
        poster = " / ".join(f"{share:.0%}" for share in POSTER_SHARES)
        audit = self.audit
        return (
            f"distillation: {sum(len(s.query) for s in self.samples)} samples: {shares} (poster: {poster})\n"
            f"of {audit.queries} queries the teacher solves {audit.teacher}, the student {audit.student}, "
            f"the teacher alone {audit.teacher_only}"
        )


def _shuffled(targets: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """The rows that are known in another order."""
    known = np.flatnonzero(~np.isnan(targets[:, 0]))
    mixed = targets.copy()
    mixed[known] = targets[rng.permutation(known)]
    return mixed


def best_rotation(of: NDArray[np.float32], onto: NDArray[np.float32]) -> NDArray[np.float32]:
    """(D, D) orthogonal R with the least |of R - onto|, for two (N, D) (Schoenemann, 1966); rows with a NaN do not count."""
    known = ~np.isnan(of[:, 0]) & ~np.isnan(onto[:, 0])
    u, _, vt = np.linalg.svd(of[known].T.astype(np.float64) @ onto[known])
    return (u @ vt).astype(np.float32)
