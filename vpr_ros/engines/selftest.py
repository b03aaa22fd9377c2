"""Does every engine keep its contract on this machine? `vpr engine selftest` prints the table for an issue."""

from __future__ import annotations

import importlib.metadata
import platform
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vpr_ros.engines.backend import Backend, BuildOptions, Engine, Progress
from vpr_ros.engines.nvidia_driver import NvidiaDriver
from vpr_ros.engines.parity import BARS, compare
from vpr_ros.errors import EngineError
from vpr_ros.model import PlaceModel

PASS, FAIL, SKIP = "PASS", "FAIL", "SKIP"
BATCH = 4
"""Images in the largest call of the engines that are tested."""
GraphOf = Callable[..., bytes]
"""`vpr_ros.engines.precision.graph_of`: the model in a precision, calibrated on images."""

_SAME = 0.999
"""Least cosine between two descriptors that an engine makes of one image: roundings differ with the batch."""
_PACKAGES = (
    "vpr_ros numpy onnx onnxruntime onnxruntime-gpu openvino tensorrt tensorrt-cu12 tensorrt-cu13 tensorrt-rtx-cu12 tensorrt-rtx-cu13 pycuda opencv-python"
    " opencv-python-headless"
)


@dataclass(frozen=True, slots=True)
class Row:
    """One check of one engine: PASS, FAIL or SKIP, and one clause."""

    backend: str
    precision: str
    check: str
    result: str
    clause: str


@dataclass(frozen=True, slots=True)
class SelfTest:
    """What was checked, and on what: (name, version) of the system, libraries and devices."""

    rows: tuple[Row, ...]
    versions: tuple[tuple[str, str], ...]

    @property
    def passed(self) -> bool:
        """No check failed. What was skipped does not count: a machine without a GPU passes."""
        return all(row.result != FAIL for row in self.rows)


def selftest(
    model: PlaceModel,
    images: NDArray[np.uint8],
    backends: Sequence[Backend],
    progress: Progress,
    *,
    reference: Engine,
    graph_of: GraphOf,
) -> SelfTest:
    """Build, run and compare each backend in each of its precisions on `images` (N, H, W, 3) of the model's size.

    A failure is a row, not an exception, so that the table is always whole; what `progress` raises ends the test,
    except in a build, where it fails the build. It is told each check before it begins: should a library crash the
    process, the last line says where. Raises EngineError for fewer than two images.
    """
    if len(images) < 2:
        raise EngineError("the self-test needs at least two images")
    rows: list[Row] = []
    for backend in backends:
        if missing := backend.missing():
            rows.append(Row(backend.name, "", "available", SKIP, missing))
            continue
        for precision in backend.precisions:
            checks = _Checks(model, images, backend, precision, reference, graph_of, progress)
            rows += [Row(backend.name, precision, *outcome) for outcome in checks.run()]
    return SelfTest(tuple(rows), tuple(_versions(model, images, backends)))


def text(result: SelfTest) -> str:
    """Versions and rows as plain aligned text."""
    width = max(len(name) for name, _ in result.versions)
    lines = [f"{name:<{width}}  {version}" for name, version in result.versions]
    table = [("engine", "check", "result", "")]
    table += [(f"{row.backend} {row.precision}".strip(), row.check, row.result, row.clause) for row in result.rows]
    widths = [max(len(row[column]) for row in table) for column in range(3)]
    lines += ["", *("  ".join((*map(str.ljust, row[:3], widths), row[3])).rstrip() for row in table)]
    counts = ", ".join(f"{sum(row.result == kind for row in result.rows)} {kind}" for kind in (PASS, FAIL, SKIP))
    return "\n".join([*lines, "", counts])


class _Skip(Exception):
    """A check that says nothing here, with the reason."""


class _Interrupt(Exception):
    """Ends a build, as Ctrl-C or the end of a node would."""


