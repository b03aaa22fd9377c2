"""The table of a benchmark, as text, Markdown and JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vpr_ros.engines.benchmark.checks import SKIP, Check
from vpr_ros.engines.benchmark.row import BenchmarkRow, Measured
from vpr_ros.errors import EngineError
from vpr_ros.machine import MachineDescription

FORMAT = "vpr_ros.benchmark.1"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows and all that has to be known to read them. Fewer rows than `planned`: it was interrupted."""

    created: str
    machine: MachineDescription
    threads: int
    images: str
    places: str
    """Recording and protocol of recall@1, empty without."""
    planned: int
    rows: tuple[BenchmarkRow, ...]

    @property
    def measured(self) -> list[tuple[BenchmarkRow, Measured]]:
        """The rows that have it, with it."""
        return [(row, row.measured) for row in self.rows if row.measured]

    @property
    def has_several_models(self) -> bool:
        return len({row.model_id for row in self.rows}) > 1

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Table:
        """Raises EngineError for a text that is no benchmark."""
        try:
            plain = json.loads(text)
            if plain.pop("format") != FORMAT:
                raise EngineError("this benchmark was written by another version of vpr_ros")
            rows = tuple(_read_row(row) for row in plain.pop("rows"))
            return cls(machine=MachineDescription(**plain.pop("machine")), rows=rows, **plain)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise EngineError(f"this is no benchmark of vpr_ros: {error!r}") from error

    def text(self) -> str:
        """Machine and rows as plain aligned text, to be pasted into an issue."""
        facts = list(_facts(self))
        width = max(len(name) for name, _ in facts)
        lines = [f"{name:<{width}}  {value}" for name, value in facts]
        if columns := _columns(self):
            lines += ["", *("  ".join(cells).rstrip() for cells in zip(*map(_aligned, columns), strict=True))]
            lines += ["", *_legend(self)]
        if failures := list(_failures(self)):
            lines += ["", "failed:", *(f"  {failure}" for failure in failures)]
        if reasons := _not_measured(self):
            lines += ["", "not measured:", *(f"  {reason}" for reason in reasons)]
        return "\n".join(lines)

    def markdown(self) -> str:
        """The same as a page to be shared."""
        lines = ["# vpr benchmark", "", *(f"- {name}: {_escaped(value)}" for name, value in _facts(self))]
        if columns := _columns(self):
            ruled = [[c[0], "---" if c[0] in _WORDS else "---:", *c[1:]] for c in columns]
            lines += ["", *(f"| {' | '.join(map(_escaped, cells))} |" for cells in zip(*ruled, strict=True))]
            lines += ["", *(f"- {line}" for line in _legend(self))]
        if failures := list(_failures(self)):
            lines += ["", "Failed:", "", *(f"- {_escaped(failure)}" for failure in failures)]
        if reasons := _not_measured(self):
            lines += ["", "Not measured:", "", *(f"- {_escaped(reason)}" for reason in reasons)]
        return "\n".join(lines) + "\n"


def _read_row(plain: dict[str, Any]) -> BenchmarkRow:
    """Raises KeyError and TypeError for what is no row."""
    measured, checks = plain.pop("measured"), tuple(Check(**check) for check in plain.pop("checks", ()))
    if measured is not None:
        quartiles = tuple(measured.pop("speed_quartiles"))
        measured = Measured(**measured, speed_quartiles=quartiles)
    return BenchmarkRow(**plain, measured=measured, checks=checks)


# --- cells ------------------------------------------------------------------------------------------------------------


def milliseconds(value: float) -> str:
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _cosine(value: float) -> str:
    # rounded down, so that 1 means 1 within rounding of float32
    return f"{np.floor(min(value + 5e-7, 1.0) * 1e5) / 1e5:.5f}"


def _number(value: float | None, spec: str) -> str:
    return "-" if value is None else format(value, spec)


def _checks(row: BenchmarkRow) -> str:
    """`8 of 9`; those that have nothing to check do not count."""
    counted = [check for check in row.checks if check.result != SKIP]
    return f"{len(counted) - len(row.failed)} of {len(counted)}" if counted else "-"


def _change(m: Measured) -> str:
    return "-" if m.recall is None or m.reference_recall is None else f"{m.recall - m.reference_recall:+.3f}"


