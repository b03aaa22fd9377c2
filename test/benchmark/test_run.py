from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from fake_backends import FakeBackend, FakeEngine
from small_benchmarks import IMAGES, AbortingBackend, Told, case
from small_worlds import texture

from vpr_ros import benchmark
from vpr_ros.benchmark.case import Settings, cases
from vpr_ros.benchmark.row import Row
from vpr_ros.config import Config
from vpr_ros.engines.backend import BuildOptions
from vpr_ros.engines.onnxruntime_engine import OnnxRuntimeBackend
from vpr_ros.errors import SourceError
from vpr_ros.evaluation.ground_truth import Protocol
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
    monkeypatch.setattr(benchmark, "in_process", lambda tell, work, *arguments: work(tell, *arguments))


def test_in_processes_of_their_own_one_may_crash(grid_model: PlaceModel, settings: Settings) -> None:
    told = Told()
    aborting = AbortingBackend()
    crashed, row = benchmark.run(
        [case(grid_model, aborting), case(grid_model, OnnxRuntimeBackend(), batch=2)], settings, told
    )
    assert crashed == Row(
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
    [row] = benchmark.run([case(grid_model, backend, precision)], settings, Told())
    assert (row.measured, row.reason) == (None, reason)


# --- recall -----------------------------------------------------------------------------------------------------------


def write_drive(root: Path, places: list[int]) -> Path:
    """A TUM recording with an image a second; place k is 20 k metres away."""
    root.mkdir()
    names, poses = [], []
    for second, place in enumerate(places):
        cv2.imwrite(str(root / f"{second}.png"), texture(place, 64, 48))
        names.append(f"{second} {second}.png\n")
        poses.append(f"{second} {20 * place} 0 0 0 0 0 1\n")
    (root / "rgb.txt").write_text("".join(names))
    (root / "groundtruth.txt").write_text("".join(poses))
    return root


@pytest.fixture
def judged(settings: Settings, tmp_path: Path) -> Settings:
    """Eight places, then the first four again."""
    values = {"keyframe.min_interval_s": 0.0, "exclusion.time_s": 4.0, "exclusion.count": 0, "engine.threads": 1}
    places = write_drive(tmp_path / "drive", [0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3])
    config = Config().with_values(values)
    return replace(settings, config=config, places=places, protocol=Protocol(exclusion_s=4.0))


@pytest.mark.usefixtures("here")
def test_recall_and_its_change(grid_model: PlaceModel, judged: Settings) -> None:
    told = Told()
    both_batches = cases([(grid_model, IMAGES)], {"fake": FakeBackend()}, precisions=["fp32"])
    rows = list(benchmark.run(both_batches, judged, told))
    assert [(row.measured.recall, row.measured.reference_recall) for row in rows] == [(1.0, 1.0)] * 2
    assert told.texts[0] == "recall@1 of the reference"
    assert told.texts.count("recall@1 of the reference") == 1
    assert told.texts.count("recall@1 of the engine") == 1  # the same for all batches


@pytest.mark.usefixtures("here")
def test_an_engine_that_finds_fewer_places(grid_model: PlaceModel, judged: Settings) -> None:
    [row] = benchmark.run([case(grid_model, BlindBackend())], judged, Told())
    m = row.measured
    assert m is not None, row.reason
    assert m.is_refused
    assert (m.recall, m.reference_recall) == (0.0, 1.0)  # who sees the same everywhere has never left a place


@pytest.mark.usefixtures("here")
def test_places_that_never_come_back_are_a_users_mistake(
    grid_model: PlaceModel, judged: Settings, tmp_path: Path
) -> None:
    backend = FakeBackend()
    one_way = replace(judged, places=write_drive(tmp_path / "one_way", [0, 1, 2, 3]))
    with pytest.raises(SourceError, match="never comes back"):
        list(benchmark.run([case(grid_model, backend)], one_way, Told()))
    assert backend.built == []
