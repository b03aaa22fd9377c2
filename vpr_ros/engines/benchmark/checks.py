"""Does an engine keep its contract: the checks of `vpr benchmark --check`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vpr_ros.engines.backend import BuildProgress, Engine
from vpr_ros.engines.benchmark.case import Case, Settings
from vpr_ros.engines.graphs.precision import graph_of
from vpr_ros.engines.open import open_reference
from vpr_ros.engines.parity import compare
from vpr_ros.errors import EngineError
from vpr_ros.printable import on_one_line

PASS, FAIL, SKIP = "PASS", "FAIL", "SKIP"
_SAME = 0.999
"""Minimum cosine between two descriptors that an engine makes of one image: roundings differ with the batch."""


@dataclass(frozen=True, slots=True)
class Check:
    """What one check found: PASS, FAIL or SKIP, and one clause."""

    name: str
    result: str
    clause: str


def check_engine(progress: BuildProgress, case: Case, settings: Settings, file: Path) -> tuple[Check, ...]:
    """Run and break the engine in `file`, as `build_engine` made it.

    A failure is a check, not an exception. `progress` is called before each begins: should a library crash the process, the
    last text names the check. Raises EngineError where the engine cannot be loaded.
    """
    checks = _Checks(case, settings, file.read_bytes())
    try:
        return checks.run(progress)
    finally:
        checks.close()


class _Skip(Exception):
    """A check that has nothing to check here, with the reason."""


class _Interrupt(Exception):
    """Ends a build, as Ctrl-C or the end of a node would."""


class _Checks:
    """The checks of one engine, in order. Each returns a clause or raises."""

    def __init__(self, case: Case, settings: Settings, content: bytes) -> None:
        self._model, self._images, self._backend, self._batch = case.model, case.images, case.backend, case.batch
        self._other = case.images[1:2] if len(case.images) > 1 else case.images[:1, :, ::-1]
        self._options, self._bar, self._content = settings.options(case), settings.bar(case), content
        self._reference = open_reference(case.model, settings.engine.threads)
        self._engine: Engine | None = case.backend.load(case.model, content, self._options)

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()

    def run(self, progress: BuildProgress) -> tuple[Check, ...]:
        found = []
        for name, work in (
            ("agrees with the reference", self._agrees),
            ("repeats itself", self._repeats),
            ("batches agree", self._batches),
            ("mask", self._mask),
            ("another thread", self._another_thread),
            ("close twice", self._close),
            ("load again", self._load_again),
            ("interrupted build", self._interrupt),
            ("cut file is refused", self._cut),  # last: the one that a library could crash on
        ):
            progress(f"checking `{name}`", None)
            found.append(Check(name, *self._outcome(work)))
        return tuple(found)

    @staticmethod
    def _outcome(work: Callable[[], str]) -> tuple[str, str]:
        try:
            return PASS, work()
        except _Skip as skip:
            return SKIP, str(skip)
        except Exception as error:
            kind = "" if isinstance(error, EngineError) else f"{type(error).__name__}: "
            return FAIL, " ".join(f"{kind}{error}".split())

    def _agrees(self) -> str:
        parity = compare(self._running(), self._reference, self._images, self._bar)
        if not parity.holds:
            raise EngineError(str(parity))
        return str(parity)

    def _repeats(self) -> str:
        """Three calls with one image and others between: a recorded graph must not answer with what it has recorded."""
        first = self._running().describe(self._images[:1])
        for other in (self._other, self._images[:1], self._other):
            self._same(self._reference.describe(other), self._running().describe(other), self._bar)
        return self._same(first, self._running().describe(self._images[:1]))

    def _batches(self) -> str:
        images = np.concatenate([self._images] * (self._batch // len(self._images) + 1))[: self._batch + 1]
        single = np.concatenate([self._running().describe(image[None]) for image in images])
        for size in range(2, self._batch + 2):  # the last one is larger than the engine's batch
            self._same(single[:size], self._running().describe(images[:size]))
        return f"1 to {self._batch + 1} images"

    def _mask(self) -> str:
        if self._model.mask_size is None:
            raise _Skip("this model has none")
        _, expected = self._reference.describe_with_mask(self._images[:1])
        _, found = self._running().describe_with_mask(self._images[:1])
        difference = float(np.abs(expected - found).max())
        if not difference <= 0.1:
            raise EngineError(f"differs by up to {difference:.3f}")
        return f"differs by at most {difference:.4f}"

    def _another_thread(self) -> str:
        expected = self._running().describe(self._images[:1])
        found: list[NDArray[np.float32]] = []
        errors: list[Exception] = []

        def work() -> None:
            try:
                found.append(self._running().describe(self._images[:1]))
            except Exception as error:
                errors.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return self._same(expected, found[0])

    def _close(self) -> str:
        engine, self._engine = self._running(), None
        engine.close()
        engine.close()
        return ""

    def _load_again(self) -> str:
        self._engine = self._backend.load(self._model, self._content, self._options)
        return self._same(
            self._reference.describe(self._images[:1]),
            self._engine.describe(self._images[:1]),
            self._bar,
        )

    def _interrupt(self) -> str:
        def interrupt(text: str, share: float | None) -> None:
            raise _Interrupt

        symmetric = self._backend.needs_symmetric_int8
        graph = graph_of(self._model, self._options.precision, self._images, symmetric=symmetric)
        start = time.monotonic()
        try:
            self._backend.build(self._model, graph, self._options, interrupt)
        except _Interrupt:
            return f"ended after {time.monotonic() - start:.1f} s"
        raise _Skip("it builds at once")

    def _cut(self) -> str:
        try:
            self._backend.load(self._model, self._content[: len(self._content) // 2], self._options).close()
        except EngineError as error:
            return on_one_line(error)
        raise EngineError("half of an engine file was loaded")

    def _running(self) -> Engine:
        if self._engine is None:
            raise EngineError("there is no engine any more")
        return self._engine

    @staticmethod
    def _same(expected: NDArray[np.float32], found: NDArray[np.float32], bar: float = _SAME) -> str:
        if found.shape != expected.shape:
            raise EngineError(f"descriptors have shape {found.shape}, not {expected.shape}")
        cosine = float(np.sum(expected * found, axis=1).min())
        if not cosine >= bar:  # NaN is not
            raise EngineError(f"cosine {cosine:.5f}, bar {bar:g}")
        return f"cosine {cosine:.5f}"
