"""The tables that the terminal and the page both show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from training.evaluation.bootstrap import Bootstrap
from training.evaluation.metrics import RANKS
from training.evaluation.results import Evaluation, Recall, Score

_UNKNOWN = "–"


@dataclass(frozen=True, slots=True)
class Table:
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def text(self) -> str:
        """Columns padded with spaces, one row per line."""
        widths = [max(map(len, column)) for column in zip(self.header, *self.rows, strict=True)]
        lines = (
            "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in self._lines()
        )
        return "\n".join(line.rstrip() for line in lines)

    def _lines(self) -> Iterator[tuple[str, ...]]:
        yield self.header
        yield from self.rows


def score_table(evaluation: Evaluation) -> Table:
    """One row per model and group of queries. Recall with its confidence interval in brackets."""
    scores = [(result.name, score) for result in evaluation.results for score in result.scores]
    grouped = any(len(result.scores) > 1 for result in evaluation.results)
    causal = any(score.best_match for _, score in scores)
    header = (
        "model",
        *(["of"] if grouped else []),
        "asked",
        *(f"recall@{k}" for k in RANKS),
        "mAP@20",
        *(["AP", "max recall at 100 % precision"] if causal else []),
        "95 % CI over",
    )
    rows = tuple(
        (
            name,
            *([score.group] if grouped else []),
            str(score.counted),
            *_recalls(score.recall),
            _share(score.mean_average_precision),
            *(_best_match(score) if causal else []),
            score.recall.units if score.recall else _UNKNOWN,
        )
        for name, score in scores
    )
    return Table(header, rows)


def gain_table(evaluation: Evaluation) -> Table:
    """Each model's recall minus that of the first, on the same queries; without rows where there is one model."""
    first = evaluation.results[0].name
    rows = tuple(
        (result.name, *_recalls(gain, "+"), gain.units if gain else _UNKNOWN)
        for result, gain in zip(evaluation.results[1:], evaluation.gains, strict=True)
    )
    return Table((f"gain over {first}", *(f"recall@{k}" for k in RANKS), "95 % CI over"), rows)


def report(evaluation: Evaluation) -> str:
    """For the terminal: what was evaluated on, the scores, and the gains over the first model."""
    title = f"{evaluation.protocol.name}\nright: {evaluation.protocol.rule}\n{counts(evaluation)}"
    tables = [score_table(evaluation), gain_table(evaluation)]
    return "\n\n".join([title, *(table.text() for table in tables if table.rows)])


def counts(evaluation: Evaluation) -> str:
    """How many images ask, how many of these count, how many could answer, and how many could not be read."""
    parts, answers = evaluation.protocol.parts, evaluation.results[0].answers
    sentence = (
        f"{len(answers.query)} queries, {answers.counted.sum()} of them with a right answer; "
        f"{sum(len(part.database) for part in parts)} database images"
    )
    if answers.unreadable:
        named = ", ".join(str(path) for path in answers.unreadable[:3])
        more = ", ..." if len(answers.unreadable) > 3 else ""
        sentence += f"; left out: {len(answers.unreadable)} images that cannot be read ({named}{more})"
    return sentence


def footnotes(evaluations: Sequence[Evaluation], bootstrap: Bootstrap) -> tuple[str, ...]:
    """What the numbers of these tables mean, in full sentences."""
    notes = [
        "recall@k: share of the queries with a right answer that have one among the first k. mAP@20: as MSLS defines it, "
        "of the same queries.",
        f"[low, high]: 95 % percentile bootstrap interval ({bootstrap.resamples} resamples, seed {bootstrap.seed}) of the "
        "units in the last column; none where all units agree.",
    ]
    if any(score.best_match for e in evaluations for result in e.results for score in result.scores):
        notes.append(
            "AP, max recall at 100 % precision: of the best matches of all queries, those without a right answer included, "
            "reported from some similarity on, or from some number of inliers on where they are re-ranked."
        )
    if any(result.answers.inliers is not None for e in evaluations for result in e.results):
        notes.append(
            "+ FEATURES top K: the first K answers of that model, those with more inliers first: local features whose "
            "matches agree on one fundamental matrix or homography."
        )
    return tuple(notes)


def _recalls(recall: Recall | None, sign: str = "") -> list[str]:
    if recall is None:
        return [_UNKNOWN] * len(RANKS)
    return [_with_interval(recall.value[k - 1], recall.low[k - 1], recall.high[k - 1], sign) for k in RANKS]


def _with_interval(value: float, low: float, high: float, sign: str) -> str:
    if np.isnan(low) or low == high:
        return _share(value, sign)
    # the space inside the brackets does not break: a narrow page breaks the line before them
    return f"{_share(value, sign)} [{_share(low, sign)},\u00a0{_share(high, sign)}]"


def _best_match(score: Score) -> list[str]:
    if score.best_match is None:
        return [_UNKNOWN, _UNKNOWN]
    return [_share(score.best_match.average_precision), _share(score.best_match.max_recall_at_full_precision)]


def _share(value: float | None, sign: str = "") -> str:
    """As the field prints recall: .963, 1.000; with `sign` "+" the sign of a difference too."""
    if value is None:
        return _UNKNOWN
    return f"{value:{sign}.3f}".replace("0.", ".")
