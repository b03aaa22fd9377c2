from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vpr_ros.map.index import FaissIndex


def unit(rng: np.random.Generator, count: int, dim: int) -> np.ndarray:
    x = rng.normal(size=(count, dim)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@given(st.integers(0, 40), st.integers(1, 8), st.integers(0, 50), st.integers(0, 2**32 - 1))
def test_search_is_the_sorted_prefix(count: int, k: int, stop: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    database, query = unit(rng, count, 5), unit(rng, 1, 5)[0]
    index = FaissIndex(5)
    index.add(database)
    found = index.search(query, k, stop)
    similarities = database[: min(stop, count)] @ query
    expected = sorted(range(len(similarities)), key=lambda i: -similarities[i])[:k]
    assert [c.keyframe_id for c in found] == expected
    np.testing.assert_allclose([c.similarity for c in found], similarities[expected], atol=1e-6)


def test_recent_keyframes_cannot_starve_an_older_match() -> None:
    """A peer that searches first and excludes afterwards finds nothing here."""
    rng = np.random.default_rng(0)
    query = unit(rng, 1, 16)[0]
    index = FaissIndex(16)
    index.add(query[None])  # the true match, oldest
    index.add(unit(rng, 50, 16))
    index.add(np.repeat(query[None], 30, axis=0))  # thirty recent frames that fill any top 20
    found = index.search(query, 20, stop=51)
    assert found[0].keyframe_id == 0
    assert all(c.keyframe_id < 51 for c in found)