_CELLS: dict[str, Callable[[BenchmarkRow, Measured], str]] = {
    "model": lambda row, m: row.model,
    "engine": lambda row, m: row.backend,
    "precision": lambda row, m: row.precision,
    "batch": lambda row, m: str(row.batch),
    "median ms": lambda row, m: milliseconds(m.median_ms),
    "p99 ms": lambda row, m: milliseconds(m.p99_ms),
    "images/s": lambda row, m: f"{m.images_per_s:.1f}",
    "x reference": lambda row, m: f"{m.speed:.2f}",
    "quartiles": lambda row, m: "-".join(f"{ratio:.2f}" for ratio in m.speed_quartiles),
    "memory MB": lambda row, m: _number(m.memory_mb, ".0f"),
    "GPU MB": lambda row, m: _number(m.device_memory_mb, ".0f"),
    "cosine min": lambda row, m: _cosine(m.cosine_min),
    "median": lambda row, m: _cosine(m.cosine_median),
    "R@1": lambda row, m: _number(m.recall, ".3f"),
    "change": lambda row, m: _change(m),
    "build s": lambda row, m: "cached" if m.build_s is None else f"{m.build_s:.1f}",
    "load s": lambda row, m: f"{m.load_s:.2f}",
    "checks": lambda row, m: _checks(row),
    "": lambda row, m: f"refused: below {m.bar:g}" if m.is_refused else "",
}
_WORDS = ("model", "engine", "precision", "checks", "")
"""Columns that stand on the left; numbers stand on the right."""


def _columns(table: Table) -> list[list[str]]:
    """Header and cells of each column, of what was measured; none that says nothing."""
    columns = [[header, *(cell(row, m) for row, m in table.measured)] for header, cell in _CELLS.items()]
    several = table.has_several_models
    return [c for c in columns if any(cell not in ("", "-") for cell in c[1:]) and (several or c[0] != "model")]


def _aligned(column: list[str]) -> list[str]:
    width = max(map(len, column))
    return [cell.ljust(width) if column[0] in _WORDS else cell.rjust(width) for cell in column]


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


# --- what stands around them ------------------------------------------------------------------------------------------


def _facts(table: Table) -> Iterator[tuple[str, str]]:
    """What has to be known to read the table, by name."""
    machine = table.machine
    limit = "" if machine.cpu_limit is None else f", of which the container may use {machine.cpu_limit:g}"
    threads = f"{table.threads} threads" if table.threads else "threads as the library chooses"
    yield "measured", table.created
    for name, text in (
        ("board", machine.board),
        ("CPU", f"{machine.cpu}, {machine.cores} cores{limit}; {threads}"),
        ("memory", f"{machine.memory_gb:g} GB"),
        ("GPU", machine.gpu or "none by NVIDIA"),
        ("JetPack", machine.jetpack),
        ("power", machine.power),
        ("system", f"{machine.system}, Python {machine.python}"),
        ("versions", ", ".join(f"{name} {version}" for name, version in machine.versions.items())),
    ):
        if text:
            yield name, text
    if machine.load is not None:
        busy = " before: busy, compare only `x reference`" if machine.load > 0.5 * machine.cores else " before"
        yield "load average", f"{machine.load:g} on {machine.cores} cores{busy}"
    for model in dict.fromkeys(f"{row.model} {row.size}, {row.model_id[:12]}" for row in table.rows):
        yield "model", model
    yield "images", table.images
    if table.places:
        yield "places", table.places
    if len(table.rows) < table.planned:
        yield "interrupted", f"{len(table.rows)} of {table.planned} combinations were done"


def _legend(table: Table) -> list[str]:
    """What the columns mean, for those that the table has."""
    rounds = sorted({m.rounds for _, m in table.measured})
    calls = " to ".join(map(str, dict.fromkeys((rounds[0], rounds[-1]))))
    lines = [
        f"median, p99: of one call with a whole batch, over {calls} calls; images/s: batch over median",
        "x reference: how many times as fast as ONNX Runtime fp32 on this CPU, in turns in the same process: compare this;",
        "  the quartiles of the turns, and the reference's own row, show how much of it is chance",
        "memory: peak of the process above what it had before the engine was opened, with its library",
        "cosine: of descriptors with the reference's; refused: the node would not use this engine",
        "build: until a new engine was ready, built, compared and timed; load: until its first descriptors",
    ]
    if any(m.device_memory_mb is not None for _, m in table.measured):
        lines.insert(4, "GPU: what the GPU had less of afterwards, without the context")
    if any(row.checks for row in table.rows):
        lines.append("checks: passed, of those that apply to this engine and model")
    if table.places:
        lines.insert(-1, "R@1: of descriptors alone, image by image; change: against the reference")
    return lines


def _failures(table: Table) -> Iterator[str]:
    """Each check that failed, of what was measured: what was not has its reason elsewhere."""
    for row, _ in table.measured:
        who = f"{row.model} {row.backend}" if table.has_several_models else row.backend
        for check in row.failed:
            yield f"{who} {row.precision} (batch {row.batch}): {check.name}: {check.clause}"


def _not_measured(table: Table) -> list[str]:
    """A line for each reason, with what it applies to."""
    groups: dict[tuple[str, str], dict[str, str]] = {}
    for row in table.rows:
        if row.measured is None:
            who = f"{row.model} {row.backend}" if table.has_several_models else row.backend
            batches = groups.setdefault((who, row.reason), {})
            batches[row.precision] = f"{batches.get(row.precision, '')} {row.batch}".lstrip()
    return [
        f"{who} {', '.join(f'{precision} (batch {batches})' for precision, batches in precisions.items())}: {reason}"
        for (who, reason), precisions in groups.items()
    ]
