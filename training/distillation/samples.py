"""Samples of distillation: how well teacher and student know each pair of a query and a positive (docs/methods.md 3.1, 3.4)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from training.data.source import POSITIVE, Source

GROUPS = ("D1", "D2", "D3", "D4")
Ranks = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """The P samples of a source: `query`, `positive` (P,) int64 are its images.

    `teacher`, `student` (P,) int64 are x and y of docs/methods.md: the rank of the positive in the retrieval of each, from 1.
    """

    query: NDArray[np.int64]
    positive: NDArray[np.int64]
    teacher: Ranks
    student: Ranks

    def groups(self, threshold: int) -> NDArray[np.int64]:
        """(P,) 1 to 4 for D1 to D4 (docs/methods.md 3.4), with N = `threshold`.

        D1: x <= N < y, only the teacher knows; D2: x <= y <= N, the teacher knows as well or better; D3: y < x <= N, the
        student knows better; D4: x > N, the teacher does not know.
        """
        x, y = self.teacher, self.student
        return np.select([x > threshold, y > threshold, x <= y], [4, 1, 2], 3)

    def weights(self, threshold: int, floor: float, temperature: float) -> NDArray[np.float64]:
        """(P,) in [0, 1]: more where the teacher knows more, and more of it than the student; 0 in D4 (docs/methods.md 3.5).

        w = (1 - ln x / ln(N + 1)) (b + (1 - b) sigmoid((ln y - ln x) / T)), with b = `floor` and T = `temperature`.
        """
        x, y = np.log(self.teacher), np.log(self.student)
        knowledge = 1 - x / np.log(threshold + 1)
        gap = 1 / (1 + np.exp((x - y) / temperature))
        return np.where(self.teacher > threshold, 0.0, knowledge * (floor + (1 - floor) * gap))


@dataclass(frozen=True, slots=True)
class Audit:
    """Queries of the training set, and how many of them each branch solves: some positive is its first answer."""

    queries: int
    teacher: int
    student: int
    teacher_only: int

    @classmethod
    def of(cls, samples: Samples) -> Audit:
        queries, at = np.unique(samples.query, return_inverse=True)
        teacher, student = np.zeros(len(queries), np.bool_), np.zeros(len(queries), np.bool_)
        np.logical_or.at(teacher, at, samples.teacher == 1)
        np.logical_or.at(student, at, samples.student == 1)
        return cls(len(queries), int(teacher.sum()), int(student.sum()), int((teacher & ~student).sum()))

    def __add__(self, other: Audit) -> Audit:
        return Audit(
            self.queries + other.queries,
            self.teacher + other.teacher,
            self.student + other.student,
            self.teacher_only + other.teacher_only,
        )


def rank_samples(source: Source, teacher: NDArray[np.float32], student: NDArray[np.float32]) -> Samples:
    """All samples of a source, ranked by the descriptors (N, D) of both branches; D may differ.

    A sample is a query and one of its positives (psi >= 0.5); its rank counts the images that are no positives (psi < 0.5)
    and more similar. In a source of several sequences, positives and competitors are those of other sequences: the
    neighbours in time would be found by anyone. Images with NaN descriptors are in no sample.
    """
    usable = ~np.isnan(teacher[:, 0]) & ~np.isnan(student[:, 0])
    apart = _apart(source)
    found: list[tuple[NDArray[np.int64], ...]] = [(np.empty(0, np.int64),) * 4]
    for query in tqdm(np.flatnonzero(usable), desc=f"ranks in {source.images.name}", unit="query", disable=None):
        others, psi = source.neighbours(int(query))
        competes = usable & apart[query] if apart is not None else usable.copy()
        competes[query] = False
        positives = others[(psi >= POSITIVE) & competes[others]].astype(np.int64)
        if len(positives):
            competes[others[~(psi < POSITIVE)]] = False  # positives, and those of which nobody knows
            ranks = (_ranks(descriptors, query, positives, competes) for descriptors in (teacher, student))
            found.append((np.full(len(positives), query), positives, *ranks))
    return Samples(*(np.concatenate(column) for column in zip(*found, strict=True)))


def _apart(source: Source) -> NDArray[np.bool_] | None:
    """(N, N) bool: of different sequences; None where there is one only."""
    sequences = source.images.sequences
    return sequences[:, None] != sequences if len(np.unique(sequences)) > 1 else None


def _ranks(descriptors: NDArray[np.float32], query: int, positives: Ranks, competes: NDArray[np.bool_]) -> Ranks:
    similarity = descriptors @ descriptors[query]
    rivals = np.sort(similarity[competes])
    return 1 + len(rivals) - np.searchsorted(rivals, similarity[positives], side="right")
