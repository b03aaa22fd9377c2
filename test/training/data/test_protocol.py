"""Right answers against slow counts, and what cannot be asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from small_batches import random_psi

from training.data.image_set import ImageSet
from training.data.protocol import Part, RetrievalProtocol, across_sequences, within_frames, within_metres
from vpr_ros.errors import ConfigError

# whole metres and degrees: distances and angles at the limit are exact
poses = st.lists(st.tuples(st.integers(-6, 6), st.integers(-6, 6), st.integers(-360, 360)), min_size=1, max_size=15)


def images(poses: list[tuple[int, int, int]], name: str = "town") -> ImageSet:
    x, y, degrees = np.transpose(poses)
    files = [Path(f"{i}.png") for i in range(len(poses))]
    return ImageSet.of(name, files, positions_m=np.stack([x, y], axis=1), headings_rad=np.radians(degrees))


@given(poses, poses, st.sampled_from([0, 1, 5, 6.5]), st.sampled_from([None, 0, 45, 90, 180]))
@settings(max_examples=50, deadline=None)
def test_near_images_against_a_slow_count(queries: Any, database: Any, radius: float, gate: int | None) -> None:
    expected = []
    for x, y, heading in queries:
        right = []
        for j, (other_x, other_y, other_heading) in enumerate(database):
            near = (x - other_x) ** 2 + (y - other_y) ** 2 <= radius**2
            turn = min((heading - other_heading) % 360, (other_heading - heading) % 360)
            if near and (gate is None or turn <= gate):
                right.append(j)
        expected.append(right)
    found = within_metres(images(queries), images(database), radius, gate)
    assert [right.tolist() for right in found] == expected
    assert all(right.dtype == np.int64 for right in found)


def test_unknown_poses_cannot_be_judged() -> None:
    whole = images([(0, 0, 0), (1, 0, 90)])
    nowhere = ImageSet.of("nowhere", whole.paths, headings_rad=whole.headings_rad)
    undirected = ImageSet.of("undirected", whole.paths, positions_m=whole.positions_m)
    for queries, database in ((whole, nowhere), (nowhere, whole)):
        with pytest.raises(ValueError, match=r"^nowhere: some positions are unknown$"):
            within_metres(queries, database, 5)
    for queries, database in ((whole, undirected), (undirected, whole)):
        with pytest.raises(ValueError, match=r"^undirected: some headings are unknown$"):
            within_metres(queries, database, 5, 180)
    assert [right.tolist() for right in within_metres(undirected, whole, 5)] == [[0, 1], [0, 1]]


@given(st.integers(0, 12), st.integers(0, 12), st.integers(0, 4))
@settings(max_examples=50, deadline=None)
def test_frames_against_a_slow_count(queries: int, database: int, tolerance: int) -> None:
    expected = [[j for j in range(database) if abs(i - j) <= tolerance] for i in range(queries)]
    assert [right.tolist() for right in within_frames(queries, database, tolerance)] == expected


@given(st.integers(0, 2**32 - 1), st.lists(st.sampled_from("abc"), min_size=2, max_size=10))
@settings(max_examples=50, deadline=None)
def test_other_sequences_ask_the_first(seed: int, sequences: list[str]) -> None:
    sequences = [*sequences, "last"]
    psi = random_psi(np.random.default_rng(seed), len(sequences))
    np.fill_diagonal(psi, 0)
    drives = ImageSet.of("drives", [Path(f"{i}.png") for i in range(len(psi))], sequences=sequences)
    part = across_sequences(drives, csr_array(psi))
    database = [i for i, sequence in enumerate(sequences) if sequence == sequences[0]]
    queries = [i for i in range(len(psi)) if i not in database]
    assert [int(path.stem) for path in part.database.paths] == database
    assert [int(path.stem) for path in part.queries.paths] == queries
    expected = [[j for j, image in enumerate(database) if psi[query, image] >= 0.5] for query in queries]
    assert [right.tolist() for right in part.positives] == expected
    assert part.stop is part.borderline is None


def test_one_sequence_cannot_be_asked() -> None:
    with pytest.raises(ConfigError, match=r"^town has one sequence: no queries are left for it$"):
        across_sequences(images([(0, 0, 0), (1, 1, 1)]), csr_array(np.zeros((2, 2), np.float32)))


def test_drives_of_two_cities_are_not_one() -> None:
    city = ImageSet.of("city", [Path("a"), Path("b")], sequences=["drive 1", "drive 2"])
    part = Part(city, city, within_frames(2, 2, 0))
    assert RetrievalProtocol("two", "rule", (part, part)).sequences.tolist() == [
        "0/drive 1",
        "0/drive 2",
        "1/drive 1",
        "1/drive 2",
    ]
