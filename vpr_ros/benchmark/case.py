"""What is to be measured, and how."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vpr_ros.config import Config
from vpr_ros.engines import build_options
from vpr_ros.engines.backend import Backend, BuildOptions
from vpr_ros.evaluation.ground_truth import Protocol
from vpr_ros.model import PlaceModel


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A combination to be measured, on `images` (N, H, W, 3) of the model's size."""

    model: PlaceModel
    images: NDArray[np.uint8]
    backend: Backend
    precision: str
    batch: int

    def __str__(self) -> str:
        return f"{self.model.name} {self.backend.name} {self.precision} batch {self.batch}"

    def missing(self) -> str:
        """Why it cannot run here, as one clause; empty if it can."""
        backend = self.backend
        unknown = (
            "" if self.precision in backend.precisions else f"{backend.name} has {', '.join(backend.precisions)} only"
        )
        return backend.missing() or unknown


@dataclass(frozen=True, slots=True)
class Settings:
    """How to measure. Of `config` the threads, cores and bar of the engine count, and what recall is found with."""

    config: Config
    cache: Path
    rounds: int = 100
    places: Path | None = None
    sequence: str | None = None
    protocol: Protocol = field(default_factory=Protocol)

    def options(self, case: Case) -> BuildOptions:
        """What the engine of a case is built for. Raises ConfigError for cores that are none."""
        return replace(build_options(self.config.engine), precision=case.precision, batch=case.batch)


def cases(
    models: Iterable[tuple[PlaceModel, NDArray[np.uint8]]],
    backends: Mapping[str, Backend],
    names: Sequence[str] = (),
    precisions: Sequence[str] = (),
    batches: Sequence[int] = (1, 4),
) -> list[Case]:
    """Every combination of models (with their images), backends `names` (by default those that can run here), `precisions` (by
    default those that a backend has) and `batches`."""
    chosen = [backends[name] for name in names] or [b for b in backends.values() if not b.missing()]
    return [
        Case(model, images, backend, precision, batch)
        for model, images in models
        for backend in chosen
        for precision in precisions or backend.precisions
        for batch in batches
    ]
