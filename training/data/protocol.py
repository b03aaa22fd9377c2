"""What an evaluation asks and what counts as right. A number without this says nothing (FIELD.md B0)."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.spatial import cKDTree

from training.data.image_set import ImageSet
from training.data.planar import within_gate
from training.data.source import POSITIVE
from vpr_ros.errors import ConfigError

Positives = tuple[NDArray[np.int64], ...]
"""For each query the indices of the right database images, ascending; empty where there is none."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Queries answered from one database (a city, a drive).

    `stop` (Q,) int64: query i may be answered with `database[:stop[i]]` only, as a robot that loops over its own drive;
    None where the whole database is open.

    `borderline`: answers that count neither way: near enough to be no error, too far to be asked for.
    """

    database: ImageSet
    queries: ImageSet
    positives: Positives
    stop: NDArray[np.int64] | None = None
    borderline: Positives | None = None


@dataclass(frozen=True, slots=True, eq=False)
class RetrievalProtocol:
    """An evaluation as the literature names it. `rule` says what a right answer is, for people."""

    name: str
    rule: str
    parts: tuple[Part, ...]

    @property
    def sequences(self) -> NDArray[np.str_]:
        """(Q,) the sequence of each query; parts have none in common, whatever the names."""
        named = (np.char.add(f"{number}/", part.queries.sequences) for number, part in enumerate(self.parts))
        return np.concatenate(list(named))


def within_metres(
    queries: ImageSet, database: ImageSet, radius_m: float, max_heading_deg: float | None = None
) -> Positives:
    """Database images at most `radius_m` away, and looking at most `max_heading_deg` elsewhere if given.

    Raises ValueError for a position (or a heading, if it matters) that is unknown.
    """
    for images in (queries, database):
        if not np.isfinite(images.positions_m).all():
            raise ValueError(f"{images.name}: some positions are unknown")
        if max_heading_deg is not None and not np.isfinite(images.headings_rad).all():
            raise ValueError(f"{images.name}: some headings are unknown")
    near = cKDTree(database.positions_m).query_ball_point(queries.positions_m, radius_m, return_sorted=True)
    positives = [np.array(found, np.int64) for found in near]
    if max_heading_deg is not None:
        for i, found in enumerate(positives):
            positives[i] = found[within_gate(queries.headings_rad[i], database.headings_rad[found], max_heading_deg)]
    return tuple(positives)


def within_frames(queries: int, database: int, tolerance: int) -> Positives:
    """For two passes along one path, image i where image i was: database images i - tolerance .. i + tolerance."""
    return tuple(np.arange(max(0, i - tolerance), min(database, i + tolerance + 1)) for i in range(queries))


def across_sequences(images: ImageSet, similarity: csr_array) -> Part:
    """The first sequence is the map, the others ask; psi >= 0.5 is right.

    `similarity` (N, N) as in `Source`. Raises ConfigError for a set with one sequence.
    """
    is_map = images.sequences == images.sequences[0]
    if is_map.all():
        raise ConfigError(f"{images.name} has one sequence: no queries are left for it")
    database, queries = np.flatnonzero(is_map), np.flatnonzero(~is_map)
    right = similarity[queries][:, database].tocsr()
    positives = tuple(
        np.sort(right.indices[a:b][right.data[a:b] >= POSITIVE]).astype(np.int64)
        for a, b in itertools.pairwise(right.indptr.tolist())
    )
    return Part(images.take(database), images.take(queries), positives)