class _Checks:
    """The checks of one backend in one precision, in order. Each returns a clause or raises."""

    def __init__(
        self,
        model: PlaceModel,
        images: NDArray[np.uint8],
        backend: Backend,
        precision: str,
        reference: Engine,
        graph_of: GraphOf,
        progress: Progress,
    ) -> None:
        self._model, self._images, self._backend = model, images, backend
        self._reference, self._graph_of, self._progress = reference, graph_of, progress
        self._options = BuildOptions(precision=precision, batch=BATCH)
        self._name = f"{backend.name} {precision}"
        self._content = b""
        self._graph = b""
        self._engine: Engine | None = None

    def run(self) -> Iterator[tuple[str, str, str]]:
        """(check, result, clause). Without an engine there is nothing more to check."""
        try:
            for check, work in (("build", self._build), ("load", self._load)):
                outcome = self._outcome(check, work)
                yield check, *outcome
                if outcome[0] != PASS:
                    return
            for check, work in (
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
                yield check, *self._outcome(check, work)
        finally:
            if self._engine is not None:
                self._engine.close()

    def _outcome(self, check: str, work: Callable[[], str]) -> tuple[str, str]:
        self._progress(f"{self._name}: {check}", None)
        try:
            return PASS, work()
        except _Skip as skip:
            return SKIP, str(skip)
        except Exception as error:
            kind = "" if isinstance(error, EngineError) else f"{type(error).__name__}: "
            return FAIL, " ".join(f"{kind}{error}".split())

    def _build(self) -> str:
        symmetric = self._backend.needs_symmetric_int8
        self._graph = self._graph_of(self._model, self._options.precision, self._images, symmetric=symmetric)
        start = time.monotonic()
        self._content = self._backend.build(self._model, self._graph, self._options, self._progress)
        return f"{time.monotonic() - start:.1f} s, {len(self._content) / 1e6:.1f} MB"

    def _load(self) -> str:
        start = time.monotonic()
        self._engine = self._backend.load(self._model, self._content, self._options)
        return f"{time.monotonic() - start:.2f} s"

    def _agrees(self) -> str:
        parity = compare(self._running(), self._reference, self._images, BARS[self._options.precision])
        if not parity.holds:
            raise EngineError(str(parity))
        return str(parity)

    def _repeats(self) -> str:
        """Three calls with one image and others between: a recorded graph must not answer with what it has recorded."""
        first = self._running().describe(self._images[:1])
        for other in (self._images[1:2], self._images[:1], self._images[1:2]):
            self._same(self._reference.describe(other), self._running().describe(other), BARS[self._options.precision])
        return self._same(first, self._running().describe(self._images[:1]))

    def _batches(self) -> str:
        images = np.concatenate([self._images] * (BATCH // len(self._images) + 1))[: BATCH + 1]
        single = np.concatenate([self._running().describe(image[None]) for image in images])
        for size in range(2, BATCH + 2):  # the last one is larger than the engine's batch
            self._same(single[:size], self._running().describe(images[:size]))
        return f"1 to {BATCH + 1} images"

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
            BARS[self._options.precision],
        )

    def _interrupt(self) -> str:
        def interrupt(text: str, share: float | None) -> None:
            raise _Interrupt

        start = time.monotonic()
        try:
            self._backend.build(self._model, self._graph, self._options, interrupt)
        except _Interrupt:
            return f"ended after {time.monotonic() - start:.1f} s"
        raise _Skip("it builds at once")

    def _cut(self) -> str:
        try:
            self._backend.load(self._model, self._content[: len(self._content) // 2], self._options).close()
        except EngineError as error:
            return " ".join(str(error).split())
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


def _versions(model: PlaceModel, images: NDArray[np.uint8], backends: Sequence[Backend]) -> Iterator[tuple[str, str]]:
    yield "model", f"{model.name} {model.id[:12]}, {model.width} x {model.height}, {len(images)} images"
    yield "Python", platform.python_version()
    yield "platform", platform.platform()
    for package in _PACKAGES.split():
        try:
            yield package, importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    try:
        driver = NvidiaDriver()
        yield "NVIDIA driver", driver.version()
        yield "GPU", driver.device()
    except EngineError as error:
        yield "GPU", str(error)
    for backend in backends:
        if not backend.missing():
            yield backend.name, ", ".join(backend.identity().values())
