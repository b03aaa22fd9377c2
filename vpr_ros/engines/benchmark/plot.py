"""A table of a benchmark as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from vpr_ros.engines.benchmark.row import BenchmarkRow, Measured
from vpr_ros.engines.benchmark.table import Table, milliseconds
from vpr_ros.plot_style import AMBER, BLUE, INK, RED, STYLE

_COLOURS = {"fp32": BLUE, "fp16": "#7d5bc4", "bf16": "#2a9d9a", "int8": AMBER}
_LEGEND = 0.5
"""Its height in inches."""
_NEAREST = 1e-7
"""Cosines that differ less from 1 are drawn here: float32 knows no better."""


def write_plot(table: Table, path: Path) -> None:
    """A PNG: bars of speed, and beside each how far the descriptors are from the reference's and from the bar.

    The table must have a row that was measured.
    """
    rows = [row for row, _ in table.measured]
    results = [m for _, m in table.measured]
    several = table.has_several_models
    places, headings = _layout(rows, several)
    colours = [_COLOURS[row.precision] for row in rows]
    with matplotlib.rc_context({**STYLE, "axes.axisbelow": True}):
        bars = 1.1 + 0.3 * (max(places) + 1.4)
        figure = Figure(figsize=(11, bars + _LEGEND), layout="constrained", dpi=110)
        # as in matplotlib 3.5 of Ubuntu 22.04, which has neither `width_ratios` nor legends outside
        grid = figure.add_gridspec(2, 2, width_ratios=(3, 2), height_ratios=(bars, _LEGEND))
        speed = figure.add_subplot(grid[0, 0])
        cosine = figure.add_subplot(grid[0, 1], sharey=speed)
        cosine.tick_params(labelleft=False)
        below = figure.add_subplot(grid[1, :])
        below.axis("off")
        _draw_speed(speed, places, results, colours)
        _draw_cosines(cosine, places, results, colours)
        speed.set_yticks(places, [f"{row.backend} {row.precision}, batch {row.batch}" for row in rows])
        speed.set_ylim(max(places) + 0.7, -0.7)
        for at, heading in headings:
            speed.text(0.01, at, heading, transform=speed.get_yaxis_transform(), va="center", weight="bold")
        machine = table.machine
        title = " · ".join(part for part in (machine.board or machine.cpu, machine.gpu, table.created) if part)
        figure.suptitle(title if several else f"{rows[0].model} {rows[0].size} on {title}", fontsize=11)
        used = {row.precision for row in rows}
        keys: list[Any] = [Patch(color=colour, label=name) for name, colour in _COLOURS.items() if name in used]
        keys += cosine.plot([], [], "|", color=INK, markersize=10, markeredgewidth=1.5, label="bar of the node")
        if any(m.is_refused for m in results):
            keys += cosine.plot([], [], "X", color=RED, linestyle="", markersize=8, label="refused")
        below.legend(handles=keys, loc="center", ncol=len(keys), fontsize=9)
        figure.savefig(path, format="png", facecolor="white")


def _layout(rows: Sequence[BenchmarkRow], several: bool) -> tuple[list[float], list[tuple[float, str]]]:
    """Where each row's bar goes, and the names of `several` models above theirs: engines and models stand apart."""
    places: list[float] = []
    headings: list[tuple[float, str]] = []
    at = -1.0
    for i, row in enumerate(rows):
        before = rows[i - 1] if i else None
        at += 1.0 if before is None or row.backend == before.backend else 1.5
        if several and (before is None or row.model_id != before.model_id):
            at += 0.7 if before is None else 1.2
            headings.append((at - 1.0, f"{row.model} {row.size}"))
        places.append(at)
    return places, headings


def _draw_speed(axes: Axes, places: Sequence[float], results: Sequence[Measured], colours: Sequence[str]) -> None:
    # a median lies between its quartiles, but for rounding
    below = [max(0.0, m.speed - m.speed_quartiles[0]) for m in results]
    above = [max(0.0, m.speed_quartiles[1] - m.speed) for m in results]
    bars = {"ecolor": INK, "elinewidth": 1, "capsize": 2, "alpha": 0.6}
    axes.barh(places, [m.speed for m in results], color=colours, height=0.72, xerr=(below, above), error_kw=bars)
    axes.axvline(1.0, color=INK, linewidth=1, linestyle=":")
    most = max(m.speed_quartiles[1] for m in results)
    for at, m in zip(places, results, strict=True):
        axes.text(
            max(m.speed, m.speed_quartiles[1]) + 0.012 * most, at,
            f"{milliseconds(m.median_ms)} ms, {m.images_per_s:.0f}/s", va="center", fontsize=8.5,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
        )  # fmt: skip
    axes.set(xlabel="times as fast as ONNX Runtime fp32 on this CPU", xlim=(0, 1.28 * most))
    axes.grid(axis="y", visible=False)


def _draw_cosines(axes: Axes, places: Sequence[float], results: Sequence[Measured], colours: Sequence[str]) -> None:
    for at, colour, m in zip(places, colours, results, strict=True):
        marker, shown = ("X", RED) if m.is_refused else ("o", colour)
        axes.plot(max(1.0 - m.cosine_min, _NEAREST), at, marker, color=shown, markersize=8)
        axes.plot([1.0 - m.bar] * 2, [at - 0.36, at + 0.36], color=INK, linewidth=1.5)
    farthest = max(1.0 - m.cosine_min for m in results)
    axes.set(xscale="log", xlabel="1 - least cosine (left is better)", xlim=(_NEAREST / 2, max(0.2, 2.0 * farthest)))
    axes.tick_params(axis="y", length=0)
