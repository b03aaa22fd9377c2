"""One self-contained HTML page about the samples of a distillation: who knows which, what each weighs, some to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.colors import LogNorm, to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from training.data.classes import IDS, VOID, ClassTable, read_label_map
from training.data.image_set import ImageSet
from training.data.source import Source
from training.distillation.distiller import POSTER_SHARES, Distillation, Prepared
from training.distillation.samples import GROUPS, Samples
from training.files import write_whole
from vpr_ros.errors import ImageError
from vpr_ros.evaluation.figures import AMBER, BLUE, GREEN, RED, STYLE, data_uri, file_uri, render, svg

_TEMPLATE = Path(__file__).with_name("page.html.j2")
_MEANINGS = (
    "Only the teacher knows: x ≤ N < y.",
    "The teacher knows as well or better: x ≤ y ≤ N.",
    "The student knows better: y < x ≤ N.",
    "The teacher does not know: x > N.",
)
_COLOURS = (GREEN, BLUE, AMBER, RED)
"""Of D1 to D4."""
_CLUSTER_COLOURS = {
    "building": "#b0653a",
    "static": "#e8c547",
    "vegetation": "#3f9b4f",
    "ground": "#8a7f95",
    "sky": "#7cc4f0",
    "dynamic": "#d9345f",
}
"""Of docs/methods.md 3.5; the clusters of other tables take matplotlib's tab20."""
_WRITTEN_SHARE = 0.04
"""The least whose bar has room for its number."""
_RANK_BINS = 28
_WEIGHT_BINS = 20
_BORDER = RED
"""Between the groups, and around their names."""
_EXAMPLES = 2
"""Of each group."""


def write_page(out: Path, prepared: Prepared, sources: Sequence[Source]) -> Path:
    """Writes `out`, which loads nothing from elsewhere."""
    options, audit = prepared.options, prepared.audit
    sets = [source.images for source in sources]
    samples, _ = _joined(prepared.samples)
    weights, groups = options.weigh(samples), samples.groups(options.threshold)
    colours = _cluster_colours(sets)
    html = render(
        _TEMPLATE,
        options=options,
        audit=audit,
        student_only=audit.student - (audit.teacher - audit.teacher_only),
        groups=_groups(prepared, sets, colours),
        shares=_share_plot(prepared, [images.name for images in sets]),
        ranks=_rank_plot(samples, options.threshold),
        weights=_weight_plot(weights, groups),
        unweighted=int(np.sum(weights == 0)),
        weighting=_weighting_plot(options),
        clusters=colours,
    )
    write_whole(out, html.encode())
    return out


def _joined(samples: Sequence[Samples]) -> tuple[Samples, NDArray[np.int64]]:
    """The P samples of all sources, and (P,) which source each is of."""
    columns = ([getattr(each, name) for each in samples] for name in ("query", "positive", "teacher", "student"))
    counts = [len(each.query) for each in samples]
    return Samples(*map(np.concatenate, columns)), np.repeat(np.arange(len(samples)), counts)


# --- plots ----------------------------------------------------------------------------------------------------------


def _share_plot(prepared: Prepared, names: Sequence[str]) -> str:
    """A bar for the poster, one for all sources and one for each."""
    rows: list[tuple[str, NDArray[np.float64]]] = [("poster (MSLS)", np.array(POSTER_SHARES))]
    counts = [_counts(samples, prepared.options.threshold) for samples in prepared.samples]
    named = zip(["all sources", *names], [np.sum(counts, axis=0), *counts], strict=True)
    rows += [(f"{name} ({count.sum():,})", count / max(1, count.sum())) for name, count in named]
    shares = np.array([share for _, share in rows])
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11.4, 0.2 + 0.34 * len(rows)), layout="constrained")
        axes = figure.add_subplot(xlim=(0, 1))
        axes.grid(False)
        axes.spines[:].set_visible(False)
        for group, colour in enumerate(_COLOURS):
            bars = axes.barh(range(len(rows)), shares[:, group], 0.74, shares[:, :group].sum(axis=1), color=colour)
            texts = [f"{share:.0%}" if share >= _WRITTEN_SHARE else "" for share in shares[:, group]]
            axes.bar_label(bars, texts, label_type="center", color="white", fontsize=9)
        axes.set_yticks(range(len(rows)), [label for label, _ in rows], parse_math=False)
        axes.set_xticks([])
        axes.tick_params(length=0)
        axes.invert_yaxis()
        return svg(figure, "Shares of the groups")


def _counts(samples: Samples, threshold: int) -> NDArray[np.int64]:
    """(4,) samples of each group."""
    return np.bincount(samples.groups(threshold), minlength=len(GROUPS) + 1)[1:]


