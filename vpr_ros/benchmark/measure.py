"""What is done with one engine, each function in a process of its own: build, time, compare, judge."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vpr_ros.benchmark.case import Case, Settings
from vpr_ros.benchmark.memory import PeakMemory, device_memory
from vpr_ros.benchmark.row import Measured
from vpr_ros.engines import open_reference
from vpr_ros.engines.backend import Engine, Progress
from vpr_ros.engines.build import Builder
from vpr_ros.engines.cache import EngineCache
from vpr_ros.engines.parity import BARS
from vpr_ros.errors import EngineError
from vpr_ros.model import PlaceModel

WARM_UP, LEAST_ROUNDS, TURNS = 3, 5, 50
LIMIT_S = 60.0
"""A slow engine gets fewer rounds than were asked for, but at least LEAST_ROUNDS."""
PERCENTILES = (0, 5, 25, 50, 75, 90, 95, 99, 100)


def build_engine(tell: Progress, case: Case, settings: Settings) -> tuple[Path, float | None]:
    """The file of an engine, and the seconds until it was ready, None if it was there. Raises EngineError."""
    told: list[str] = []

    def progress(text: str, share: float | None) -> None:
        told.append(text)
        tell(text, share)

    cache, options = EngineCache(settings.cache), settings.options(case)
    reference = open_reference(case.model, options.threads)
    # the bar is not for the builder to hold: what the node would refuse is measured too, and marked
    builder = Builder(case.model, reference, case.images, cache, min_cosine=-1.0)
    start = time.perf_counter()
    builder.engine(case.backend, options, progress)[0].close()
    seconds = time.perf_counter() - start
    file = cache.folder / builder.key(case.backend, options).file
    # what is in the cache comes without a word
    return file.with_name(f"{file.name}.bin"), seconds if told else None


def measure_engine(tell: Progress, case: Case, settings: Settings, file: Path, build_s: float | None) -> Measured:
    """All but recall, of what `build_engine` returned. Raises EngineError."""
    tell("measuring the engine", None)
    options, batch = settings.options(case), case.batch
    content = file.read_bytes()
    call = case.images[np.arange(batch) % len(case.images)]
    memory, less_device_memory = PeakMemory(), device_memory(case.backend)
    start = time.perf_counter()
    engine = case.backend.load(case.model, content, options)
    engine.describe(call)
    load_s = time.perf_counter() - start
    [seconds] = in_turns([engine], call, settings.rounds)
    memory_mb, device_memory_mb = memory.megabytes(), less_device_memory()

    reference = open_reference(case.model, options.threads)
    tell("measuring engine and reference in turns", None)
    of_engine, of_reference = in_turns([engine, reference], call, min(settings.rounds, TURNS))
    low, speed, high = np.percentile(of_reference / of_engine, (25, 50, 75)).tolist()
    tell("comparing the engine with the reference", None)
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
        bar=settings.config.engine.min_cosine or BARS[case.precision],
        build_s=build_s,
        load_s=load_s,
    )


def in_turns(
    engines: Sequence[Engine], images: NDArray[np.uint8], rounds: int, limit_s: float = LIMIT_S
) -> list[NDArray[np.float64]]:
    """Seconds of each call of each engine with the same images, after a warm-up: `rounds` of them, fewer if time is up.

    Every other round is in reverse order, so that none gains from who ran before it.
    """
    for engine in engines:
        for _ in range(WARM_UP):
            engine.describe(images)
    seconds: list[list[float]] = [[] for _ in engines]
    begin = time.perf_counter()
    for done in range(rounds):
        if done >= LEAST_ROUNDS and time.perf_counter() - begin > limit_s:
            break
        for engine, times in list(zip(engines, seconds, strict=True))[:: -1 if done % 2 else 1]:
            start = time.perf_counter()
            engine.describe(images)
            times.append(time.perf_counter() - start)
    return [np.array(times) for times in seconds]


def _cosines(engine: Engine, reference: Engine, images: NDArray[np.uint8], batch: int) -> NDArray[np.float32]:
    """(N,) between both descriptors of each image, called with `batch` at a time. Raises EngineError for what is no number."""
    calls = [images[i : i + batch] for i in range(0, len(images), batch)]
    cosines = np.concatenate([np.sum(engine.describe(call) * reference.describe(call), axis=1) for call in calls])
    if not np.isfinite(cosines).all():
        raise EngineError("its descriptors are not all numbers")
    return cosines


def engine_recall(tell: Progress, case: Case, file: Path, settings: Settings) -> float:
    """Recall@1 on the places of `settings`. Raises EngineError, and SourceError for places that it cannot be judged on."""
    tell("recall@1 of the engine", None)
    return _recall(case.backend.load(case.model, file.read_bytes(), settings.options(case)), settings)


def reference_recall(tell: Progress, model: PlaceModel, settings: Settings) -> float:
    """As `engine_recall`."""
    tell("recall@1 of the reference", None)
    return _recall(open_reference(model, settings.config.engine.threads), settings)


def _recall(engine: Engine, settings: Settings) -> float:
    # here: a process that only measures starts in half the time without them
    from vpr_ros.replay import recall_at_1
    from vpr_ros.sources import open_source

    assert settings.places
    recall = recall_at_1(open_source(settings.places, settings.sequence), engine, settings.config, settings.protocol)
    engine.close()
    return recall
