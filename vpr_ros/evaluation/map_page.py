"""One self-contained HTML page about a map: its sessions, where they went, what they saw, and which places loop closures join."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vpr_ros.evaluation.figures import BLUE, GREEN, INK, STYLE, render, svg
from vpr_ros.evaluation.report import top_down
from vpr_ros.map.place_map import PlaceMap
from vpr_ros.printable import utc
from vpr_ros.types import KeyframeRef

_TEMPLATE = Path(__file__).parent / "templates" / "map.html.j2"
_PER_SESSION, _CONNECTIONS, _SESSIONS, _PLOTTED = 12, 12, 40, 5000
"""Pictures and pairs that are shown, sessions in full, and keyframes of a plotted path: a page of a year must open, too."""


@dataclass(frozen=True, slots=True)
class _Picture:
    uri: str | None
    label: str


@dataclass(frozen=True, slots=True)
class _Session:
    title: str
    facts: str
    path: str | None
    pictures: list[_Picture]


def write_map_page(path: Path, place_map: PlaceMap, name: str) -> None:
    """Write the page. Raises OSError, and MapError where a keyframe cannot be read."""
    html = render(
        _TEMPLATE,
        name=name,
        tiles=[
            (f"{len(place_map)}", "keyframes"),
            (f"{len(place_map.sessions)}", "sessions"),
            (f"{len(place_map.links)}", "loop closures"),
            (f"{place_map.without_intrinsics}", "keyframes without intrinsics"),
        ],
        sessions=[_session(place_map, *each) for each in place_map.sessions[-_SESSIONS:]],
        left_out=max(0, len(place_map.sessions) - _SESSIONS),
        between=_between(place_map),
        connections=[
            (_picture(place_map, a), _picture(place_map, b)) for a, b in _spread(place_map.links, _CONNECTIONS)
        ],
    )
    path.write_text(html, encoding="utf-8")


def _session(place_map: PlaceMap, robot: str, session: str) -> _Session:
    own = place_map.names_of(robot, session)
    facts = [f"{len(own)} keyframes"]
    if own:
        facts.append(f"{utc(own[0].stamp_ns)} to {utc(own[-1].stamp_ns)}")
    if cameras := sorted({ref.camera_name for ref in own if ref.camera_name}):
        facts.append(f"cameras {', '.join(cameras)}")
    return _Session(
        _title(robot, session),
        ", ".join(facts),
        _path_plot(place_map, robot, session),
        [_picture(place_map, ref) for ref in _spread(own, _PER_SESSION)],
    )


def _path_plot(place_map: PlaceMap, robot: str, session: str) -> str | None:
    """From above, in the odometry's own frame, with the closures within the session; None without odometry."""
    poses = place_map.odometry_of(robot, session)
    if not poses:
        return None
    places = dict(zip(poses, top_down(np.array([pose[:3, 3] for pose in poses.values()])), strict=True))
    line = np.array(_spread(list(places.values()), _PLOTTED))
    ends = [(places[a], places[b]) for a, b in place_map.links if a in places and b in places]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.6, 3.6), layout="constrained")
        axes = figure.add_subplot(xlabel="m", ylabel="m")
        axes.plot(*line.T, color=INK, linewidth=1.2, alpha=0.5, label="path of the odometry")
        axes.plot(*line.T, "o", color=BLUE, markersize=2.5, label="keyframes")
        if ends:
            axes.add_collection(LineCollection(list(np.array(ends)), colors=GREEN, linewidths=1.2, alpha=0.7))
            axes.plot(*np.array(ends)[:, 0].T, "o", color=GREEN, markersize=4, label="loop closures")
        axes.set_aspect("equal", adjustable="datalim")
        axes.legend(loc="best", fontsize=9)
        return svg(figure, "Path from above with loop closures")


def _between(place_map: PlaceMap) -> list[tuple[str, str, int]]:
    """How many closures join two sessions, most first."""
    counts = Counter((_title(a.robot, a.session), _title(b.robot, b.session)) for a, b in place_map.links)
    return [(first, second, count) for (first, second), count in counts.most_common(_SESSIONS)]


def _title(robot: str, session: str) -> str:
    return f"{robot}: {session}" if robot else session or "unnamed session"


def _picture(place_map: PlaceMap, ref: KeyframeRef) -> _Picture:
    thumbnail = place_map[ref].thumbnail
    label = f"keyframe {ref.id}, {utc(ref.stamp_ns)}" + (f", camera {ref.camera_name}" if ref.camera_name else "")
    if thumbnail is None or not thumbnail.jpeg:
        return _Picture(None, label)
    return _Picture(f"data:image/jpeg;base64,{base64.b64encode(thumbnail.jpeg).decode()}", label)


def _spread(items: Sequence, count: int) -> list:
    """At most `count`, evenly from first to last."""
    chosen: NDArray[np.int64] = np.unique(np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int))
    return [items[i] for i in chosen]
