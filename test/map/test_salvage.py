"""What of a damaged map is whole is found and saved, and nothing else is."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest
from small_maps import assert_same_keyframes, some_archive, some_keyframes, some_map

from vpr_ros.errors import MapError
from vpr_ros.map import salvage, schema
from vpr_ros.map.place_map import PlaceMap
from vpr_ros.map.salvage import examine, repair


def saved(path: Path, count: int = 30) -> Path:
    some_map(count).save(path, "m")
    return path


def change(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(statement)
    connection.close()


def test_a_whole_map_is_whole_and_its_repair_the_same(tmp_path: Path) -> None:
    path = saved(tmp_path / "town.vprmap")
    found = examine(path)
    assert not found.faults
    assert (found.whole["keyframe"], found.whole["thumbnail"], found.whole["link"]) == (30, 29, 1)
    assert repair(path, tmp_path / "new.vprmap") == found
    assert_same_keyframes(PlaceMap.load(tmp_path / "new.vprmap", "m"), some_map(30))


@pytest.mark.parametrize(
    ("statement", "fault", "keyframes", "links"),
    [
        ("UPDATE keyframe SET stamp_ns = 0 WHERE key = 2", "a row of table keyframe was changed", 29, 1),
        ("DELETE FROM descriptor WHERE key = 3", "descriptor is", 29, 1),
        ("DELETE FROM descriptor WHERE key = 1", "descriptor is", 29, 0),
        ("UPDATE descriptor SET vector = zeroblob(32) WHERE key = 5", "a row of table descriptor was changed", 29, 1),
        ("DELETE FROM thumbnail WHERE key = 7", "a keyframe has lost its picture", 30, 1),
        ("UPDATE link SET crc = 0", "a row of table link was changed", 30, 0),
        ("UPDATE session SET name = 'x'", "a row of table session was changed", 0, 0),
    ],
)
def test_what_is_lost_is_counted_and_the_rest_saved(
    tmp_path: Path, statement: str, fault: str, keyframes: int, links: int
) -> None:
    path = saved(tmp_path / "town.vprmap")
    change(path, statement)
    content = path.read_bytes()
    found = repair(path, tmp_path / "new.vprmap")
    assert any(fault in sentence for sentence in found.faults)
    assert path.read_bytes() == content
    mended = PlaceMap.load(tmp_path / "new.vprmap", "m")
    assert (len(mended), len(mended.links)) == (keyframes, links)
    assert not examine(tmp_path / "new.vprmap").faults


@pytest.mark.parametrize(
    "statement",
    [
        f"UPDATE sqlite_sequence SET seq = {2**62} WHERE name = 'keyframe'",
        f"UPDATE sqlite_sequence SET seq = {2**62} WHERE name = 'session'",
        f"INSERT INTO released VALUES ({10**12}, {schema.checksum(10**12)})",  # of a second drive
    ],
)
def test_numbers_that_no_row_has_take_no_time(tmp_path: Path, statement: str) -> None:
    path = saved(tmp_path / "town.vprmap")
    change(path, statement)
    found = repair(path, tmp_path / "new.vprmap")
    assert not found.faults
    assert found.whole["keyframe"] == 30
    assert found.whole["released"] == statement.startswith("INSERT")


def test_what_damage_hides_is_not_sought_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(salvage, "MOST_BLIND", 5000)
    path = saved(tmp_path / "town.vprmap")
    change(path, f"UPDATE sqlite_sequence SET seq = {2**62} WHERE name = 'keyframe'")
    connection = sqlite3.connect(path)
    (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'keyframe'").fetchone()
    connection.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * schema.PAGE_BYTES)
        file.write(b"\xff" * 100)
    found = examine(path)
    assert found.whole["keyframe"] == 0
    assert any("not read to its end" in sentence for sentence in found.faults)


def test_truncations_and_flipped_bytes_lose_some_rows_and_change_none(tmp_path: Path) -> None:
    path, new = saved(tmp_path / "town.vprmap", 60), tmp_path / "new.vprmap"
    content = path.read_bytes()
    original = {keyframe.ref: keyframe for keyframe in some_keyframes(60)}
    rng = np.random.default_rng(1)
    damages = [content[:cut] for cut in rng.integers(9000, len(content), 10)]
    for position in rng.integers(0, len(content), 60):
        damaged = bytearray(content)
        damaged[position] ^= 0xFF
        damages.append(bytes(damaged))
    saved_keyframes = 0
    for damage in damages:
        path.write_bytes(damage)
        new.unlink(missing_ok=True)
        try:
            repair(path, new)
        except MapError:
            continue
        mended = PlaceMap.load(new, "m")
        saved_keyframes += len(mended)
        for keyframe in mended:
            was = original[keyframe.ref]
            np.testing.assert_array_equal(keyframe.descriptor, was.descriptor)
            assert keyframe.thumbnail in (was.thumbnail, None)
            assert keyframe.travelled_m == was.travelled_m
        assert set(mended.links) <= set(some_map(60).links)
    assert saved_keyframes > 30 * len(damages)


def test_what_cannot_be_a_map_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.vprmap").write_text("no map")
    for path in (tmp_path / "text.vprmap", tmp_path / "none.vprmap", some_archive(tmp_path / "old.vprmap")):
        with pytest.raises(MapError):
            examine(path)
    path = saved(tmp_path / "town.vprmap")
    with pytest.raises(MapError, match="exists"):
        repair(path, path)