def _rank_plot(samples: Samples, threshold: int) -> str:
    """How many samples have which ranks, and the borders of the groups."""
    last = max(samples.teacher.max(), samples.student.max(), 2 * threshold)
    border = threshold + 0.5
    # between whole numbers, so that the first ranks have a bin each and no bin crosses a border
    edges = np.unique(np.append(np.round(np.geomspace(1, last + 1, _RANK_BINS)) - 0.5, border))
    counts, _, _ = np.histogram2d(samples.teacher, samples.student, [edges, edges])
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.6, 5.0), layout="constrained", dpi=150)
        axes = figure.add_subplot(
            xlabel="x: rank under the teacher", ylabel="y: rank under the student", xscale="log", yscale="log"
        )
        axes.grid(False)
        drawn = axes.pcolormesh(
            edges,
            edges,
            np.ma.masked_equal(counts.T, 0),
            norm=LogNorm(1, max(2, counts.max())),
            cmap="viridis",
            rasterized=True,
        )
        figure.colorbar(drawn, label="samples")
        axes.vlines(border, *edges[[0, -1]], color=_BORDER)
        axes.hlines(border, edges[0], border, color=_BORDER)
        axes.plot([edges[0], border], [edges[0], border], color=_BORDER)
        middle, far = np.sqrt(edges[0] * border), np.sqrt(border * edges[-1])
        corners = ((middle, far), (0.7 * middle, 1.6 * middle), (1.6 * middle, 0.7 * middle), (far, far))
        box = {"boxstyle": "round,pad=0.25", "facecolor": _BORDER, "edgecolor": "none"}
        for name, corner in zip(GROUPS, corners, strict=True):
            axes.annotate(name, corner, ha="center", va="center", weight="bold", color="white", bbox=box)
        ticks = 10 ** np.arange(1 + int(np.log10(last)))
        axes.set_xticks(ticks, map(str, ticks))
        axes.set_yticks(ticks, map(str, ticks))
        return svg(figure, "Ranks of the positives under teacher and student")


def _weight_plot(weights: NDArray[np.float64], groups: NDArray[np.int64]) -> str:
    """Without the samples of weight 0, which are most of some distillations and would hide the others."""
    of_groups = [weights[(groups == number) & (weights > 0)] for number in range(1, len(GROUPS) + 1)]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.6, 2.4), layout="constrained")
        axes = figure.add_subplot(xlabel="weight", ylabel="samples")
        axes.hist(of_groups, _WEIGHT_BINS, range=(0, 1), stacked=True, color=_COLOURS, label=GROUPS)
        axes.set_axisbelow(True)
        axes.legend(ncols=2)
        return svg(figure, "Weights of the samples")


def _weighting_plot(options: Distillation) -> str:
    """The weight over x for a student that knows best, just knows, and does not."""
    x = np.arange(1, 2 * options.threshold + 1)
    nowhere = np.zeros_like(x)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.6, 2.4), layout="constrained")
        axes = figure.add_subplot(xlabel="x: rank under the teacher", ylabel="weight", ylim=(0, 1.05))
        for y, colour in ((10 * options.threshold, GREEN), (options.threshold, BLUE), (1, AMBER)):
            of_y = options.weigh(Samples(nowhere, nowhere, x, np.full_like(x, y)))
            axes.plot(x, of_y, ".-", color=colour, label=f"y = {y}")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()
        return svg(figure, "Weight over the teacher's rank")


# --- examples -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Sight:
    """An image and, where the source has label maps, its own, as data URIs; None for a file that cannot be read."""

    name: str
    pictures: tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class _Example:
    """Query and positive of a sample."""

    sights: tuple[_Sight, _Sight]
    facts: str


@dataclass(frozen=True, slots=True)
class _Group:
    name: str
    meaning: str
    colour: str
    samples: int
    share: float
    poster: float
    examples: tuple[_Example, ...]


def _groups(prepared: Prepared, sets: Sequence[ImageSet], colours: Mapping[str, str]) -> list[_Group]:
    samples, of_set = _joined(prepared.samples)
    groups, weights = samples.groups(prepared.options.threshold), prepared.options.weigh(samples)
    rng = np.random.default_rng(0)

    def example(i: int) -> _Example:
        images = sets[of_set[i]]
        ranks = f"rank {samples.teacher[i]} under the teacher, {samples.student[i]} under the student"
        sights = _sight(images, samples.query[i], colours), _sight(images, samples.positive[i], colours)
        return _Example(sights, f"{ranks} · weight {weights[i]:.2f} · {images.name}")

    def group(number: int) -> _Group:
        members = np.flatnonzero(groups == number + 1)
        chosen = rng.choice(members, min(_EXAMPLES, len(members)), replace=False)
        return _Group(
            GROUPS[number],
            _MEANINGS[number],
            _COLOURS[number],
            len(members),
            prepared.shares[number],
            POSTER_SHARES[number],
            tuple(map(example, chosen)),
        )

    return [group(number) for number in range(len(GROUPS))]


def _sight(images: ImageSet, index: int, colours: Mapping[str, str]) -> _Sight:
    path, maps = images.paths[index], images.label_maps
    pictures = [file_uri(path)]
    if maps:
        pictures.append(_painted(maps.paths[index], maps.tables[index], colours))
    return _Sight(f"{path.parent.name}/{path.name}", tuple(pictures))


def _painted(path: Path, table: ClassTable, colours: Mapping[str, str]) -> str | None:
    """A label map in the colours of its clusters, black where it has none."""
    paint = np.zeros((IDS, 3), np.uint8)
    for number, semantic in table.classes.items():
        if semantic.cluster != VOID:
            paint[number] = np.multiply(to_rgb(colours[semantic.cluster]), 255)
    try:
        return data_uri(paint[read_label_map(path)])
    except ImageError:
        return None


def _cluster_colours(sets: Sequence[ImageSet]) -> dict[str, str]:
    """Of every cluster in the tables of the sets, as CSS has them."""
    tables = {id(table): table for images in sets if images.label_maps for table in images.label_maps.tables}
    clusters = {semantic.cluster for table in tables.values() for semantic in table.classes.values()} - {VOID}
    others = sorted(clusters - _CLUSTER_COLOURS.keys())
    spare = matplotlib.colormaps["tab20"]
    return {name: colour for name, colour in _CLUSTER_COLOURS.items() if name in clusters} | {
        name: to_hex(spare(i % spare.N)) for i, name in enumerate(others)
    }
