"""What came of a case."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vpr_ros.engines.benchmark.case import Case
from vpr_ros.engines.benchmark.checks import FAIL, Check


@dataclass(frozen=True, slots=True)
class Measured:
    """What one engine did with calls of one batch size."""

    rounds: int
    percentiles_ms: Mapping[str, float]
    """Of one call, by "p0" to "p100"."""
    median_ms: float
    p99_ms: float
    images_per_s: float
    """Batch over the median."""
    reference_ms: float
    """Median of the reference for the same call, in turns with the engine."""
    speed: float
    """How many times as fast as the reference: median over the turns, so that a busy machine is busy for both."""
    speed_quartiles: tuple[float, float]
    """Of the same ratios: far apart on a busy machine."""
    memory_mb: float | None
    """Peak of the process above what it had before the engine was opened: the engine, and its library if nobody else needs it."""
    device_memory_mb: float | None
    """What the GPU had less of after the engine had run; on a Jetson that is the same memory as the CPU's."""
    images: int
    cosine_min: float
    cosine_median: float
    bar: float
    """Least cosine with the reference that the node accepts."""
    build_s: float | None
    """Until a new engine was built, compared and timed, as the node does once; None if it came from the cache."""
    load_s: float
    """From the engine file to its first descriptors, as at every start of the node."""
    recall: float | None = None
    reference_recall: float | None = None

    @property
    def is_refused(self) -> bool:
        """Whether the node would not use it."""
        return not self.cosine_min >= self.bar  # NaN is refused


@dataclass(frozen=True, slots=True)
class BenchmarkRow:
    """One combination: measured, or the reason why not in one clause; and what was checked."""

    model: str
    model_id: str
    size: str
    """Of the model's images, `320x240`."""
    backend: str
    precision: str
    batch: int
    measured: Measured | None = None
    reason: str = ""
    checks: tuple[Check, ...] = ()

    @property
    def failed(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if check.result == FAIL)

    @classmethod
    def of(
        cls, case: Case, measured: Measured | None = None, reason: str = "", checks: tuple[Check, ...] = ()
    ) -> BenchmarkRow:
        model = case.model
        size = f"{model.width}x{model.height}"
        return cls(model.name, model.id, size, case.backend.name, case.precision, case.batch, measured, reason, checks)
