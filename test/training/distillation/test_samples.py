from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from small_batches import random_psi, source_of, unit

from training.data.image_set import ImageSet
from training.data.source import Source
from training.distillation.samples import GROUPS, Audit, Samples, rank_samples

RANKS = hnp.arrays(np.int64, st.integers(1, 30), elements=st.integers(1, 200))


def samples(teacher: list[int], student: list[int], query: list[int] | None = None) -> Samples:
    index = np.array(query or range(len(teacher)))
    return Samples(index, index + 100, np.array(teacher), np.array(student))


def with_sequences(source: Source, sequences: list[str]) -> Source:
    images = ImageSet.of("small", source.images.paths, sequences=sequences)
    return Source(images, source.similarity)


def test_the_groups_of_the_paper() -> None:
    found = samples(teacher=[1, 10, 3, 3, 5, 11, 200], student=[11, 99, 3, 10, 4, 1, 300]).groups(threshold=10)
    assert [GROUPS[group - 1] for group in found] == ["D1", "D1", "D2", "D2", "D3", "D4", "D4"]


def test_a_weight_by_hand() -> None:
    known = (1 - math.log(2) / math.log(11)) * (0.5 + 0.5 / (1 + math.exp(math.log(2) - math.log(8))))
    even = 1.0 * (0.5 + 0.5 * 0.5)
    found = samples(teacher=[2, 1, 11], student=[8, 1, 500]).weights(threshold=10, floor=0.5, temperature=1.0)
    np.testing.assert_allclose(found, [known, even, 0.0])


@settings(max_examples=50, deadline=None)
@given(RANKS, st.integers(1, 50), st.floats(0, 1), st.floats(0.1, 10))
def test_weights_grow_with_knowledge_and_with_the_gap(
    teacher: np.ndarray, threshold: int, floor: float, temperature: float
) -> None:
    student = teacher[::-1].copy()
    at = samples(teacher.tolist(), student.tolist()).weights(threshold, floor, temperature)
    worse = samples((teacher + 1).tolist(), student.tolist()).weights(threshold, floor, temperature)
    wider = samples(teacher.tolist(), (student + 1).tolist()).weights(threshold, floor, temperature)
    assert ((at >= 0) & (at <= 1)).all()
    assert (worse <= at + 1e-12).all()
    assert (wider >= at - 1e-12).all()
    assert ((at == 0) == (teacher > threshold)).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.integers(1, 3))
def test_ranks_are_those_of_a_loop(seed: int, count: int, sequences: int) -> None:
    rng = np.random.default_rng(seed)
    names = [f"drive {i % sequences}" for i in range(count)]
    source = with_sequences(source_of(random_psi(rng, count)), names)
    teacher, student = (unit(rng, count).float().numpy() for _ in range(2))
    teacher[rng.random(count) < 0.2] = np.nan
    several = len(set(names)) > 1
    psi = source.psi(np.arange(count))
    expected = []
    for q in range(count):
        seen = [i for i in range(count) if i != q and not np.isnan(teacher[i, 0])]
        seen = [i for i in seen if not several or names[i] != names[q]]
        if np.isnan(teacher[q, 0]):
            continue
        rivals = [i for i in seen if psi[q, i] < 0.5]
        for p in seen:
            if psi[q, p] >= 0.5:
                x, y = (1 + sum(bool(d[i] @ d[q] > d[p] @ d[q]) for i in rivals) for d in (teacher, student))
                expected.append((q, p, x, y))
    found = rank_samples(source, teacher, student)
    rows = zip(found.query, found.positive, found.teacher, found.student, strict=True)
    assert sorted(rows) == sorted(expected)


def test_an_audit_counts_queries_not_samples() -> None:
    audit = Audit.of(samples(teacher=[1, 5, 1, 9], student=[4, 1, 2, 9], query=[0, 0, 1, 2]))
    assert audit == Audit(queries=3, teacher=2, student=1, teacher_only=1)
    assert audit + audit == Audit(6, 4, 2, 2)


@pytest.mark.parametrize("psi", [np.zeros((3, 3)), np.full((3, 3), 0.4)])
def test_a_source_without_positives_has_no_samples(psi: np.ndarray) -> None:
    descriptors = unit(np.random.default_rng(0), 3).float().numpy()
    found = rank_samples(source_of(psi), descriptors, descriptors)
    assert len(found.query) == len(found.teacher) == 0
    assert Audit.of(found) == Audit(0, 0, 0, 0)
