from __future__ import annotations

import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpr_ros.errors import LibraryError
from vpr_ros.map.index.base import Selection
from vpr_ros.map.index.faiss_index import FaissIndex, why_refused


def unit(rng: np.random.Generator, count: int, dim: int) -> np.ndarray:
    x = rng.normal(size=(count, dim)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@given(st.integers(0, 40), st.integers(1, 8), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_search_sorts_what_is_allowed(count: int, k: int, share: float, seed: int) -> None:
    """Against the obvious: every similarity, whatever the keys and the order in which they were added."""
    rng = np.random.default_rng(seed)
    database, query, keys = unit(rng, count, 5), unit(rng, 1, 5)[0], rng.choice(10**12, count, replace=False)
    index = FaissIndex(5)
    for some in np.array_split(np.arange(count), 3):
        index.add(keys[some], database[some])
    assert len(index) == count
    without = rng.permutation(np.append(keys[rng.random(count) < share], 10**13))  # a key that nobody has, too
    found = index.search(query, k, Selection(without=without))
    allowed = [i for i in range(count) if keys[i] not in without]
    expected = sorted(allowed, key=lambda i: -(database[i] @ query))[:k]
    assert [hit.key for hit in found] == [keys[i] for i in expected]
    np.testing.assert_allclose([hit.similarity for hit in found], database[expected] @ query, atol=1e-6)


def test_recent_keyframes_cannot_starve_an_older_match() -> None:
    """A peer that searches first and excludes afterwards finds nothing here."""
    rng = np.random.default_rng(0)
    query = unit(rng, 1, 16)[0]
    index = FaissIndex(16)
    index.add(np.array([7]), query[None])  # the true match, oldest
    index.add(np.arange(100, 150), unit(rng, 50, 16))
    index.add(np.arange(200, 230), np.repeat(query[None], 30, axis=0))  # thirty recent frames that fill any top 20
    found = index.search(query, 20, Selection(without=np.arange(200, 230)))
    assert found[0].key == 7
    assert len(found) == 20
    assert all(hit.key < 200 for hit in found)


def test_a_faiss_that_cannot_search_a_part_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not by an exception at the first frame with a keyframe that is too recent."""
    why_refused.cache_clear()
    monkeypatch.delattr(faiss, "SearchParameters")
    with pytest.raises(LibraryError, match=r"faiss .* cannot search a part of an index \(.*; type: .*faiss-cpu>=1.7.3"):
        FaissIndex(4)
    why_refused.cache_clear()


@given(st.integers(1, 30), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_what_is_removed_is_not_found_and_the_rest_keeps_its_keys(count: int, share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    database, query, keys = unit(rng, count, 5), unit(rng, 1, 5)[0], rng.choice(10**12, count, replace=False)
    index = FaissIndex(5)
    index.add(keys, database)
    gone = keys[rng.random(count) < share]
    index.remove(np.append(gone, 10**13))  # a key that nobody has, too
    index.add(np.array([10**14]), -query[None])
    left = [i for i in np.argsort(-(database @ query)) if keys[i] not in gone]
    assert [hit.key for hit in index.search(query, count + 1)] == [*keys[left], 10**14]
