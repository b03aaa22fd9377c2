"""One self-contained HTML page about one run: numbers, curves, map, gallery, latency, configuration."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import matplotlib
import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vpr_ros.config import Config, Scalar
from vpr_ros.evaluation.closure_files import OdometryPath
from vpr_ros.evaluation.figures import AMBER, BLUE, GREEN, INK, RED, STYLE, data_uri, render, svg
from vpr_ros.evaluation.metrics import Judgement, Metrics, Verdict, count_statuses
from vpr_ros.printable import on_one_line
from vpr_ros.recognition.relocalization import Localization
from vpr_ros.types import FrameRef, Image, MatchStatus, PlaceMatch, Pose

T = TypeVar("T")
logger = logging.getLogger(__name__)

_TEMPLATE = Path(__file__).parent / "templates" / "report.html.j2"
_PER_GALLERY = 8


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """All that the report shows, as plain data.

    `matches` holds one answer per frame. `latencies` gives the seconds that each stage took, one number per time it
    ran; stages do not overlap. `image_of` is asked only for frames that the gallery shows, and may not have them.
    `true_poses` are (4, 4) in one world, in the order of time and NaN where unknown; `odometry` begins anew with each path.
    Without `metrics` (no ground truth), or without either, the page leaves out what needs them, and says so.
    """

    name: str
    created: str
    model: Mapping[str, str]
    config: Mapping[str, Scalar]
    matches: Sequence[PlaceMatch]
    metrics: Metrics | None = None
    true_poses: Mapping[FrameRef, Pose] = field(default_factory=dict)
    odometry: Sequence[OdometryPath] = ()
    latencies: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    image_of: Callable[[FrameRef], Image | None] = lambda frame: None
    notes: Sequence[str] = ()
    localizations: Sequence[Localization] = ()
    """What became known of where the robot was in the map of an earlier drive."""
    is_live: bool = False
    """The latencies include waiting, for images or for a connection: they say nothing about throughput."""

    @property
    def sessions(self) -> list[str]:
        """In the order in which they were driven."""
        return list(dict.fromkeys(match.session for match in self.matches))

    @property
    def frames_per_second(self) -> float | None:
        """Frames over the seconds of all stages, one stage after the other; None if live or without latencies."""
        if self.is_live:
            return None
        seconds = sum(float(np.sum(stage)) for stage in self.latencies.values())
        return len(self.matches) / seconds if seconds > 0.0 else None


def write_report(path: str | Path, run: Run) -> None:
    """Writes `run` as a single HTML file that loads nothing from elsewhere."""
    html = render(
        _TEMPLATE,
        run=run,
        percent=_percent,
        tiles=_tiles(run),
        curves=_drawn(_curve_plot, run.metrics),
        trajectory=_drawn(_trajectory_plot, run),
        galleries=_galleries(run),
        rejects=_reject_rows(run.matches),
        stages=_stage_rows(run.latencies),
        config=_config_rows(run.config),
    )
    Path(path).write_text(html, encoding="utf-8")


@dataclass(frozen=True, slots=True)
class _Tile:
    value: str
    label: str
    hint: str = ""


def _tiles(run: Run) -> list[_Tile]:
    accepted = sum(match.accepted for match in run.matches)
    fps = _number(run.frames_per_second, ".1f")
    speed = _Tile(fps, "frames per second", "sum of all stages, no waiting")
    m = run.metrics
    if m is None:
        return [_Tile(str(len(run.matches)), "queries"), _Tile(str(accepted), "closures accepted"), speed]
    counts = ((m.without_pose, "without a pose"), (m.undecided, "that cannot be judged"))
    apart = ", ".join(f"{count} {name}" for count, name in counts if count)
    uncounted = m.accepted - m.accepted_true - m.accepted_false
    return [
        _Tile(str(m.queries), "queries", f"{apart} left out" if apart else ""),
        _Tile(_percent(m.coverage), "of the frames have a true pose"),
        _Tile(str(m.revisits), "true revisits"),
        _Tile(str(m.accepted), "closures accepted", f"{uncounted} count neither way" if uncounted else ""),
        _Tile(_percent(m.precision), "precision", f"{m.accepted_false} false closures"),
        _Tile(_percent(m.recall), "recall", f"{m.accepted_true} of {m.revisits} revisits"),
        _Tile(_percent(m.descriptor.max_recall_at_full_precision), "max recall @ 100 % precision", "descriptor alone"),
        *_verified_tile(m),
        speed,
    ]


def _verified_tile(metrics: Metrics) -> list[_Tile]:
    if metrics.verified is None:
        return []
    share = _percent(metrics.verified.max_recall_at_full_precision)
    return [_Tile(share, "max recall @ 100 % precision", "verified")]


@dataclass(frozen=True, slots=True)
class _Picture:
    label: str
    source: str | None
    """A data URI, or None where there is no image."""


@dataclass(frozen=True, slots=True)
class _Card:
    pictures: tuple[_Picture, _Picture]
    facts: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class _Gallery:
    title: str
    kind: str
    total: int
    cards: tuple[_Card, ...]
    text: str


def _galleries(run: Run) -> list[_Gallery]:
    if run.metrics is None:
        accepted = [(match, Judgement(Verdict.UNKNOWN)) for match in run.matches if match.accepted]
        text = "Without poses they cannot be judged: these are the accepted closures, right or wrong."
        return [_gallery(run, "Accepted closures", "plain", accepted, text)]
    judged = list(zip(run.matches, run.metrics.judgements, strict=True))

    def of(verdict: Verdict) -> list[tuple[PlaceMatch, Judgement]]:
        return [pair for pair in judged if pair[1].verdict is verdict]

    return [
        _gallery(run, "True closures", "true", of(Verdict.TRUE), "Accepted and correct."),
        _gallery(run, "False closures", "false", of(Verdict.FALSE), "Accepted and wrong."),
        _gallery(
            run, "Missed revisits", "missed", of(Verdict.MISSED), "Not accepted; on the right the place seen before."
        ),
    ]


def _gallery(run: Run, title: str, kind: str, items: Sequence[tuple[PlaceMatch, Judgement]], text: str) -> _Gallery:
    # spread over the run, since neighbouring frames look the same
    picks = np.unique(np.linspace(0, len(items) - 1, min(_PER_GALLERY, len(items))).round().astype(int))
    cards = tuple(_card(run, *items[pick]) for pick in picks)
    return _Gallery(title, kind, len(items), cards, text)


def _card(run: Run, match: PlaceMatch, judgement: Judgement) -> _Card:
    missed = judgement.verdict is Verdict.MISSED
    other = judgement.revisit if missed else match.match_frame
    pictures = (_picture(run, "query", match.frame), _picture(run, "true place" if missed else "match", other))
    return _Card(pictures, tuple(_facts(match, judgement)), f"{match.status.name.lower()}: {match.status.reason}")


def _facts(match: PlaceMatch, judgement: Judgement) -> Iterator[str]:
    """The numbers behind a match. Those of a missed revisit are about the best guess, which is not in the picture."""
    if judgement.verdict is Verdict.MISSED:
        yield "no guess" if match.match is None else f"best guess {_seconds(match.match.stamp_ns)}"
    if match.similarity is not None:
        yield f"similarity {match.similarity:.3f}"
    if match.verification is not None:
        yield f"{match.verification.inliers} inliers"
    if judgement.distance_m is not None and judgement.angle_deg is not None:
        yield f"{judgement.distance_m:.1f} m, {judgement.angle_deg:.0f}° off"


def _picture(run: Run, label: str, frame: FrameRef | None) -> _Picture:
    if frame is None:
        return _Picture(label, None)
    image = run.image_of(frame)
    session = f" of {frame.session}" if len(run.sessions) > 1 else ""
    return _Picture(f"{label} {_seconds(frame.stamp_ns)}{session}", None if image is None else data_uri(image))


@dataclass(frozen=True, slots=True)
class _RejectRow:
    status: MatchStatus
    count: int
    width: float
    """Length of the bar in percent of the longest."""


def _reject_rows(matches: Sequence[PlaceMatch]) -> list[_RejectRow]:
    counts = count_statuses(matches)
    longest = max(1, *counts.values())
    return [_RejectRow(status, count, 100.0 * count / longest) for status, count in counts.items() if count]


@dataclass(frozen=True, slots=True)
class _StageRow:
    name: str
    runs: int
    median_ms: float
    p90_ms: float
    p99_ms: float
    share: float
    scale_ms: float
    """What the full width of the bar plot stands for."""


def _stage_rows(latencies: Mapping[str, NDArray[np.float64]]) -> list[_StageRow]:
    stages = {name: 1e3 * np.asarray(seconds, dtype=np.float64) for name, seconds in latencies.items() if len(seconds)}
    if not stages:
        return []
    total = sum(float(ms.sum()) for ms in stages.values()) or 1.0
    percentiles = {name: np.percentile(ms, [50, 90, 99]).tolist() for name, ms in stages.items()}
    scale = max(p99 for _, _, p99 in percentiles.values()) or 1.0
    rows = []
    for name, ms in stages.items():
        median, p90, p99 = percentiles[name]
        rows.append(_StageRow(name, len(ms), median, p90, p99, float(ms.sum()) / total, scale))
    return rows


@dataclass(frozen=True, slots=True)
class _ConfigRow:
    name: str
    value: str
    unit: str
    doc: str
    changed: bool


def _config_rows(config: Mapping[str, Scalar]) -> list[_ConfigRow]:
    known = Config.parameters()
    rows = []
    for name, value in config.items():
        p = known.get(name)
        unit, doc, changed = (p.unit, p.doc, value != p.default) if p else ("", "", False)
        rows.append(_ConfigRow(name, str(value).lower() if isinstance(value, bool) else str(value), unit, doc, changed))
    return rows


def _drawn(plot: Callable[[T], str | None], of: T) -> str | None:
    """The plot, or None where this matplotlib cannot draw it: the report is not lost with it."""
    try:
        return plot(of)
    except MemoryError:
        raise
    except Exception as error:
        logger.warning("the report lacks a plot: %s", on_one_line(f"{type(error).__name__}: {error}"))
        return None


def _curve_plot(metrics: Metrics | None) -> str | None:
    """Both precision-recall curves, or None if there is nothing to recall."""
    if metrics is None or metrics.revisits == 0:
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.6, 4.4), layout="constrained")
        axes = figure.add_subplot(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.03))
        named = (
            ("descriptor alone", metrics.descriptor, BLUE),
            ("verified", metrics.verified, GREEN),
        )
        for name, curve, colour in named:
            if curve and len(curve.thresholds):
                # a curve of one point would not show without the lead from recall 0
                recall, precision = np.append(0.0, curve.recall), np.append(curve.precision[0], curve.precision)
                label = f"{name}, AP {_number(curve.average_precision, '.3f')}"
                axes.plot(recall, precision, color=colour, linewidth=2, label=label)
        if metrics.precision is not None and metrics.recall is not None:
            axes.plot(metrics.recall, metrics.precision, "o", color=RED, markersize=8, label="accepted", clip_on=False)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="lower left")
        return svg(figure, "Precision over recall")


def top_down(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 2) of (N, 3) in m, seen from above: x and the larger of z (camera worlds, y down) and y (ROS worlds, z up)."""
    known = positions[np.isfinite(positions).all(axis=1)]
    if len(known) == 0:
        return np.full((len(positions), 2), np.nan)
    extent = np.ptp(known, axis=0)
    return positions[:, [0, 2 if extent[2] > extent[1] else 1]]


