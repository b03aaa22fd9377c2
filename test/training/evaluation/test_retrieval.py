"""Search against the slow and obvious way."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from training.evaluation.retrieval import search


def unit_vectors(rng: np.random.Generator, count: int) -> np.ndarray:
    vectors = rng.normal(size=(count, 8)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(1, 30), st.integers(1, 7), st.booleans())
def test_each_query_sees_its_prefix_best_first(seed: int, n: int, q: int, k: int, is_causal: bool) -> None:
    rng = np.random.default_rng(seed)
    database, queries = unit_vectors(rng, n), unit_vectors(rng, q)
    stop = rng.integers(0, n + 1, q) if is_causal else None
    found = search(database, queries, k, stop)
    assert found.indices.shape == found.similarities.shape == (q, k)
    for i, query in enumerate(queries):
        seen = database[: n if stop is None else stop[i]]
        best = np.argsort(-(seen @ query))[:k]
        assert found.indices[i].tolist() == best.tolist() + [-1] * (k - len(best))
        np.testing.assert_allclose(found.similarities[i, : len(best)], seen[best] @ query, atol=1e-5)
        assert np.isnan(found.similarities[i, len(best) :]).all()


def test_more_queries_than_one_block() -> None:
    rng = np.random.default_rng(0)
    database = unit_vectors(rng, 50)
    asked = rng.integers(0, 50, 3000)
    np.testing.assert_array_equal(search(database, database[asked], 1).indices[:, 0], asked)
