"""Against milvus-lite, the server in a file and a thread; the client is that of a cluster."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from vpr_ros.map.index.base import Selection
from vpr_ros.map.index.cached_index import CachedIndex
from vpr_ros.map.index.faiss_index import FaissIndex
from vpr_ros.map.index.milvus_index import IndexServerError, MilvusIndex

DIM = 16


def unit(count: int, seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.fixture
def uri(tmp_path: Path) -> Iterator[str]:
    pytest.importorskip("pymilvus", reason="pymilvus is not installed (pip extra milvus)")
    manager = pytest.importorskip(
        "milvus_lite.server_manager", reason="milvus-lite is not installed (pip extra milvus)"
    )
    uri = str(tmp_path / "map.db")
    yield uri
    manager.server_manager_instance.release_server(uri)


def test_it_is_an_index(uri: str) -> None:
    """Adding, replacing, removing, excluding and searching, against all similarities."""
    keys, rows = 3 * np.arange(1, 2501), unit(2500)
    index = MilvusIndex(uri, "keyframes", DIM)
    index.add(keys, rows)
    index.add(keys[:5], rows[:5])  # once more, as after an answer that was lost
    assert len(index) == 2500
    index.remove(np.append(keys[::10], 10**12))
    assert index.keys().tolist() == sorted(set(keys.tolist()) - set(keys[::10].tolist()))
    rng = np.random.default_rng(1)
    for query in unit(10, seed=2):
        without = rng.choice(keys, 2000, replace=False)
        allowed = np.setdiff1d(keys, np.concatenate([without, keys[::10]]))
        similarities = rows[allowed // 3 - 1] @ query
        found = index.search(query, 10, Selection(without))
        assert [hit.key for hit in found] == allowed[np.argsort(-similarities)[:10]].tolist()
        np.testing.assert_allclose([h.similarity for h in found], np.sort(similarities)[::-1][:10], atol=1e-5)
    assert index.search(unit(1)[0], 0) == []
    index.close()


def test_what_it_cannot_do_is_an_error_and_no_other_answer(uri: str) -> None:
    index = MilvusIndex(uri, "keyframes", DIM)
    index.add(np.array([1]), unit(1))
    with pytest.raises(IndexServerError, match="no more than 16384"):
        index.search(unit(1)[0], 1, Selection(np.arange(20_000)))
    index.close()
    with pytest.raises(IndexServerError, match="not one of descriptors with 32"):
        MilvusIndex(uri, "keyframes", 32)


def test_nobody_there() -> None:
    pytest.importorskip("pymilvus", reason="pymilvus is not installed (pip extra milvus)")
    with pytest.raises(IndexServerError, match=r"127\.0\.0\.1:9"):
        MilvusIndex("http://127.0.0.1:9", "keyframes", DIM, timeout_s=0.5)


def test_a_server_that_is_stopped_and_started(uri: str) -> None:
    """With the real client: a robot's cache answers meanwhile, and what was added comes over afterwards."""
    from milvus_lite.server_manager import server_manager_instance

    is_allowed = [True]

    def connect() -> MilvusIndex:
        if not is_allowed[0]:
            raise IndexServerError("stopped")  # or the client would start milvus-lite again
        return MilvusIndex(uri, "keyframes", DIM, timeout_s=5)

    cached = CachedIndex(FaissIndex(DIM), connect, retry_s=0.05)
    cached.add(np.arange(1, 11), unit(20)[:10])
    cached.wait()
    assert cached.faults() == []
    is_allowed[0] = False
    server_manager_instance.release_server(uri)
    assert cached.search(unit(20)[3], 1)[0].key == 4
    cached.add(np.arange(11, 21), unit(20)[10:])
    cached.wait()
    assert "is away" in cached.faults()[0]
    is_allowed[0] = True
    while cached.faults():
        cached.wait()
    cached.wait()
    cached.close()
    other = MilvusIndex(uri, "keyframes", DIM)
    assert other.keys().tolist() == list(range(1, 21))
    assert other.search(unit(20)[14], 1)[0].key == 15
    other.close()


def test_pymilvus_is_imported_by_nobody_who_does_not_use_it() -> None:
    program = (
        "import sys; sys.modules['pymilvus'] = None\n"
        "import vpr_ros.map.index.open, vpr_ros.map.index.cached_index\n"
        "from vpr_ros.map.index.milvus_index import MilvusIndex, IndexServerError\n"
        "try: MilvusIndex('http://localhost:19530', 'keyframes', 4)\n"
        "except IndexServerError as error: print(error)\n"
    )
    root = Path(__file__).parents[3]
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=root, check=True)
    assert "pip install pymilvus" in result.stdout
