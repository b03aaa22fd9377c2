"""Against the obvious: every similarity, of everything that was added and not removed.

Small indexes read every list, and a shortlist is longer than they are, so that they owe the exact answer whatever was built in the background.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vpr_ros.map.index.base import Hit, Index, Keys, Selection
from vpr_ros.map.index.codes import Codes, Hnsw, IvfPq
from vpr_ros.map.index.faiss_index import FaissIndex
from vpr_ros.map.index.open import EXACT_UP_TO, KINDS, open_index
from vpr_ros.map.index.sealed_rows import SHORTLIST
from vpr_ros.map.index.snapshot import Snapshot
from vpr_ros.map.index.tiered_index import TieredIndex

DIM = 8
ALL_LISTS = IvfPq(probed=1.0)
ALL_CODES: list[Codes] = [ALL_LISTS, Hnsw(links=4, searched=400)]


def unit(rng: np.random.Generator, count: int, dim: int = DIM) -> np.ndarray:
    x = rng.normal(size=(count, dim)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def small(codes: Codes = ALL_LISTS, folder: Path | None = None, token: str = "map", dim: int = DIM) -> TieredIndex:
    return TieredIndex(dim, codes, 40, Snapshot(folder, dim, codes, token) if folder else None, tail=16)


@contextmanager
def closing(index: TieredIndex) -> Iterator[TieredIndex]:
    try:
        yield index
    finally:
        index.close()


class Truth(dict[int, np.ndarray]):
    """Descriptors by key, and what an index of them has to answer."""

    def add(self, index: Index, keys: np.ndarray, rows: np.ndarray) -> None:
        index.add(keys, rows)
        self.update(zip(keys.tolist(), rows, strict=True))

    def remove(self, index: Index, keys: np.ndarray) -> None:
        index.remove(keys)
        for key in keys.tolist():
            self.pop(key, None)

    def check(self, index: Index, query: np.ndarray, k: int, without: np.ndarray) -> None:
        assert len(index) == len(self)
        assert index.keys().tolist() == sorted(self)
        found = index.search(query, k, Selection(without))
        allowed = sorted(set(self) - set(without.tolist()))
        similarities = np.array([self[key] @ query for key in allowed])
        expected = sorted(range(len(allowed)), key=lambda i: -similarities[i])[:k]
        assert [hit.key for hit in found] == [allowed[i] for i in expected]
        np.testing.assert_allclose([hit.similarity for hit in found], similarities[expected], atol=1e-5)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 60)),
        st.tuples(st.just("remove"), st.floats(0, 0.6)),
        st.tuples(st.just("search"), st.floats(0, 1)),
        st.tuples(st.just("wait"), st.just(0)),
        st.tuples(st.just("reopen"), st.booleans()),
    ),
    min_size=3,
    max_size=10,
)


@pytest.mark.parametrize("codes", ALL_CODES, ids=lambda codes: codes.kind)
@settings(max_examples=60, deadline=None)
@given(steps=steps, seed=st.integers(0, 2**32 - 1))
def test_answers_are_those_of_what_it_holds(codes: Codes, steps: list[tuple[str, Any]], seed: int) -> None:
    """In any order of adding, removing, searching, building and opening again."""
    rng = np.random.default_rng(seed)
    truth, key = Truth(), 0
    with TemporaryDirectory() as name:
        folder = Path(name) / "index"
        index = small(codes, folder)
        for step, amount in [*steps, ("wait", 0), ("search", 0.2)]:
            if step == "add" and len(truth) + amount < SHORTLIST // 2:
                keys = key + np.cumsum(rng.integers(1, 4, amount))
                key = int(keys[-1])
                truth.add(index, keys, unit(rng, amount))
            elif step == "remove":
                truth.remove(index, np.array([k for k in truth if rng.random() < amount] + [10**9], np.int64))
            elif step == "search":
                without = np.array([k for k in truth if rng.random() < amount] + [10**9], np.int64)
                truth.check(index, unit(rng, 1)[0], int(rng.integers(1, 30)), rng.permutation(without))
            elif step == "wait":
                index.wait()
            elif step == "reopen":
                index.close()
                index = small(codes, folder)
                complete(index, truth)
        assert index.faults() == []
        index.close()


def complete(index: Index, truth: Truth) -> None:
    """What a map does with an index that it opened: add what is missing, remove what it has no longer."""
    kept = index.keys()
    index.remove(np.setdiff1d(kept, np.fromiter(truth, np.int64, len(truth))))
    missing = sorted(set(truth) - set(kept.tolist()))
    if missing:
        index.add(np.array(missing, np.int64), np.array([truth[key] for key in missing]))


@pytest.mark.parametrize("codes", ALL_CODES, ids=lambda codes: codes.kind)
def test_excluded_rows_cannot_fill_the_top(codes: Codes) -> None:
    """One true match, sealed among thousands that are more similar and may not be returned."""
    rng = np.random.default_rng(0)
    query = unit(rng, 1, 16)[0]
    noise = unit(rng, 2000, 16)
    twins = query + 0.02 * unit(rng, 3000, 16)
    twins /= np.linalg.norm(twins, axis=1, keepdims=True)
    match = (query + 0.3 * noise[0]) / np.linalg.norm(query + 0.3 * noise[0])
    rows = np.concatenate([noise[:1000], match[None], twins, noise[1000:]]).astype(np.float32)
    keys = 3 * np.arange(1, len(rows) + 1)
    with closing(TieredIndex(16, codes, 1000, tail=500)) as index:
        index.add(keys, rows)
        index.wait()
        assert index.sealed_count > 4000
        found = index.search(query, 20, Selection(rng.permutation(keys[1001:4001])))
        assert found[0].key == keys[1000]
        assert len(found) == 20
        assert not set(keys[1001:4001].tolist()) & {hit.key for hit in found}
        index.remove(keys[1001:4001])  # for good, too
        assert index.search(query, 20)[0].key == keys[1000]
        index.wait()
        assert index.search(query, 20)[0].key == keys[1000]
        left = [hit.key for hit in index.search(query, 20, Selection(keys[5:]))]
        assert sorted(left) == keys[:5].tolist()


@pytest.mark.parametrize(
    ("codes", "bar"), [(IvfPq(), 0.99), (Hnsw(), 0.97)], ids=lambda value: getattr(value, "kind", "")
)
def test_recall_on_streets_driven_twice(codes: Codes, bar: float) -> None:
    """Keyframes whose neighbours fade as on a drive (0.9 of a descriptor is left after one keyframe), queried by views of places of the map."""
    rng = np.random.default_rng(3)
    count, dim = (6_000, 128) if codes.kind == "ivfpq" else (3_000, 128)
    rows = rng.normal(size=(count, dim)).astype(np.float32) * np.linspace(1.5, 0.5, dim, dtype=np.float32)
    fresh = rows.copy()
    for i in range(1, count):
        rows[i] = 0.9 * rows[i - 1] + 0.44 * fresh[i]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    queries = rows[rng.choice(count, 200, replace=False)] + 0.5 * unit(rng, 200, dim)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    exact = FaissIndex(dim)
    exact.add(np.arange(1, count + 1), rows)
    with closing(TieredIndex(dim, codes, 2000, tail=500)) as index:
        for some in np.array_split(np.arange(count), 3):
            index.add(some + 1, rows[some])
            index.wait()
        assert index.sealed_count > 0.9 * count
        agreed = [len({h.key for h in index.search(q, 10)} & {h.key for h in exact.search(q, 10)}) for q in queries]
        assert np.mean(agreed) / 10 >= bar


def test_the_same_additions_give_the_same_answers() -> None:
    rng = np.random.default_rng(5)
    rows, queries = unit(rng, 3000, 32), unit(rng, 50, 32)
    answers = []
    for _ in range(2):
        with closing(TieredIndex(32, IvfPq(), 500, tail=300)) as index:
            for some in np.array_split(np.arange(3000), 10):
                index.add(some + 1, rows[some])
                index.wait()
            answers.append([index.search(q, 10) for q in queries])
    assert answers[0] == answers[1]


class Halting(IvfPq):
    """Codes whose training goes on until the test lets it."""

    def __init__(self) -> None:
        super().__init__(probed=1.0)
        for name in ("begun", "may_end"):
            object.__setattr__(self, name, threading.Event())

    def train(self, sample: np.ndarray, count: int, check: Callable[[], None]) -> Any:
        self.begun.set()  # type: ignore[attr-defined]
        while not self.may_end.wait(0.01):  # type: ignore[attr-defined]
            check()
        return super().train(sample, count, check)


def test_while_an_index_is_built_everything_goes_on() -> None:
    """Adding, removing of sealed, frozen and new rows, searching; the result has it all."""
    rng = np.random.default_rng(1)
    codes = Halting()
    truth = Truth()
    with closing(small(codes)) as index:
        truth.add(index, np.arange(1, 41), unit(rng, 40))
        assert codes.begun.wait(60)
        truth.add(index, np.arange(50, 70), unit(rng, 20))
        truth.remove(index, np.array([3, 4, 55]))
        for _ in range(5):
            truth.check(index, unit(rng, 1)[0], 10, np.array([1, 51]))
        assert index.sealed_count == 0
        codes.may_end.set()
        index.wait()
        assert index.sealed_count == 59
        for _ in range(5):
            truth.check(index, unit(rng, 1)[0], 10, np.array([1, 51]))


def test_close_ends_a_build(tmp_path: Path) -> None:
    codes = Halting()
    index = small(codes, tmp_path)
    index.add(np.arange(1, 41), unit(np.random.default_rng(1), 40))
    assert codes.begun.wait(60)
    index.close()
    assert index.sealed_count == 0
    assert len(index) == 40


class Failing(IvfPq):
    def train(self, sample: np.ndarray, count: int, check: Callable[[], None]) -> Any:
        raise MemoryError("no room")


def test_a_build_that_fails_is_a_fault_and_loses_nothing() -> None:
    rng = np.random.default_rng(1)
    truth = Truth()
    with closing(small(Failing())) as index:
        for first in range(1, 200, 20):
            truth.add(index, np.arange(first, first + 20), unit(rng, 20))
            index.wait()
        assert "no room" in " ".join(index.faults())
        truth.check(index, unit(rng, 1)[0], 10, np.array([5]))


def test_keys_have_to_ascend() -> None:
    with closing(small()) as index:
        index.add(np.array([4, 7]), unit(np.random.default_rng(0), 2))
        for keys in ([7, 8], [9, 9], [12, 11]):
            with pytest.raises(ValueError, match="ascend"):
                index.add(np.array(keys), unit(np.random.default_rng(0), 2))
        assert index.keys().tolist() == [4, 7]


@pytest.mark.parametrize("dim", [1, 3, 5, 30, 257, 300])
def test_any_dimension(dim: int) -> None:
    rng = np.random.default_rng(2)
    truth = Truth()
    with closing(small(dim=dim)) as index:
        truth.add(index, np.arange(1, 61), unit(rng, 60, dim))
        index.wait()
        assert index.sealed_count == 60
        if dim > 1:
            truth.check(index, unit(rng, 1, dim)[0], 10, np.array([5]))


def test_open_index_kinds() -> None:
    for kind in KINDS:
        index = open_index(DIM, kind)
        index.add(np.array([1, 5]), np.eye(DIM, dtype=np.float32)[:2])
        assert index.search(np.eye(DIM, dtype=np.float32)[1], 1) == [Hit(5, 1.0)]
        index.close()
    with pytest.raises(ValueError, match="no index 'flat'"):
        open_index(DIM, "flat")


def test_a_map_of_some_thousands_is_searched_as_by_faiss_alone() -> None:
    rng = np.random.default_rng(4)
    rows = unit(rng, 3000, 32)
    auto, exact = open_index(32), FaissIndex(32)
    keys: Keys = np.arange(1, 3001)
    for index in (auto, exact):
        index.add(keys, rows)
    assert EXACT_UP_TO > 3000
    for query in unit(rng, 30, 32):
        assert auto.search(query, 20, Selection(keys[-50:])) == exact.search(query, 20, Selection(keys[-50:]))
    auto.close()


def test_everything_removed_while_a_build_goes_on() -> None:
    rng = np.random.default_rng(1)
    codes, truth = Halting(), Truth()
    with closing(small(codes)) as index:
        codes.may_end.set()
        truth.add(index, np.arange(1, 41), unit(rng, 40))
        index.wait()
        codes.may_end.clear()
        codes.begun.clear()
        truth.add(index, np.arange(41, 241), unit(rng, 200))  # many more: the codes are trained again
        assert codes.begun.wait(60)
        truth.remove(index, index.keys())
        codes.may_end.set()
        index.wait()
        assert index.faults() == []
        truth.check(index, unit(rng, 1)[0], 5, np.array([1]))
        truth.add(index, np.arange(300, 360), unit(rng, 60))
        index.wait()
        assert index.sealed_count == 60
        truth.check(index, unit(rng, 1)[0], 5, np.array([301]))


def test_what_little_is_left_is_searched_exactly_again() -> None:
    rng = np.random.default_rng(1)
    truth = Truth()
    with closing(small()) as index:
        truth.add(index, np.arange(1, 101), unit(rng, 100))
        index.wait()
        truth.remove(index, np.arange(1, 92))
        index.wait()
        assert index.sealed_count == 0
        assert index.faults() == []
        truth.check(index, unit(rng, 1)[0], 5, np.array([95]))
        truth.remove(index, np.array([99]))
        truth.add(index, np.arange(200, 260), unit(rng, 60))
        index.wait()
        assert index.sealed_count == 69  # with the one that was removed
        truth.check(index, unit(rng, 1)[0], 5, np.array([95]))
