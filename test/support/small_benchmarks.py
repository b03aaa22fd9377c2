"""Cases, rows and tables for the tests of the benchmark, and work that ends badly in a process of its own."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from fake_backends import FakeBackend, FakeEngine

from vpr_ros.engines.backend import BuildOptions, BuildProgress, Engine
from vpr_ros.engines.benchmark.case import Case
from vpr_ros.engines.benchmark.measure import PERCENTILES
from vpr_ros.engines.benchmark.row import BenchmarkRow, Measured
from vpr_ros.engines.benchmark.table import Table
from vpr_ros.machine import MachineDescription
from vpr_ros.model import PlaceModel

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 48, 64, 3), dtype=np.uint8)
MACHINE = MachineDescription("Abacus", 4, None, 8.0, "", "", "", "", "Linux", "3.11", 0.1, {"numpy": "2.0"})


class Told:
    """What was said of the progress, in this process."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, text: str, share: float | None) -> None:
        self.texts.append(text)


def case(model: PlaceModel, backend: Any, precision: str = "fp32", batch: int = 1) -> Case:
    return Case(model, IMAGES, backend, precision, batch)


def measured(**changes: Any) -> Measured:
    percentiles = {f"p{p}": 10.0 + p / 100 for p in PERCENTILES}
    return replace(
        Measured(7, percentiles, 12.5, 13.25, 80.0, 25.0, 2.0, (1.75, 2.25), 64.0, None, 3, 0.99989, 0.99999, 0.999, 4.5, 0.25),
        **changes,
    )  # fmt: skip


def row(backend: str = "fake", precision: str = "fp16", batch: int = 1, **rest: Any) -> BenchmarkRow:
    return BenchmarkRow("grid", "0123456789abcdef", "64x48", backend, precision, batch, **rest)


def table(*rows: BenchmarkRow, planned: int = 0, places: str = "") -> Table:
    return Table("2026-01-02 03:04", MACHINE, 2, "3 images", places, planned or len(rows), rows)


@dataclass
class AbortingBackend(FakeBackend):
    name: str = "aborting"
    precisions: tuple[str, ...] = ("fp32",)

    def build(self, model: PlaceModel, graph: bytes, options: BuildOptions, progress: BuildProgress) -> bytes:
        progress("dividing by zero: why not", None)
        os.abort()


@dataclass
class CrashingAtTheEnd(FakeBackend):
    """A library that crashes on half of a file."""

    name: str = "crashing"
    precisions: tuple[str, ...] = ("fp32",)

    def load(self, model: PlaceModel, content: bytes, options: BuildOptions) -> FakeEngine:
        if len(content) < len(model.content):
            os.abort()
        return super().load(model, content, options)


@dataclass(frozen=True)
class Sameness:
    """In place of a recall: the share of images that an engine tells apart from the first."""

    def __call__(self, engine: Engine) -> float:
        found = engine.describe(IMAGES)
        return float(np.mean(found[1:] @ found[0] < 0.999))


def go_wrong(tell: BuildProgress, error: Exception) -> None:
    tell("going wrong", 0.5)
    raise error


def wait_for_ever(tell: BuildProgress) -> None:
    tell(str(os.getpid()), None)
    threading.Event().wait()
