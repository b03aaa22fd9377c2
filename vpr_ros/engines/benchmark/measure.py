"""What is done with one engine, each function in a process of its own: build, time, compare, judge."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vpr_ros.engines.backend import BuildProgress, Engine
from vpr_ros.engines.benchmark.case import Case, Settings
from vpr_ros.engines.benchmark.memory import PeakMemory, device_memory
from vpr_ros.engines.benchmark.row import Measured
from vpr_ros.engines.build import Builder
from vpr_ros.engines.cache import EngineCache
from vpr_ros.engines.open import open_reference
from vpr_ros.errors import EngineError
from vpr_ros.model import PlaceModel
from vpr_ros.stopwatch import in_turns

TURNS = 50
LIMIT_S = 60.0
"""A slow engine gets fewer rounds than were asked for."""
PERCENTILES = (0, 5, 25, 50, 75, 90, 95, 99, 100)


def build_engine(progress: BuildProgress, case: Case, settings: Settings) -> tuple[Path, float | None]:
    """The file of an engine, and the seconds until it was ready, None if it was there. Raises EngineError."""
    told: list[str] = []

    def listening(text: str, share: float | None) -> None:
        told.append(text)
        progress(text, share)

    cache, options = EngineCache(settings.cache), settings.options(case)
    reference = open_reference(case.model, options.threads)
    # the bar is not for the builder to hold: what the node would refuse is measured too, and marked
    builder = Builder(case.model, reference, case.images, cache, min_cosine=-1.0)
    start = time.perf_counter()
    builder.engine(case.backend, options, listening)[0].close()
    seconds = time.perf_counter() - start
    file = cache.folder / builder.key(case.backend, options).file
    # what is in the cache comes without a word
    return file.with_name(f"{file.name}.bin"), seconds if told else None


def measure_engine(
    progress: BuildProgress, case: Case, settings: Settings, file: Path, build_s: float | None
) -> Measured:
    """All but recall, of what `build_engine` returned. Raises EngineError."""
    progress("measuring the engine", None)
    options, batch = settings.options(case), case.batch
    content = file.read_bytes()
    call = case.images[np.arange(batch) % len(case.images)]
    memory, less_device_memory = PeakMemory(), device_memory(case.backend)
    start = time.perf_counter()
    engine = case.backend.load(case.model, content, options)
    engine.describe(call)
    load_s = time.perf_counter() - start
    [seconds] = in_turns([partial(engine.describe, call)], settings.rounds, limit_s=LIMIT_S)
    memory_mb, device_memory_mb = memory.megabytes(), less_device_memory()

    reference = open_reference(case.model, options.threads)
    progress("measuring engine and reference in turns", None)
    calls = [partial(each.describe, call) for each in (engine, reference)]
    of_engine, of_reference = in_turns(calls, min(settings.rounds, TURNS), limit_s=LIMIT_S / 2)
    both = min(len(of_engine), len(of_reference))
    low, speed, high = np.percentile(of_reference[:both] / of_engine[:both], (25, 50, 75)).tolist()
    progress("comparing the engine with the reference", None)
    cosines = _cosines(engine, reference, case.images, batch)
    engine.close()
    milliseconds = {f"p{p}": float(1e3 * np.percentile(seconds, p)) for p in PERCENTILES}
    return Measured(
        rounds=len(seconds),
        percentiles_ms=milliseconds,
        median_ms=milliseconds["p50"],
        p99_ms=milliseconds["p99"],
        images_per_s=1e3 * batch / milliseconds["p50"],
        reference_ms=float(1e3 * np.median(of_reference)),
        speed=speed,
        speed_quartiles=(low, high),
        memory_mb=memory_mb,
        device_memory_mb=device_memory_mb,
        images=len(cosines),
        cosine_min=float(cosines.min()),
        cosine_median=float(np.median(cosines)),
        bar=settings.bar(case),
        build_s=build_s,
        load_s=load_s,
    )


def _cosines(engine: Engine, reference: Engine, images: NDArray[np.uint8], batch: int) -> NDArray[np.float32]:
    """(N,) between both descriptors of each image, called with `batch` at a time. Raises EngineError for what is no number."""
    calls = [images[i : i + batch] for i in range(0, len(images), batch)]
    cosines = np.concatenate([np.sum(engine.describe(call) * reference.describe(call), axis=1) for call in calls])
    if not np.isfinite(cosines).all():
        raise EngineError("its descriptors are not all numbers")
    return cosines


def engine_recall(progress: BuildProgress, case: Case, file: Path, settings: Settings) -> float:
    """Recall@1. Raises EngineError, and what `settings.recall_of` does."""
    progress("recall@1 of the engine", None)
    return _recall(case.backend.load(case.model, file.read_bytes(), settings.options(case)), settings)


def reference_recall(progress: BuildProgress, model: PlaceModel, settings: Settings) -> float:
    """As `engine_recall`."""
    progress("recall@1 of the reference", None)
    return _recall(open_reference(model, settings.engine.threads), settings)


def _recall(engine: Engine, settings: Settings) -> float:
    assert settings.recall_of
    recall = settings.recall_of(engine)
    engine.close()
    return recall
