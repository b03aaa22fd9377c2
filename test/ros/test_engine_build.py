from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from fake_backends import FakeBackend, FakeEngine

from vpr_ros.engines.backend import BuildProgress
from vpr_ros.errors import EngineError, SourceError
from vpr_ros.model import PlaceModel
from vpr_ros.ros.engine_build import EngineBuild


class Heard:
    def __init__(self) -> None:
        self.used: list[FakeEngine] = []
        self.failures: list[str] = []
        self.said: list[str] = []

    def build(self, open_engine: Callable[[BuildProgress], FakeEngine]) -> EngineBuild:
        return EngineBuild(open_engine, self.used.append, self.failures.append, self.said.append)


def test_the_engine_is_handed_over_when_it_is_ready(grid_model: PlaceModel) -> None:
    heard, engine, go = Heard(), FakeEngine(grid_model, FakeBackend()), threading.Event()

    def open_engine(progress: BuildProgress) -> FakeEngine:
        progress("building fake fp32", None)
        progress("turning beads", 0.25)
        started.set()
        assert go.wait(10)
        return engine

    started = threading.Event()
    build = heard.build(open_engine)
    assert started.wait(10)
    assert (build.state, heard.used, heard.said) == ("turning beads: 25 %", [], ["building fake fp32"])
    go.set()
    build._thread.join(10)
    assert (build.state, heard.used, heard.failures) == ("", [engine], [])


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (SourceError("no images"), "no images"),
        (RuntimeError("boom"), "the engine failed to open: RuntimeError: boom"),
    ],
)
def test_an_engine_that_does_not_open_is_said(error: Exception, reason: str) -> None:
    heard = Heard()

    def open_engine(progress: BuildProgress) -> FakeEngine:
        raise error

    heard.build(open_engine)._thread.join(10)
    assert (heard.used, heard.failures) == ([], [reason])


def test_a_build_that_is_cancelled_ends_at_its_next_step(grid_model: PlaceModel) -> None:
    heard, started = Heard(), threading.Event()

    def open_engine(progress: BuildProgress) -> FakeEngine:
        while True:
            progress("turning beads", 0.5)
            started.set()

    build = heard.build(open_engine)
    assert started.wait(10)
    assert build.cancel(120)
    assert (heard.used, heard.failures) == ([], [])


def test_an_engine_that_comes_after_the_cancellation_is_closed(grid_model: PlaceModel) -> None:
    heard, engine, started, go = Heard(), FakeEngine(grid_model, FakeBackend()), threading.Event(), threading.Event()

    def open_engine(progress: BuildProgress) -> FakeEngine:
        started.set()
        assert go.wait(10)
        return engine

    build = heard.build(open_engine)
    assert started.wait(10)
    build._is_cancelled.set()
    go.set()
    assert build.cancel(120)
    assert heard.used == []
    assert engine.is_closed


def test_a_compiler_that_never_returns_is_not_waited_for_and_fails_in_silence() -> None:
    heard, started, go = Heard(), threading.Event(), threading.Event()

    def open_engine(progress: BuildProgress) -> FakeEngine:
        started.set()
        assert go.wait(250)
        raise EngineError("too late")

    build = heard.build(open_engine)
    assert started.wait(250)
    assert not build.cancel(0.01)
    go.set()
    build._thread.join(250)
    assert (heard.used, heard.failures) == ([], [])
