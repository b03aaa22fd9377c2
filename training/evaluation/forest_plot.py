"""Recall@1 of many rows on several protocols, with intervals, in one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from vpr_ros.evaluation.figures import BLUE, STYLE

_INCHES = (3.2, 0.28)
"""Width of a panel, and height of a row."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A value and its 95 % interval, NaN where there is none; `seeds` are the values that it is the mean of."""

    value: float
    low: float
    high: float
    seeds: tuple[float, ...]


def draw(path: Path, panels: Mapping[str, Mapping[str, Interval]], reference: str) -> None:
    """Writes an image: a panel per protocol, in it a row per name; a line through the value of `reference`."""
    rows: Sequence[str] = list(next(iter(panels.values())))
    with matplotlib.rc_context({**STYLE, "text.color": "black"}):
        figure = Figure((1.5 + _INCHES[0] * len(panels), 1 + _INCHES[1] * len(rows)), layout="constrained", dpi=130)
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axis, (title, intervals) in zip(axes, panels.items(), strict=True):
            axis.axvline(intervals[reference].value, color=BLUE, alpha=0.4)
            for row, name in enumerate(rows):
                interval = intervals[name]
                axis.plot([interval.low, interval.high], [row, row], color=BLUE)
                axis.plot(interval.seeds, [row] * len(interval.seeds), "|", color=BLUE, markersize=7, alpha=0.6)
                axis.plot(interval.value, row, "o", color=BLUE)
            axis.set_title(title, fontsize=10)
            axis.set_xlabel("recall@1")
        axes[0].set_yticks(range(len(rows)), rows, parse_math=False)
        axes[0].invert_yaxis()
        figure.savefig(path)
