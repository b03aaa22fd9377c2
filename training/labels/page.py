"""One self-contained HTML page about labels: how psi is distributed, what it depends on, and pairs to judge by eye."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.random import Generator
from scipy.sparse import csr_array

from training.data.image_set import ImageSet
from training.data.planar import turn_between
from training.data.source import POSITIVE
from training.files import write_whole
from training.labels.pairs import PairCounts
from vpr_ros.evaluation.figures import AMBER, BLUE, GREEN, INK, STYLE, file_uri, render, svg

_TEMPLATE = Path(__file__).with_name("page.html.j2")
_BINS = 20
"""Of the histogram over (0, 1]; psi = 0.5 is a boundary."""
_LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
_LEVEL_TOLERANCE = 0.03
_PER_LEVEL = 2
_CELLS = (40, 36)
"""Of the plot over distance and heading difference."""
_PLOTTED_PAIRS = 4_000_000
"""Pairs that this plot is made of: every image against some, 16 MB."""


def write_page(sources: Sequence[tuple[ImageSet, csr_array, str]], out: Path) -> Path:
    """Writes `out`, which loads nothing from elsewhere, about (images, psi of their pairs, the rule in words) each."""
    html = render(_TEMPLATE, sections=[_section(images, similarity, rule) for images, similarity, rule in sources])
    write_whole(out, html.encode())
    return out


@dataclass(frozen=True, slots=True)
class _Example:
    """Two images as data URIs, None where one cannot be read."""

    pictures: tuple[str | None, str | None]
    names: tuple[str, str]
    facts: str


@dataclass(frozen=True, slots=True)
class _Section:
    name: str
    rule: str
    images: int
    shares: tuple[tuple[str, str, int], ...]
    """Name, share of all pairs and count of each kind of pair."""
    histogram: str
    poses: str | None
    levels: tuple[tuple[float, tuple[_Example, ...]], ...]


def _section(images: ImageSet, similarity: csr_array, rule: str) -> _Section:
    rng = np.random.default_rng(0)
    counts = PairCounts.of(similarity)
    kinds = (
        (f"positive: psi ≥ {POSITIVE:g}", counts.positive),
        (f"soft: 0 < psi < {POSITIVE:g}", counts.soft),
        ("unrelated: psi = 0", counts.unrelated),
        ("unknown: ?", counts.unknown),
    )
    return _Section(
        images.name,
        rule,
        len(images),
        tuple((name, f"{100 * count / max(1, counts.total):.3g} %", count) for name, count in kinds),
        _histogram(similarity, counts),
        _pose_plot(images, similarity, rng),
        tuple((level, tuple(_examples(images, similarity, level, rng))) for level in _LEVELS),
    )


def _histogram(similarity: csr_array, counts: PairCounts) -> str:
    related = similarity.data[similarity.data > 0]
    per_bin, edges = np.histogram(related, _BINS, (0, 1))
    width, left = 1 / _BINS, edges[:-1]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.6, 4.0), layout="constrained")
        axes = figure.add_subplot(xlabel="psi", ylabel="pairs", yscale="log", ylim=(0.5, max(2, 2 * counts.total)))
        colours = [GREEN if edge >= POSITIVE - 1e-9 else AMBER for edge in left]
        axes.bar(left, per_bin / 2, 0.9 * width, align="edge", color=colours)
        # apart from the bins, which do not hold them
        axes.bar(-2 * width, counts.unrelated, width, color=BLUE)
        axes.bar(1 + 3 * width, counts.unknown, width, color=INK, alpha=0.4)
        ticks = {-2 * width: "0", 0.25: "0.25", 0.5: "0.5", 0.75: "0.75", 1.0: "1", 1 + 3 * width: "?"}
        axes.set_xticks(list(ticks), list(ticks.values()))
        axes.set_axisbelow(True)
        return svg(figure, "Pairs over psi")


def _pose_plot(images: ImageSet, similarity: csr_array, rng: Generator) -> str | None:
    """Mean psi over distance and heading difference, or None where no pair has both and shares something."""
    posed = np.isfinite(images.headings_rad) & np.isfinite(images.positions_m).all(axis=1)
    chosen = rng.permutation(np.flatnonzero(posed))[: max(1, _PLOTTED_PAIRS // len(images))]
    psi = similarity[chosen].toarray()
    distance = np.linalg.norm(images.positions_m - images.positions_m[chosen, None], axis=2)
    turn = np.degrees(turn_between(images.headings_rad[chosen, None], images.headings_rad))
    known = posed & np.isfinite(psi) & (np.arange(len(images)) != chosen[:, None])
    related = known & (psi > 0)
    if not related.any():
        return None
    extent = ((0.0, max(float(distance[related].max()), 1e-3)), (0.0, 180.0))
    pairs, x, y = np.histogram2d(distance[known], turn[known], _CELLS, extent)
    total, _, _ = np.histogram2d(distance[known], turn[known], _CELLS, extent, weights=psi[known])
    mean = np.divide(total, pairs, out=np.full(_CELLS, np.nan), where=pairs > 0)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.6, 4.0), layout="constrained")
        axes = figure.add_subplot(xlabel="distance in m", ylabel="heading difference in deg")
        axes.grid(False)
        drawn = axes.imshow(
            mean.T, origin="lower", aspect="auto", extent=(x[0], x[-1], y[0], y[-1]), vmin=0, vmax=1, cmap="viridis"
        )
        figure.colorbar(drawn, label="mean psi")
        return svg(figure, "Mean psi over distance and heading difference")


def _examples(images: ImageSet, similarity: csr_array, level: float, rng: Generator) -> list[_Example]:
    """Some pairs whose psi is about `level`."""
    stored = np.flatnonzero(np.abs(similarity.data - level) <= _LEVEL_TOLERANCE)
    first, second = np.searchsorted(similarity.indptr, stored, side="right") - 1, similarity.indices[stored]
    once = np.flatnonzero(first < second)
    picks = rng.choice(once, min(_PER_LEVEL, len(once)), replace=False)
    return [
        _example(images, int(i), int(j), float(psi))
        for i, j, psi in zip(first[picks], second[picks], similarity.data[stored[picks]], strict=True)
    ]


def _example(images: ImageSet, first: int, second: int, psi: float) -> _Example:
    facts = [f"psi {psi:.2f}"]
    distance = float(np.linalg.norm(images.positions_m[first] - images.positions_m[second]))
    turn = np.degrees(turn_between(images.headings_rad[first], images.headings_rad[second]))
    if np.isfinite(distance):
        facts.append(f"{distance:.1f} m")
    if np.isfinite(turn):
        facts.append(f"{turn:.0f}°")
    paths = images.paths[first], images.paths[second]
    names = f"{paths[0].parent.name}/{paths[0].name}", f"{paths[1].parent.name}/{paths[1].name}"
    return _Example((file_uri(paths[0]), file_uri(paths[1])), names, " · ".join(facts))
