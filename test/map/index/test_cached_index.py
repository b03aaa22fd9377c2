"""A server that goes and comes: the robot's own answers never change, and in the end the server has what the robot has."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vpr_ros.map.index.base import ALL, Hit, Keys, Rows, Selection
from vpr_ros.map.index.cached_index import CachedIndex
from vpr_ros.map.index.faiss_index import FaissIndex
from vpr_ros.map.index.milvus_index import IndexServerError, TooManyKeysError
from vpr_ros.types import Descriptor

DIM = 8


def unit(count: int, seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


class Server:
    """An index that is elsewhere, as `connect` opens it."""

    def __init__(self) -> None:
        self.index = FaissIndex(DIM)
        self.is_there = True

    def connect(self) -> Connection:
        self.check()
        return Connection(self)

    def check(self) -> None:
        if not self.is_there:
            raise IndexServerError("nobody answers")


class Connection:
    def __init__(self, server: Server) -> None:
        self._server = server

    def __len__(self) -> int:
        return len(self._server.index)

    def keys(self) -> Keys:
        self._server.check()
        return self._server.index.keys()

    def add(self, keys: Keys, descriptors: Rows) -> None:
        self._server.check()
        self._server.index.remove(keys)
        self._server.index.add(keys, descriptors)

    def remove(self, keys: Keys) -> None:
        self._server.check()
        self._server.index.remove(keys)

    def search(self, descriptor: Descriptor, k: int, allowed: Selection = ALL) -> list[Hit]:
        self._server.check()
        if len(allowed.without) > 100:
            raise TooManyKeysError("too many")
        return self._server.index.search(descriptor, k, allowed)

    def wait(self) -> None: ...

    def faults(self) -> list[str]:
        return []

    def close(self) -> None: ...


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def cached(server: Server) -> Iterator[CachedIndex]:
    index = CachedIndex(FaissIndex(DIM), server.connect, retry_s=0.01)
    yield index
    index.close()


def test_server_gets_what_is_added_and_removed(server: Server, cached: CachedIndex) -> None:
    cached.add(np.arange(1, 1001), unit(1000))
    cached.remove(np.arange(10, 20))
    cached.wait()
    assert cached.faults() == []
    assert server.index.keys().tolist() == [*range(1, 10), *range(20, 1001)]
    np.testing.assert_array_equal(server.index.descriptors(np.array([7]))[1][0], unit(1000)[6])


def test_what_others_added_is_found_and_exclusion_holds_for_it(server: Server, cached: CachedIndex) -> None:
    server.index.add(np.array([2**40 + 1, 2**40 + 2]), unit(2, seed=5))
    cached.add(np.array([1]), unit(1))
    cached.wait()
    query = unit(2, seed=5)[1]
    assert cached.search(query, 1)[0] == (2**40 + 2, pytest.approx(1))
    assert 2**40 + 2 not in {hit.key for hit in cached.search(query, 3, Selection(np.array([2**40 + 2])))}
    assert [hit.key for hit in cached.search(unit(1)[0], 3)].count(1) == 1


def test_away_and_back(server: Server, cached: CachedIndex) -> None:
    cached.add(np.arange(1, 11), unit(20)[:10])
    cached.wait()
    server.is_there = False
    assert cached.search(unit(20)[3], 1)[0].key == 4
    cached.add(np.arange(11, 21), unit(20)[10:])
    cached.remove(np.array([2, 12]))
    cached.wait()
    assert "away (nobody answers)" in cached.faults()[0]
    assert "changes wait" in cached.faults()[0]
    assert cached.search(unit(20)[14], 1)[0].key == 15
    server.is_there = True
    while cached.faults():
        cached.wait()
    cached.wait()
    assert server.index.keys().tolist() == [key for key in range(1, 21) if key not in (2, 12)]


def test_a_query_that_a_server_does_not_take_is_answered_here_and_ends_nothing(
    server: Server, cached: CachedIndex
) -> None:
    cached.add(np.arange(1, 301), unit(300))
    server.index.add(np.array([1000]), unit(1, seed=5))
    cached.wait()
    assert [hit.key for hit in cached.search(unit(300)[250], 1, Selection(np.arange(1, 201)))] == [251]
    assert cached.faults() == []
    assert cached.search(unit(1, seed=5)[0], 1)[0].key == 1000


def test_what_was_removed_is_not_found_on_the_server(server: Server, cached: CachedIndex) -> None:
    cached.add(np.arange(1, 11), unit(10))
    cached.wait()
    cached.remove(np.array([4]))
    assert 4 not in {hit.key for hit in cached.search(unit(10)[3], 10)}


def test_a_new_process_sends_what_the_last_one_could_not(server: Server) -> None:
    server.is_there = False
    local = FaissIndex(DIM)
    first = CachedIndex(local, server.connect, retry_s=0.01)
    first.add(np.arange(1, 11), unit(10))
    first.close()
    server.is_there = True
    second = CachedIndex(local, server.connect, retry_s=0.01)
    second.wait()
    assert second.faults() == []
    assert server.index.keys().tolist() == list(range(1, 11))
    second.close()


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["add", "remove", "search", "server", "wait"]), st.integers(1, 20)), max_size=20
    ),
    st.integers(0, 2**32 - 1),
)
def test_own_answers_are_the_local_ones_in_any_order(steps: list[tuple[str, int]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    server, key, plain = Server(), 0, FaissIndex(DIM)
    cached = CachedIndex(FaissIndex(DIM), server.connect, retry_s=0.001)
    for step, amount in steps:
        if step == "add":
            keys, rows = np.arange(key + 1, key + 1 + amount), unit(amount, seed=int(rng.integers(2**32)))
            key += amount
            for index in (cached, plain):
                index.add(keys, rows)
        elif step == "remove" and key:
            for index in (cached, plain):
                index.remove(np.array([1 + amount % key]))
        elif step == "search":
            query = unit(1, seed=amount)[0]
            without = Selection(rng.integers(1, 2 + key, amount))
            expected = plain.search(query, 5, without)
            found = cached.search(query, 5, without)
            assert [h.key for h in found] == [h.key for h in expected]
        elif step == "server":
            server.is_there = not server.is_there
        elif step == "wait":
            cached.wait()
    server.is_there = True
    while cached.faults():
        cached.wait()
    cached.wait()
    assert server.index.keys().tolist() == plain.keys().tolist()
    cached.close()
