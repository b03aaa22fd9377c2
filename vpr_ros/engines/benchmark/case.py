"""What is to be measured, and how."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vpr_ros.config import EngineConfig
from vpr_ros.engines.backend import Backend, BuildOptions, Engine
from vpr_ros.engines.open import build_options
from vpr_ros.engines.parity import BARS
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
    """How to measure. Of `engine` threads, cores and bar count."""

    engine: EngineConfig
    cache: Path
    rounds: int = 100
    recall_of: Callable[[Engine], float] | None = None
    """Recall@1 of an engine; it is sent to other processes."""
    checks: bool = False
    """Whether engines are checked, too."""

    def options(self, case: Case) -> BuildOptions:
        """What the engine of a case is built for. Raises ConfigError for cores that are none."""
        return replace(build_options(self.engine), precision=case.precision, batch=case.batch)

    def bar(self, case: Case) -> float:
        """Minimum cosine with the reference that the node accepts."""
        return self.engine.min_cosine or BARS[case.precision]


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
