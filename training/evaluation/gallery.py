"""Pictures of what a model gets wrong, most confident first, and of what it gets right by the least margin."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.data.protocol import Part, RetrievalProtocol
from training.evaluation.answers import Answers

MOST_ERRORS = 24
MOST_SUCCESSES = 6


@dataclass(frozen=True, slots=True)
class Picture:
    label: str
    path: Path | None
    """None where there is nothing to show."""


@dataclass(frozen=True, slots=True)
class Case:
    """A query, the model's first answer and, where that is wrong, a right one."""

    pictures: tuple[Picture, ...]


@dataclass(frozen=True, slots=True)
class Gallery:
    """Some of `total` cases of a kind; `order` says which."""

    title: str
    order: str
    total: int
    cases: tuple[Case, ...]


def errors(protocol: RetrievalProtocol, answers: Answers) -> Gallery:
    """First answers that are wrong; in loop closure also those to queries without a right answer, which cost precision."""
    is_causal = np.array([part.stop is not None for part in protocol.parts])[answers.part]
    rows = np.flatnonzero(answers.wrong & (answers.counted | is_causal))
    return _gallery(
        "Wrong first answers",
        "the most confident first",
        protocol,
        answers,
        rows[np.argsort(-answers.confidence[rows], kind="stable")],
        MOST_ERRORS,
    )


def successes(protocol: RetrievalProtocol, answers: Answers) -> Gallery:
    rows = np.flatnonzero(answers.right[:, 0])
    return _gallery(
        "Right first answers",
        "the least confident first",
        protocol,
        answers,
        rows[np.argsort(answers.confidence[rows], kind="stable")],
        MOST_SUCCESSES,
    )


def _gallery(
    title: str, order: str, protocol: RetrievalProtocol, answers: Answers, rows: NDArray[np.intp], most: int
) -> Gallery:
    cases = tuple(_case(protocol.parts[answers.part[row]], answers, row) for row in rows[:most])
    return Gallery(title, order, len(rows), cases)


def _case(part: Part, answers: Answers, row: np.intp) -> Case:
    query = answers.query[row]
    asked = Picture("query", part.queries.paths[query])
    kind = "right" if answers.right[row, 0] else "wrong"
    answered = Picture(f"{kind}, {_likeness(answers, row, 0)}", part.database.paths[answers.found[row, 0]])
    if kind == "right":
        return Case((asked, answered))
    return Case((asked, answered, _right_answer(part, answers, row)))


def _right_answer(part: Part, answers: Answers, row: np.intp) -> Picture:
    """The best ranked right answer, else the one in the middle of all."""
    positives = part.positives[answers.query[row]]
    if len(positives) == 0:
        return Picture("there is no right answer", None)
    ranks = np.flatnonzero(answers.right[row])
    if len(ranks) == 0:
        label = f"a right one, not among the first {answers.right.shape[1]}"
        return Picture(label, part.database.paths[positives[len(positives) // 2]])
    rank = ranks[0]
    label = f"the best right one: rank {rank + 1}, {_likeness(answers, row, rank)}"
    return Picture(label, part.database.paths[answers.found[row, rank]])


def _likeness(answers: Answers, row: np.intp, rank: int | np.intp) -> str:
    similarity = f"similarity {answers.similarity[row, rank]:.3f}"
    if answers.inliers is None or np.isnan(answers.inliers[row, rank]):
        return similarity
    return f"{similarity}, {answers.inliers[row, rank]:.0f} inliers"
