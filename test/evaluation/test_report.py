"""The page holds the numbers, loads nothing, and copes with whatever is missing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from html_pages import check_page

from vpr_ros.config import Config
from vpr_ros.evaluation.closure_files import OdometryPath
from vpr_ros.evaluation.ground_truth import GroundTruth
from vpr_ros.evaluation.metrics import evaluate
from vpr_ros.evaluation.report import Run, top_down, write_report
from vpr_ros.types import Candidate, FrameRef, Image, KeyframeRef, MatchStatus, PlaceMatch, Verification

SECOND = 10**9
FRAMES = [FrameRef("", index * SECOND) for index in range(60)]
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
    match = KeyframeRef("", "", found, found * SECOND)
    candidates = (Candidate(match, 0.75),)
    return PlaceMatch(
        stamp,
        MatchStatus.ACCEPTED,
        keyframe_id=index,
        match=match,
        similarity=0.75,
        verification=verification,
        candidates=candidates,
    )


MATCHES = [answer(index) for index in ALL]
TRUE_POSES = dict(zip(FRAMES, POSES, strict=True))
METRICS = evaluate(MATCHES, GroundTruth(FRAMES, POSES), FRAMES)


def in_session(match: PlaceMatch, session: str, second: int) -> PlaceMatch:
    """Of a drive of several sessions, the first of which all matches are of."""
    matched = None if match.match is None else replace(match.match, session="day")
    candidates = tuple(replace(c, keyframe=replace(c.keyframe, session="day")) for c in match.candidates)
    return replace(match, session=session, stamp_ns=second * SECOND, match=matched, candidates=candidates)


def image_of(frame: FrameRef) -> Image:
    return np.full((30, 1000, 3), (200, 40, frame.stamp_ns // SECOND), dtype=np.uint8)


FULL = Run(
    name="laps <script>alert(1)</script>",
    created="2025-01-02 03:04",
    model={"model": "tiny", "id": "abc123"},
    config=Config().with_values({"match.top_k": 7}).flat() | {"extra.thing": True},
    matches=MATCHES,
    metrics=METRICS,
    true_poses=TRUE_POSES,
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
    asked: list[FrameRef] = []

    def none(frame: FrameRef) -> None:
        asked.append(frame)

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
    html = page(tmp_path, replace(FULL, true_poses={}))
    assert "Neither poses nor odometry" in html
    assert html.count("<svg") == 1


def test_a_plot_that_cannot_be_drawn_does_not_take_the_report_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> str:
        raise TypeError("of another matplotlib")

    monkeypatch.setattr("vpr_ros.evaluation.report.svg", fails)
    assert page(tmp_path, FULL).count("<svg") == 0
    assert caplog.text.count("the report lacks a plot: TypeError: of another matplotlib") == 2


def test_an_empty_run_has_a_page(tmp_path: Path) -> None:
    nothing = evaluate([], GroundTruth(FRAMES, POSES), {})
    for metrics in (None, nothing):
        empty = Run("nothing", "", {}, {}, [], metrics)
        assert "No latencies were measured" in page(tmp_path, empty)
    assert "nothing to recall" in page(tmp_path, empty)


def test_the_same_run_makes_the_same_page(tmp_path: Path) -> None:
    assert page(tmp_path, FULL) == page(tmp_path, FULL)


@pytest.mark.parametrize("up", [1, 2])
def test_the_trajectory_is_seen_from_above(up: int) -> None:
    positions = np.random.default_rng(0).uniform(0, 100, (20, 3))
    positions[:, up] /= 50
    np.testing.assert_array_equal(top_down(positions), np.delete(positions, up, axis=1))


def test_a_truth_of_a_part_of_the_drive_is_warned_of(tmp_path: Path) -> None:
    known = np.where(np.arange(60)[:, None, None] % 3 == 0, POSES, np.nan)
    metrics = evaluate(MATCHES, GroundTruth(FRAMES, known), FRAMES)
    run = replace(FULL, metrics=metrics, true_poses=dict(zip(FRAMES, known, strict=True)))
    html = page(tmp_path, run)
    assert "The ground truth covers 20 of 60 frames (33 %): precision and recall are of these alone." in html
    assert "40 without a pose" in html
    assert "33.3 %" in html
    assert "Warning" not in page(tmp_path, FULL)


def test_without_verification_there_is_no_figure_of_it(tmp_path: Path) -> None:
    metrics = evaluate(MATCHES, GroundTruth(FRAMES, POSES), FRAMES, verification=False)
    assert ">verified<" in page(tmp_path, FULL)
    html = page(tmp_path, replace(FULL, metrics=metrics))
    assert ">verified<" not in html
    assert "descriptor alone" in html


def test_frames_with_one_stamp_are_named_with_their_session(tmp_path: Path) -> None:
    """The second lap has the stamps of the first: the images are those of their sessions."""
    matches = [in_session(m, "day" if k < 30 else "day+", k % 30) for k, m in enumerate(MATCHES)]
    frames = [m.frame for m in matches]
    metrics = evaluate(matches, GroundTruth(frames, POSES), frames)
    assert (metrics.revisits, metrics.accepted_true) == (30, 16)
    asked: list[FrameRef] = []

    def image(frame: FrameRef) -> Image:
        asked.append(frame)
        return image_of(frame)

    html = page(
        tmp_path,
        replace(
            FULL, matches=matches, metrics=metrics, true_poses=dict(zip(frames, POSES, strict=True)), image_of=image
        ),
    )
    assert "query 1.000 s of day+" in html
    assert "match 1.000 s of day<" in html
    assert {frame.session for frame in asked[::2]} == {"day+"}
    assert {frame.session for frame in asked[1::2]} == {"day"}


def test_odometry_draws_the_path_where_there_is_no_truth(tmp_path: Path) -> None:
    odometry = (OdometryPath(TRUE_POSES),)
    html = page(tmp_path, replace(FULL, metrics=None, true_poses={}, odometry=odometry))
    assert html.count("<svg") == 1
    assert "closure, not judged" in html


def test_frames_per_second() -> None:
    assert FULL.frames_per_second == pytest.approx(40.0)
    assert replace(FULL, latencies={}).frames_per_second is None