def _places(run: Run) -> dict[FrameRef, NDArray[np.float64]]:
    """Where each frame was taken, (2,) in m from above: truly, or by odometry; empty where neither is known."""
    poses = dict(run.true_poses) or {frame: pose for path in run.odometry for frame, pose in path.poses.items()}
    places = top_down(np.array([pose[:3, 3] for pose in poses.values()]).reshape(-1, 3))
    return dict(zip(poses, places, strict=True)) if np.isfinite(places).any() else {}


def _trajectory_plot(run: Run) -> str | None:
    """The path from above with the accepted closures, or None if there is no path."""
    places = _places(run)
    if not places:
        return None
    # a line for each stretch whose poses compare: a session, or a path of the odometry
    stretches = [[frame for frame in places if frame.session == session] for session in run.sessions]
    if not run.true_poses:
        stretches = [list(path.poses) for path in run.odometry]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.6, 4.4), layout="constrained")
        axes = figure.add_subplot(xlabel="m", ylabel="m")
        for number, stretch in enumerate(each for each in stretches if each):
            line = np.array([places[frame] for frame in stretch])
            axes.plot(*line.T, color=INK, linewidth=1.5, alpha=0.5, label=None if number else "path")
        judgements = run.metrics.judgements if run.metrics else [Judgement(Verdict.UNKNOWN)] * len(run.matches)
        judged = list(zip(run.matches, judgements, strict=True))
        missed = [places[m.frame] for m, j in judged if j.verdict is Verdict.MISSED and m.frame in places]
        if missed:
            axes.plot(*np.array(missed).T, "o", color=AMBER, markersize=3, label="missed revisit", zorder=4)
        for verdict, label, colour in _CLOSURE_STYLES:
            chosen = [m for m, j in judged if m.accepted and j.verdict is verdict]
            _draw_closures(axes, places, chosen, label, colour)
        axes.set_aspect("equal", adjustable="datalim")
        axes.legend(loc="best", fontsize=9)
        return svg(figure, "Trajectory from above with loop closures")


