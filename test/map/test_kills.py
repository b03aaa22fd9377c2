"""A few of the kills of `benchmarks/map_kills.py`."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from map_kills import DIM, keyframe, kill_once

from vpr_ros.map.place_map import PlaceMap


@pytest.mark.parametrize("durability", ["power", "process"])
def test_what_was_acknowledged_survives_a_killed_process(tmp_path: Path, durability: str) -> None:
    path, rng = tmp_path / "town.vprmap", random.Random(0)
    acknowledged = 0
    for drive in range(4):
        known, is_open = kill_once(path, f"drive {drive}", durability, rng)
        assert is_open
        acknowledged += len(known)
        place_map = PlaceMap.open(path, "model", DIM, recording=False)
        assert known <= {ref.id for ref in place_map.names if ref.session == f"drive {drive}"}
        for ref in place_map.names:
            assert place_map[ref].thumbnail == keyframe(ref.session, ref.id).thumbnail
        place_map.close()
    assert acknowledged
