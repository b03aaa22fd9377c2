from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from fake_backends import FakeBackend, FakeEngine
from small_benchmarks import IMAGES, AbortingBackend, CrashingAtTheEnd, Sameness, Told, case

from vpr_ros.engines.backend import BuildOptions, Engine, UnsupportedPrecision
from vpr_ros.engines.benchmark import run
from vpr_ros.engines.benchmark.case import Settings, cases
from vpr_ros.engines.benchmark.checks import FAIL, Check
from vpr_ros.engines.benchmark.row import BenchmarkRow
from vpr_ros.engines.onnxruntime_engine import OnnxRuntimeBackend
from vpr_ros.errors import SourceError
from vpr_ros.model import PlaceModel


@dataclass
class BlindBackend(FakeBackend):
    """All images look the same to it."""

    def load(self, model: PlaceModel, content: bytes, options: BuildOptions) -> FakeEngine:
        engine = super().load(model, content, options)
        same = np.full(model.dim, model.dim**-0.5, np.float32)
        engine.describe = lambda images: np.tile(same, (len(images), 1))  # type: ignore[method-assign]
        return engine


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without processes: what they do is under test, not that they are."""
    monkeypatch.setattr(run, "in_process", lambda progress, work, *arguments: work(progress, *arguments))


def test_in_processes_of_their_own_one_may_crash(grid_model: PlaceModel, settings: Settings) -> None:
    told = Told()
    aborting = AbortingBackend()
    crashed, row = run.run(
        [case(grid_model, aborting), case(grid_model, OnnxRuntimeBackend(), batch=2)], settings, told
    )
    assert crashed == BenchmarkRow(
        "grid", grid_model.id, "64x48", "aborting", "fp32", 1,
        reason="the process crashed (SIGABRT) while dividing by zero",
    )  # fmt: skip
    m = row.measured
    assert m is not None, row.reason
    assert (row.backend, row.batch, m.rounds, m.images) == ("onnxruntime", 2, 7, 3)
    assert m.cosine_min == pytest.approx(1, abs=1e-6)
    assert not m.is_refused
    assert m.memory_mb > 0
    assert m.device_memory_mb is None
    assert m.build_s > 0
    assert "measuring engine and reference in turns" in told.texts
    assert aborting.engines == []


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("backend", "precision", "reason"),
    [
        (FakeBackend(why_missing="it is not installed"), "fp32", "it is not installed"),
        (FakeBackend(), "int8", "fake has fp32, bf16 only"),
        (FakeBackend(builds=False), "fp32", "operator Bead is not known"),
        (FakeBackend(loads=False), "fp32", "not a file of mine"),
        (FakeBackend(has_lost_its_device=True), "fp32", "the device is lost"),
    ],
)
def test_what_cannot_run_is_a_row_with_its_reason(
    grid_model: PlaceModel, settings: Settings, backend: FakeBackend, precision: str, reason: str
) -> None:
    [row] = run.run([case(grid_model, backend, precision)], settings, Told())
    assert (row.measured, row.reason) == (None, reason)


# --- recall -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def judged(settings: Settings) -> Settings:
    return replace(settings, recall_of=Sameness())


@pytest.mark.usefixtures("here")
def test_recall_and_its_change(grid_model: PlaceModel, judged: Settings) -> None:
    told = Told()
    both_batches = cases([(grid_model, IMAGES)], {"fake": FakeBackend()}, precisions=["fp32"])
    rows = list(run.run(both_batches, judged, told))
    assert [(row.measured.recall, row.measured.reference_recall) for row in rows] == [(1.0, 1.0)] * 2
    assert told.texts[0] == "recall@1 of the reference"
    assert told.texts.count("recall@1 of the reference") == 1
    assert told.texts.count("recall@1 of the engine") == 1  # the same for all batches


@pytest.mark.usefixtures("here")
def test_an_engine_that_finds_fewer_places(grid_model: PlaceModel, judged: Settings) -> None:
    [row] = run.run([case(grid_model, BlindBackend())], judged, Told())
    m = row.measured
    assert m is not None, row.reason
    assert m.is_refused
    assert (m.recall, m.reference_recall) == (0.0, 1.0)  # who sees the same everywhere has never left a place


@pytest.mark.usefixtures("here")
def test_a_mistake_in_the_recording_shows_before_anything_is_built(grid_model: PlaceModel, settings: Settings) -> None:
    def recall_of(engine: Engine) -> float:
        raise SourceError("the robot never comes back")

    backend = FakeBackend()
    with pytest.raises(SourceError, match="never comes back"):
        list(run.run([case(grid_model, backend)], replace(settings, recall_of=recall_of), Told()))
    assert backend.built == []


def test_recall_is_found_in_another_process(grid_model: PlaceModel, judged: Settings) -> None:
    [row] = run.run([case(grid_model, OnnxRuntimeBackend())], judged, Told())
    assert row.measured is not None, row.reason
    assert (row.measured.recall, row.measured.reference_recall) == (1.0, 1.0)


# --- checks -----------------------------------------------------------------------------------------------------------


def test_checks_are_part_of_the_row(grid_model: PlaceModel, settings: Settings) -> None:
    right, broken, missing = run.run(
        [
            case(grid_model, OnnxRuntimeBackend()),
            case(grid_model, FakeBackend(builds=False)),
            case(grid_model, FakeBackend(why_missing="no GPU")),
        ],
        replace(settings, checks=True),
        Told(),
    )
    assert right.measured
    assert len(right.checks) == 9
    assert right.failed == ()
    assert broken.failed == broken.checks == (Check("runs", FAIL, "operator Bead is not known"),)
    assert (missing.reason, missing.checks) == ("no GPU", ())


def test_a_check_that_crashes_costs_no_measurement(grid_model: PlaceModel, settings: Settings) -> None:
    [row] = run.run([case(grid_model, CrashingAtTheEnd())], replace(settings, checks=True), Told())
    assert row.measured
    [check] = row.failed
    assert check.clause == "the process crashed (SIGABRT) while checking `cut file is refused`"


@pytest.mark.usefixtures("here")
def test_a_precision_that_a_device_has_not_is_no_failure(
    grid_model: PlaceModel, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(*arguments: object) -> bytes:
        raise UnsupportedPrecision("this CPU cannot compute in bf16")

    monkeypatch.setattr(FakeBackend, "build", build)
    [row] = run.run([case(grid_model, FakeBackend(), "bf16")], replace(settings, checks=True), Told())
    assert (row.reason, row.failed) == ("this CPU cannot compute in bf16", ())