_CLOSURE_STYLES = (
    (Verdict.UNKNOWN, "closure, not judged", BLUE),
    (Verdict.BORDERLINE, "closure, counts neither way", BLUE),
    (Verdict.TRUE, "true closure", GREEN),
    (Verdict.FALSE, "false closure", RED),
)


def _draw_closures(
    axes: matplotlib.axes.Axes,
    places: Mapping[FrameRef, NDArray[np.float64]],
    matches: Sequence[PlaceMatch],
    label: str,
    colour: str,
) -> None:
    pairs = [(match.frame, match.match_frame) for match in matches]
    ends = np.array(
        [(places[a], places[b]) for a, b in pairs if a in places and b is not None and b in places]
    ).reshape(-1, 2, 2)
    ends = ends[np.isfinite(ends).all(axis=(1, 2))]
    if not len(ends):
        return
    axes.add_collection(LineCollection(list(ends), colors=colour, linewidths=1.2, alpha=0.7))
    # lines between places close together are too short to be seen
    axes.plot(*ends[:, 0].T, "o", color=colour, markersize=4, label=label)


def _number(value: float | None, spec: str) -> str:
    return "–" if value is None else format(value, spec)


def _percent(ratio: float | None) -> str:
    # rounded down, so that 100 % means all
    return "–" if ratio is None else f"{np.floor(1000.0 * ratio + 1e-9) / 10.0:.1f} %"


def _seconds(stamp_ns: int) -> str:
    return f"{stamp_ns // 10**9}.{stamp_ns % 10**9 // 10**6:03d} s"
