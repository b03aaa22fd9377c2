"""From a model to an engine that is known to be right: out of the cache, or built, compared, measured and kept."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vpr_ros.engines.backend import Backend, BuildOptions, BuildsAhead, Engine, Progress
from vpr_ros.engines.cache import EngineCache, Entry, Key
from vpr_ros.engines.parity import BARS, Parity, compare
from vpr_ros.engines.precision import graph_of, sensitivity
from vpr_ros.errors import EngineError
from vpr_ros.model import PlaceModel

ROUNDS = 15
"""Of timing an engine and the reference in turns."""


RECALL_LOSS = 0.01
"""Most that an engine's recall@1 may be below the reference's."""


@dataclass(frozen=True, slots=True)
class Recall:
    """Recall@1 of an engine and of the reference on one set of places."""

    places: str
    engine: float
    reference: float

    @property
    def holds(self) -> bool:
        return self.engine >= self.reference - RECALL_LOSS - 1e-9  # rounding is no loss

    def __str__(self) -> str:
        return f"recall@1 {self.engine:.3f}, the reference's {self.reference:.3f} on {self.places}"


@dataclass(frozen=True, slots=True)
class Facts:
    """What was measured of an engine when it was built.

    `speed` is the reference's time for an image over the engine's. An engine below the bar has no times; `harmed` says which
    operators its precision harms most, and by how much.
    """

    parity: Parity
    milliseconds: float | None = None
    speed: float | None = None
    harmed: str = ""
    recall: Recall | None = None

    def __str__(self) -> str:
        fast = "" if self.speed is None else f"{self.speed:.2f} x as fast as the reference ({self.milliseconds:.1f} ms)"
        return "; ".join(str(part) for part in (fast, self.parity, self.recall, self.harmed) if part)

    def holds(self, bar: float) -> bool:
        """Whether the engine may be used: near enough to the reference, and no worse at what it is for."""
        return self.parity.cosine_min >= bar and (self.recall is None or self.recall.holds)

    @classmethod
    def of(cls, entry: Entry) -> Facts:
        """Raises EngineError where the cache's file does not have them."""
        try:
            facts = dict(entry.facts)
            recall = facts.pop("recall", None)
            return cls(Parity(**facts.pop("parity")), recall=None if recall is None else Recall(**recall), **facts)
        except (KeyError, TypeError) as error:
            raise EngineError("what was measured of the engine is damaged") from error


