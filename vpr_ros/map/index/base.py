"""What a map needs of an index, so that another one can take its place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from vpr_ros.types import Descriptor

Keys = NDArray[np.int64]
"""(N,) the map's own numbers of its keyframes, positive, ascending in the order of adding and never reused. They mean nothing to anybody else."""
Rows = NDArray[np.float32]
"""(N, D) unit descriptors, one a row."""


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """Which keys a search may return: all but `without`, in any order."""

    without: Keys = field(default_factory=lambda: np.empty(0, np.int64))


ALL = Selection()


class Hit(NamedTuple):
    """A key and its cosine similarity with the query."""

    key: int
    similarity: float


class Index(Protocol):
    """Descriptors by key. Which may be found is decided inside the search: what is not allowed never fills the top k.

    An index is derived data: whoever has the descriptors can make it anew.
    """

    def __len__(self) -> int: ...

    def keys(self) -> Keys:
        """Of all that is in the index, ascending."""

    def add(self, keys: Keys, descriptors: Rows) -> None:
        """Add N descriptors under N new keys."""

    def remove(self, keys: Keys) -> None:
        """Forget these; a key that the index has not is none's loss."""

    def search(self, descriptor: Descriptor, k: int, allowed: Selection = ALL) -> list[Hit]:
        """At most k allowed keys, most similar first and of equally similar ones the lower key."""

    def wait(self) -> None:
        """Return when no work is left in the background; for tests, benchmarks and tools."""

    def faults(self) -> list[str]:
        """What does not work as it should, a sentence each, for people; searches go on."""

    def close(self) -> None:
        """End what runs in the background and keep what is worth keeping. The index may not be used afterwards."""


class LocalIndex(Index, Protocol):
    """An index of this process, which has the descriptors themselves."""

    def descriptors(self, keys: Keys) -> tuple[Keys, Rows]:
        """Those of `keys` that are in the index, in its own order, and their descriptors."""


def best(hits: list[Hit], k: int) -> list[Hit]:
    """The k most similar, in the order of `Index.search`."""
    return sorted(hits, key=lambda hit: (-hit.similarity, hit.key))[:k]
