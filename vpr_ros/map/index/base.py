"""What a map needs of an index, so that another one can take its place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from vpr_ros.types import Descriptor

Keys = NDArray[np.int64]
"""(N,) the map's own numbers of its keyframes, not negative and never reused. They mean nothing to anybody else."""


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
    """Descriptors by key. Which may be found is decided inside the search: what is not allowed never fills the top k."""

    def __len__(self) -> int: ...

    def add(self, keys: Keys, descriptors: NDArray[np.float32]) -> None:
        """Add (N, D) unit descriptors under N new keys."""

    def remove(self, keys: Keys) -> None:
        """Forget keys; those that are not there are none's."""

    def search(self, descriptor: Descriptor, k: int, allowed: Selection = ALL) -> list[Hit]:
        """At most k allowed keys, most similar first."""