@dataclass(frozen=True, slots=True)
class Builder:
    """Builds engines of one model: on `images` (N, H, W, 3) of its size they are compared, measured and calibrated."""

    model: PlaceModel
    reference: Engine
    images: NDArray[np.uint8]
    cache: EngineCache
    min_cosine: float = 0.0
    """0 takes the bar of the precision."""

    def key(self, backend: Backend, options: BuildOptions) -> Key:
        return self._key(backend, options, backend.identity())

    def _key(self, backend: Backend, options: BuildOptions, identity: Mapping[str, str]) -> Key:
        calibration = hashlib.sha256(self.images.tobytes()).hexdigest() if options.precision == "int8" else ""
        return Key.of(self.model, backend.name, identity, options.precision, options.batch, calibration)

    def engine(self, backend: Backend, options: BuildOptions, progress: Progress) -> tuple[Engine, Facts]:
        """An engine ready to run, out of the cache if it can be.

        Raises EngineError where it cannot be built, or describes images too differently. That is remembered: a robot must
        not build for minutes at every start to be refused again.
        """
        if missing := backend.missing():
            raise EngineError(f"{backend.name} cannot run here: {missing}")
        if options.precision not in backend.precisions:
            raise EngineError(f"{backend.name} has no {options.precision}, only {', '.join(backend.precisions)}")
        key = self.key(backend, options)
        found = self._usable(backend, options, key)
        if isinstance(found, str):
            return self._build(backend, options, key, found, progress)
        facts, content = found
        try:
            return backend.load(self.model, content, options), facts
        except EngineError as error:
            return self._build(backend, options, key, f"the one at hand cannot be loaded: {error}", progress)

    def ahead(self, backend: BuildsAhead, options: BuildOptions, progress: Progress) -> Entry:
        """Build what machines that are not here can run: with it in their cache they only load and compare it.

        Raises EngineError where it cannot be built or written.
        """
        graph = graph_of(self.model, options.precision, self.images, symmetric=backend.needs_symmetric_int8)
        content = backend.build(self.model, graph, options, progress)
        return self.cache.keep(self._key(backend, options, backend.identity_ahead()), content, {})

    def remembered(self, backend: Backend, options: BuildOptions) -> Facts | None:
        """What is known of an engine without loading it; None if it has to be built. Raises EngineError if it was refused."""
        found = self._usable(backend, options, self.key(backend, options))
        return None if isinstance(found, str) else found[0]

    def _usable(self, backend: Backend, options: BuildOptions, key: Key) -> tuple[Facts, bytes] | str:
        """Facts and content of an engine in the cache, or why it has to be built. Raises EngineError if it was refused."""
        found = self.cache.find(key)
        if isinstance(found, str):
            return found
        entry, content = found
        try:
            facts = Facts.of(entry)
        except EngineError as error:
            return str(error)
        if not facts.holds(self._bar(options)):
            raise self._too_different(backend, options, facts)
        return (facts, content) if content else "it was refused for a higher bar"

    def judged(
        self,
        backend: Backend,
        options: BuildOptions,
        places: str,
        recall_of: Callable[[Engine], float],
        progress: Progress,
    ) -> Facts:
        """As `engine`, then measures recall@1 with `recall_of` on the set that is called `places`, and remembers it.

        Raises EngineError, also from `engine` from now on, where recall is lower than the reference's by more than RECALL_LOSS.
        """
        engine, facts = self.engine(backend, options, progress)
        try:
            progress(f"recall of the reference and of {engine.name} on {places}", None)
            recall = Recall(places, recall_of(engine), recall_of(self.reference))
        finally:
            engine.close()
        facts = replace(facts, recall=recall)
        key = self.key(backend, options)
        found = self.cache.find(key)
        content = b"" if isinstance(found, str) else found[1]
        self._keep(key, content, facts, progress)
        if not recall.holds:
            raise self._too_different(backend, options, facts)
        return facts

    def _build(
        self, backend: Backend, options: BuildOptions, key: Key, reason: str, progress: Progress
    ) -> tuple[Engine, Facts]:
        name = f"{backend.name} {options.precision}"
        engine, content = self._built_ahead(backend, options, progress) or (None, b"")
        if engine is None:
            progress(f"building {name}: {reason}", None)
            graph = graph_of(self.model, options.precision, self.images, symmetric=backend.needs_symmetric_int8)
            content = backend.build(self.model, graph, options, progress)
            engine = backend.load(self.model, content, options)
        try:
            progress(f"comparing {name} with the reference", None)
            parity = compare(engine, self.reference, self.images, self._bar(options))
            if not parity.holds:
                facts = Facts(parity, harmed=self._harmed(backend, options.precision, progress))
                self._keep(key, b"", facts, progress)
                raise self._too_different(backend, options, facts)
            seconds, of_reference = take_turns(engine, self.reference, self.images[:1])
            facts = Facts(parity, 1e3 * seconds, of_reference / seconds)
            self._keep(key, content, facts, progress)
        except BaseException:
            engine.close()
            raise
        return engine, facts

    def _built_ahead(self, backend: Backend, options: BuildOptions, progress: Progress) -> tuple[Engine, bytes] | None:
        """An engine that another machine built for this one, and its content."""
        if not isinstance(backend, BuildsAhead):
            return None
        found = self.cache.find(self._key(backend, options, backend.identity_ahead()))
        if isinstance(found, str):
            return None
        try:
            engine = backend.load(self.model, found[1], options)
        except EngineError as error:
            progress(f"what was built ahead cannot be loaded: {error}", None)
            return None
        progress(f"{backend.name} {options.precision} was built ahead", None)
        return engine, found[1]

    def _keep(self, key: Key, content: bytes, facts: Facts, progress: Progress) -> None:
        """A full disk costs the next start a build, not this one its engine."""
        try:
            self.cache.keep(key, content, asdict(facts))
        except EngineError as error:
            progress(f"{error}; until then it is built at every start", None)

    def _bar(self, options: BuildOptions) -> float:
        return self.min_cosine or BARS[options.precision]

    def _harmed(self, backend: Backend, precision: str, progress: Progress) -> str:
        if precision not in ("fp16", "int8"):
            return ""
        progress(f"looking for the operators that {precision} harms most", None)
        costs = sensitivity(self.model, precision, self.images, symmetric=backend.needs_symmetric_int8)
        return f"harmed most: {', '.join(map(str, costs[:3]))}"

    def _too_different(self, backend: Backend, options: BuildOptions, facts: Facts) -> EngineError:
        instead = "another engine.backend" if options.precision == "fp32" else "engine.precision fp32"
        return EngineError(
            f"{backend.name} {options.precision} describes images too differently: {facts}; use {instead}, or lower "
            "engine.min_cosine if you can live with that"
        )


def take_turns(
    engine: Engine, reference: Engine, images: NDArray[np.uint8], rounds: int = ROUNDS
) -> tuple[float, float]:
    """Median seconds of both for the same images, measured in turns so that a busy machine is busy for both."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for one in (engine, reference):
        one.describe(images)  # the first call is slower
    for _ in range(rounds):
        for one, times in zip((engine, reference), seconds, strict=True):
            start = time.perf_counter()
            one.describe(images)
            times.append(time.perf_counter() - start)
    return float(np.median(seconds[0])), float(np.median(seconds[1]))
