from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from small_batches import random_psi, source_of, unit

from training.data.mining import mine
from training.data.sampling import Mined, MinedTriplets
from training.data.source import Source
from vpr_ros.errors import ConfigError, TrainingError

laws = settings(deadline=None, max_examples=30)
seeds = st.integers(0, 2**32 - 1)
ALL = MinedTriplets(negatives=3, refresh_queries=1000, pool=1000, margin=0.3)
"""Larger than every source here: each query is mined among all images."""

Descriptors = list[NDArray[np.float32]]


def world(seed: int) -> tuple[list[Source], Descriptors]:
    """Two sources with every kind of pair, and a descriptor of each image."""
    rng = np.random.default_rng(seed)
    sources = []
    for count in (14, 9):
        psi = random_psi(rng, count)
        psi[0, 1] = psi[1, 0] = 0.9  # without a positive there is nothing to mine
        sources.append(source_of(psi, name=f"set {count}"))
    return sources, [unit(rng, len(source.images)).float().numpy() for source in sources]


def reader(descriptors: Descriptors) -> Callable[[int, NDArray[np.int64]], NDArray[np.float32]]:
    def describe(source: int, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        return descriptors[source][indices]

    return describe


def by_loops(source: Source, x: NDArray[np.float32], query: int) -> list[int] | None:
    """Query, positive, negatives; None without a hard negative."""
    psi = source.psi(np.arange(len(x)))
    others = [i for i in range(len(x)) if i != query and np.isfinite(x[i]).all()]
    away = {i: float(np.linalg.norm(x[query].astype(float) - x[i])) for i in others}
    positives = [i for i in others if psi[query, i] >= 0.5]
    if not positives or not np.isfinite(x[query]).all():
        return None
    positive = min(positives, key=away.__getitem__)
    hard = [i for i in others if psi[query, i] == 0 and away[i] < away[positive] + ALL.margin]
    hard = sorted(hard, key=away.__getitem__)[: ALL.negatives]
    return [query, positive, *hard, *[-1] * (ALL.negatives - len(hard))] if hard else None


@laws
@given(seeds, st.booleans())
def test_against_loops_over_all_images(seed: int, unreadable: bool) -> None:
    sources, descriptors = world(seed)
    if unreadable:
        for x in descriptors:
            x[2:5] = np.nan
    expected: dict[tuple[int, int], list[int]] = {}
    asked = 0
    for s, (source, x) in enumerate(zip(sources, descriptors, strict=True)):
        queries = [i for i in range(len(x)) if len(source.positives(i))]
        tuples = [by_loops(source, x, query) for query in queries]
        asked += len(queries)
        expected |= {(s, found[0]): found for found in tuples if found}
    if not expected:
        with pytest.raises(TrainingError, match="nothing is left to learn"):
            mine(np.random.default_rng(seed), sources, reader(descriptors), ALL)
        return
    mined = mine(np.random.default_rng(seed), sources, reader(descriptors), ALL)
    found = {(s, row[0]): row for s, row in zip(mined.source.tolist(), mined.indices.tolist(), strict=True)}
    assert found == expected
    assert mined.dropped == asked - len(expected)


def test_a_round_is_a_pure_function_of_the_generator() -> None:
    sources, descriptors = world(0)
    options = MinedTriplets(negatives=2, refresh_queries=8, pool=6, margin=0.5)
    first, again, other = (mine(np.random.default_rng(i), sources, reader(descriptors), options) for i in (1, 1, 2))
    np.testing.assert_array_equal(first.indices, again.indices)
    np.testing.assert_array_equal(first.source, again.source)
    assert first.indices.tolist() != other.indices.tolist()
    assert len(first.source) + first.dropped <= 8


def test_every_image_is_described_once_and_no_more_than_needed() -> None:
    count = 400
    psi = np.eye(count)
    psi[np.arange(0, count, 2), np.arange(1, count, 2)] = psi[np.arange(1, count, 2), np.arange(0, count, 2)] = 0.9
    x = unit(np.random.default_rng(0), count).float().numpy()
    described: list[int] = []

    def describe(_: int, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        described.extend(indices.tolist())
        return x[indices]

    options = MinedTriplets(refresh_queries=10, pool=20, margin=2.0)
    mine(np.random.default_rng(0), [source_of(psi)], describe, options)
    assert len(described) == len(set(described))
    assert len(described) <= 10 + 10 + 20


def test_the_last_negatives_are_tried_again() -> None:
    """The pool is one random image; what was hard in the last round is found whatever that image is."""
    psi = np.eye(50)
    psi[0, 1] = psi[1, 0] = 0.9
    x = unit(np.random.default_rng(0), 50, dim=64).float().numpy()
    x[[0, 1, 40]] = x[0]  # image 40 looks the same and is elsewhere
    described: list[int] = []

    def describe(_: int, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        described.extend(indices.tolist())
        return x[indices]

    of_another_source_or_query = [[0, 1, 41], [2, 3, 42]]
    previous = Mined(np.array([0, 0, 1, 0]), np.array([[0, 1, 40], [1, 0, 40], *of_another_source_or_query]), dropped=0)
    options = MinedTriplets(negatives=1, pool=1, margin=0.1)
    mined = mine(np.random.default_rng(0), [source_of(psi)], describe, options, previous)
    assert sorted(mined.indices.tolist()) == [[0, 1, 40], [1, 0, 40]]
    assert not {41, 42} & set(described)


def test_a_source_without_positives_cannot_be_mined() -> None:
    lone = source_of(np.full((4, 4), np.nan), name="lone")
    with pytest.raises(ConfigError, match=r"lone: no image has 1 or more positives \(psi >= 0.5\)"):
        mine(np.random.default_rng(0), [lone], reader([np.eye(4, dtype=np.float32)]), ALL)


def test_a_set_that_is_learnt_says_so() -> None:
    psi = np.kron(np.eye(3), np.ones((2, 2)))
    x = np.repeat(np.eye(3, dtype=np.float32), 2, axis=0)
    with pytest.raises(TrainingError, match=r"none of 6 queries has a negative nearer than its positive \+ 0.3"):
        mine(np.random.default_rng(0), [source_of(psi)], reader([x]), ALL)
