"""From a model to an engine that is known to be right: out of the cache, or built, compared, measured and kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from vpr_ros.engines.backend import Backend, BuildOptions, BuildProgress, BuildsAhead, Engine
from vpr_ros.engines.cache import EngineCache, Entry, Key
from vpr_ros.engines.facts import Facts, Recall
from vpr_ros.engines.graphs.precision import graph_of
from vpr_ros.engines.graphs.sensitivity import sensitivity
from vpr_ros.engines.parity import BARS, compare
from vpr_ros.errors import EngineError
from vpr_ros.model import PlaceModel
from vpr_ros.stopwatch import in_turns

ROUNDS = 15
"""Of timing an engine and the reference in turns."""


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

    def engine(self, backend: Backend, options: BuildOptions, progress: BuildProgress) -> tuple[Engine, Facts]:
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

    def ahead(self, backend: BuildsAhead, options: BuildOptions, progress: BuildProgress) -> Entry:
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
        progress: BuildProgress,
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
        self, backend: Backend, options: BuildOptions, key: Key, reason: str, progress: BuildProgress
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
            facts = Facts(parity, *self._speed(engine))
            self._keep(key, content, facts, progress)
        except BaseException:
            engine.close()
            raise
        return engine, facts

    def _speed(self, engine: Engine) -> tuple[float, float]:
        """Milliseconds for an image, and how many times as fast as the reference."""
        image = self.images[:1]
        seconds = in_turns([partial(each.describe, image) for each in (engine, self.reference)], ROUNDS)
        of_engine, of_reference = (float(np.median(times)) for times in seconds)
        return 1e3 * of_engine, of_reference / of_engine

    def _built_ahead(
        self, backend: Backend, options: BuildOptions, progress: BuildProgress
    ) -> tuple[Engine, bytes] | None:
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

    def _keep(self, key: Key, content: bytes, facts: Facts, progress: BuildProgress) -> None:
        """A full disk costs the next start a build, not this one its engine."""
        try:
            self.cache.keep(key, content, asdict(facts))
        except EngineError as error:
            progress(f"{error}; until then it is built at every start", None)

    def _bar(self, options: BuildOptions) -> float:
        return self.min_cosine or BARS[options.precision]

    def _harmed(self, backend: Backend, precision: str, progress: BuildProgress) -> str:
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
