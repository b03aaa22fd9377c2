"""The page holds the numbers, loads nothing, and copes with whatever is missing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from html_pages import check_page

from vpr_ros.config import Config
from vpr_ros.evaluation.ground_truth import GroundTruth
from vpr_ros.evaluation.metrics import evaluate
from vpr_ros.evaluation.report import Run, Trajectory, write_report
from vpr_ros.types import Candidate, Image, MatchStatus, PlaceMatch, Verification

SECOND = 10**9
STAMPS = np.arange(60, dtype=np.int64) * SECOND
POSES = np.tile(np.eye(4), (60, 1, 1))
POSES[:, 0, 3] = 20.0 * (np.arange(60) % 30)  # two laps
ALL = range(60)


def answer(index: int) -> PlaceMatch:
    stamp = index * SECOND
    if index < 30:
        return PlaceMatch(stamp, MatchStatus.RECENT)
    if index % 3 == 0:
        return PlaceMatch(stamp, MatchStatus.LOW_SCORE)
    found = index - 30 if index % 5 else 2
    verification = Verification(50 - index % 5, 0.5, 0.5)
    candidates = (Candidate(found, 0.75),)
    return PlaceMatch(
        stamp, MatchStatus.ACCEPTED, "", index, found, found * SECOND, "", 0.75, None, 0, verification, candidates
    )


MATCHES = [answer(index) for index in ALL]
METRICS = evaluate(MATCHES, GroundTruth(STAMPS, POSES), {index: index * SECOND for index in ALL})


def image_of(stamp_ns: int) -> Image:
    return np.full((30, 1000, 3), (200, 40, stamp_ns // SECOND), dtype=np.uint8)


FULL = Run(
    name="laps <script>alert(1)</script>",
    created="2025-01-02 03:04",
    model={"model": "tiny", "id": "abc123"},
    config=Config().with_values({"match.top_k": 7}).flat() | {"extra.thing": True},
    matches=MATCHES,
    metrics=METRICS,
    trajectory=Trajectory(STAMPS, POSES[:, :3, 3]),
    latencies={"descriptor": np.full(60, 0.02), "search": np.full(60, 0.005), "stage that never ran": np.zeros(0)},
    image_of=image_of,
    notes=["3 unreadable images skipped"],
)


def page(tmp_path: Path, run: Run) -> str:
    write_report(tmp_path / "report.html", run)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    check_page(html)
    return html


def test_text_is_escaped(tmp_path: Path) -> None:
    assert "laps &lt;script&gt;" in page(tmp_path, FULL)


def test_the_page_holds_the_numbers(tmp_path: Path) -> None:
    html = page(tmp_path, FULL)
    assert METRICS.revisits == 30
    assert (METRICS.accepted_true, METRICS.accepted_false) == (16, 4)
    for text in (
        "80.0 %",
        "53.3 %",
        METRICS.protocol.describe(),
        "2025-01-02 03:04",
        "abc123",
        "3 unreadable images skipped",
        "40.0",
        "AP 0.",
        "extra.thing",
        MatchStatus.LOW_SCORE.reason,
    ):
        assert text in html, text
    assert html.count('class="changed"') == 1
    assert "stage that never ran" not in html


def test_the_galleries_are_full_and_not_overfull(tmp_path: Path) -> None:
    html = page(tmp_path, FULL)
    assert html.count("<figure>") == 8 + 4 + 8
    assert html.count("data:image/jpeg") == 2 * 20
    assert "true place 0.000 s" in html
    assert "no guess" in html


def test_images_are_asked_for_only_if_shown(tmp_path: Path) -> None:
    asked: list[int] = []

    def none(stamp_ns: int) -> None:
        asked.append(stamp_ns)

    html = page(tmp_path, replace(FULL, image_of=none))
    assert len(asked) == 2 * 20
    assert html.count("no image") == 2 * 20


def test_without_ground_truth_nothing_is_judged(tmp_path: Path) -> None:
    html = page(tmp_path, replace(FULL, metrics=None))
    assert "Without poses they cannot be judged" in html
    assert "No ground truth was given" in html
    assert "Precision and recall" not in html
    assert html.count("<figure>") == 8
    assert html.count("<svg") == 1


def test_without_poses_there_is_no_trajectory(tmp_path: Path) -> None:
    html = page(tmp_path, replace(FULL, trajectory=None))
    assert "Neither poses nor odometry" in html
    assert html.count("<svg") == 1


def test_an_empty_run_has_a_page(tmp_path: Path) -> None:
    nothing = evaluate([], GroundTruth(STAMPS, POSES), {})
    for metrics in (None, nothing):
        empty = Run("nothing", "", {}, {}, [], metrics, Trajectory(STAMPS[:0], np.zeros((0, 3))))
        assert "No latencies were measured" in page(tmp_path, empty)
    assert "nothing to recall" in page(tmp_path, empty)


def test_the_same_run_makes_the_same_page(tmp_path: Path) -> None:
    assert page(tmp_path, FULL) == page(tmp_path, FULL)


@pytest.mark.parametrize("up", [1, 2])
def test_the_trajectory_is_seen_from_above(up: int) -> None:
    positions = np.random.default_rng(0).uniform(0, 100, (20, 3))
    positions[:, up] /= 50
    np.testing.assert_array_equal(Trajectory(STAMPS[:20], positions).top_down(), np.delete(positions, up, axis=1))


def test_frames_per_second() -> None:
    assert FULL.frames_per_second == pytest.approx(40.0)
    assert replace(FULL, latencies={}).frames_per_second is None
