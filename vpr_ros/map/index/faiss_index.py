"""Exact inner-product search with faiss."""

from __future__ import annotations

import faiss
import numpy as np
from numpy.typing import NDArray

from vpr_ros.types import Candidate, Descriptor


class FaissIndex:
    """Keyframe descriptors in the order of their ids, 0, 1, 2, ...

    All exclusion rules (time, distance, count) exclude the newest keyframes, so what a query may match is always a prefix
    of the map. faiss searches that prefix alone: recent frames cannot fill the top k and starve an older true match.
    """

    def __init__(self, dim: int) -> None:
        self._index = faiss.IndexFlatIP(dim)

    def __len__(self) -> int:
        return self._index.ntotal

    def add(self, descriptors: NDArray[np.float32]) -> None:
        """Append (N, D) unit descriptors."""
        self._index.add(np.ascontiguousarray(descriptors, dtype=np.float32))

    def search(self, descriptor: Descriptor, k: int, stop: int) -> tuple[Candidate, ...]:
        """At most k keyframes with id < stop, most similar first."""
        k = min(k, stop, len(self))
        if k <= 0:
            return ()
        parameters = faiss.SearchParameters(sel=faiss.IDSelectorRange(0, stop))
        similarities, ids = self._index.search(descriptor[None], k, params=parameters)
        return tuple(Candidate(int(i), float(s)) for i, s in zip(ids[0], similarities[0], strict=True) if i >= 0)
