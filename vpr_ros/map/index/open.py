"""Which index a map gets."""

from __future__ import annotations

from pathlib import Path

from vpr_ros.map.index.base import LocalIndex
from vpr_ros.map.index.codes import Codes, Hnsw, IvfPq
from vpr_ros.map.index.faiss_index import FaissIndex
from vpr_ros.map.index.snapshot import Snapshot
from vpr_ros.map.index.tiered_index import TAIL, TieredIndex

KINDS = ("auto", "exact", "ivfpq", "hnsw")
EXACT_UP_TO = 20_000
"""Keyframes up to which `auto` compares a query with all of them: 40 MB and 2 to 4 ms at 512 dimensions, less than an inference (docs/place_index.md)."""


def open_index(dim: int, kind: str = "auto", snapshot: Path | None = None, token: str = "") -> LocalIndex:
    """An index for descriptors of `dim` numbers, one of `KINDS`.

    `snapshot`: the folder that holds what a large index keeps, for the map that `token` identifies; without one it is kept in memory. What
    `Index.keys` has afterwards came from there; the rest has to be added. Raises ValueError for an unknown kind.
    """
    if kind == "exact":
        return FaissIndex(dim)
    codes: dict[str, tuple[Codes, int]] = {
        "auto": (IvfPq(), EXACT_UP_TO),
        "ivfpq": (IvfPq(), 2 * TAIL),
        "hnsw": (Hnsw(), 2 * TAIL),
    }
    if kind not in codes:
        raise ValueError(f"there is no index {kind!r}; there are {', '.join(KINDS)}")
    chosen, seal_from = codes[kind]
    return TieredIndex(dim, chosen, seal_from, Snapshot(snapshot, dim, chosen, token) if snapshot else None)
