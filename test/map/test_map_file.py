"""Files that are damaged, foreign, newer, in use or read-only: each is named, none is overwritten, and what is whole is found."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from small_maps import assert_same_keyframes, fill, name, some_keyframes, some_map

from vpr_ros.errors import MapError
from vpr_ros.map import schema, store
from vpr_ros.map.map_file import MapLock
from vpr_ros.map.place_map import PlaceMap
from vpr_ros.map.rows import ROWS, TABLE_OF, KeyframeRow
from vpr_ros.types import Verification


def saved(path: Path, count: int = 5) -> Path:
    some_map(count).save(path, "m")
    return path


def is_recording(path: Path) -> PlaceMap:
    return PlaceMap.open(path, "m", 8)


def is_searched(path: Path) -> PlaceMap:
    return PlaceMap.open(path, "m", 8, recording=False)


def is_copied(path: Path) -> PlaceMap:
    return PlaceMap.load(path, "m")


WAYS = [is_recording, is_searched, is_copied]


@pytest.mark.parametrize("way", WAYS)
def test_what_is_recorded_is_there_again(tmp_path: Path, way: Callable[[Path], PlaceMap]) -> None:
    path = tmp_path / "new" / "town.vprmap"
    recorded = fill(is_recording(path))
    recorded.close()
    assert [file.name for file in path.parent.iterdir()] == ["town.vprmap"]
    opened = way(path)
    assert_same_keyframes(opened, some_map())
    assert opened.next_id("robot") == some_map().next_id("robot")
    query = some_keyframes(5)[2].descriptor
    assert opened.search(query, 5) == some_map().search(query, 5)
    opened.close()


def test_only_its_owner_can_read_a_map(tmp_path: Path) -> None:
    """It has pictures of people's homes."""
    is_recording(tmp_path / "maps" / "recorded.vprmap").close()
    saved(tmp_path / "maps" / "saved.vprmap")
    assert {file.stat().st_mode & 0o777 for file in (tmp_path / "maps").iterdir()} == {0o600}
    assert (tmp_path / "maps").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("way", WAYS)
def test_every_truncation_and_every_flipped_byte_is_refused_or_harmless(
    tmp_path: Path, way: Callable[[Path], PlaceMap]
) -> None:
    """No damage may crash with another error, and none may be read as other keyframes."""
    path = saved(tmp_path / "town.vprmap", 30)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for cut in rng.integers(0, len(content), 10):
        path.write_bytes(content[:cut])
        with pytest.raises(MapError):
            list(way(path))
    refused = 0
    for position in rng.integers(0, len(content), 100):
        damaged = bytearray(content)
        damaged[position] ^= 0xFF
        path.write_bytes(bytes(damaged))
        try:
            opened = way(path)
        except MapError:
            refused += 1
            continue
        try:
            assert_same_keyframes(opened, some_map(30))
        except MapError:
            refused += 1
        opened.close()
    assert refused


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty, and no map"),
        (b"not a map", "is corrupt or no map"),
        (b"SQLite format 3\0", "is corrupt or no map"),
        (b"PK\3\4 but no archive", "is corrupt or no map"),
        (os.urandom(5000), "is corrupt or no map"),
    ],
)
def test_what_is_no_map_is_named_and_stays(
    tmp_path: Path, way: Callable[[Path], PlaceMap], content: bytes, said: str
) -> None:
    path = tmp_path / "town.vprmap"
    path.write_bytes(content)
    with pytest.raises(MapError, match=said):
        way(path)
    if not content.startswith(b"PK"):  # which a later version may not read, but a person
        with pytest.raises(MapError, match=said):
            some_map().save(path, "m")
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("way", WAYS)
def test_another_database_is_named_and_stays(tmp_path: Path, way: Callable[[Path], PlaceMap]) -> None:
    path = tmp_path / "rtabmap.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE Node (id INTEGER)")
    database.close()
    content = path.read_bytes()
    for refused in (lambda: way(path), lambda: some_map().save(path, "m")):
        with pytest.raises(MapError, match="is an SQLite database, but no map"):
            refused()
    assert path.read_bytes() == content


@pytest.mark.parametrize("way", WAYS)
def test_a_map_of_a_newer_version_is_named_and_stays(tmp_path: Path, way: Callable[[Path], PlaceMap]) -> None:
    path = saved(tmp_path / "town.vprmap")
    change(path, f"PRAGMA user_version = {schema.VERSION + 1}")
    content = path.read_bytes()
    for refused in (lambda: way(path), lambda: some_map().save(path, "m")):
        with pytest.raises(MapError, match="of a newer vpr_ros"):
            refused()
    assert path.read_bytes() == content


def change(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


def test_an_older_map_is_brought_up_to_date_when_it_is_recorded_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path / "town.vprmap")
    new_index = "CREATE INDEX keyframe_stamp ON keyframe (stamp_ns)"
    monkeypatch.setattr(schema, "VERSION", 2)
    monkeypatch.setattr(schema, "TABLES", (*schema.TABLES, new_index))
    monkeypatch.setattr(schema, "MIGRATIONS", {1: lambda connection: connection.execute(new_index)})
    migrated = is_recording(path)
    assert_same_keyframes(migrated, some_map())
    migrated.close()
    assert_same_keyframes(is_searched(path), some_map())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("CREATE TRIGGER evil AFTER INSERT ON keyframe BEGIN DELETE FROM keyframe; END", "other tables"),
        ("CREATE VIEW evil AS SELECT 1", "other tables"),
        ("DROP TABLE link", "other tables"),
        ("DELETE FROM map WHERE name = 'model_id'", "does not tell its model"),
        ("UPDATE map SET value = 'many' WHERE name = 'dim'", "does not tell its model"),
        ("UPDATE map SET value = '9' WHERE name = 'dim'", "numbers"),
        ("UPDATE session SET name = 'second'", "checksum"),
        ("UPDATE camera SET intrinsics = NULL", "checksum"),
        ("UPDATE descriptor SET vector = zeroblob(32)", "checksum"),
        ("DELETE FROM descriptor WHERE key = 2", "5 keyframes and 4 descriptors"),
        ("DELETE FROM camera WHERE camera = 1", "which it does not have"),
        ("DELETE FROM session", "which it does not have"),
        ("INSERT INTO link VALUES (1, 99, NULL, NULL, 0, 0)", "checksum"),
    ],
)
def test_a_forged_map_is_refused_when_it_is_opened(
    tmp_path: Path, way: Callable[[Path], PlaceMap], statement: str, said: str
) -> None:
    path = saved(tmp_path / "town.vprmap")
    change(path, statement)
    with pytest.raises(MapError, match=said):
        way(path)


def forge(path: Path, table: str, column: str, value: object) -> None:
    """Change a value of the first row, and its checksum with it."""
    connection = sqlite3.connect(path, isolation_level=None)
    key = ROWS[table]._fields[0]
    (number,) = connection.execute(f"SELECT {key} FROM {table} ORDER BY {key} LIMIT 1").fetchone()
    connection.execute(f"UPDATE {table} SET {column} = ? WHERE {key} = ?", (value, number))
    *row, _ = connection.execute(f"SELECT * FROM {table} WHERE {key} = ?", (number,)).fetchone()
    connection.execute(f"UPDATE {table} SET crc = ? WHERE {key} = ?", (schema.checksum(*row), number))
    connection.close()


def test_forged_rows_with_right_checksums_are_refused_too(tmp_path: Path) -> None:
    """Whoever forges a file can compute a CRC."""
    zero, short = b"\0" * 32, np.ones(4, "<f4").tobytes()
    for vector, said in ((zero, "unit length"), (short, "numbers")):
        path = saved(tmp_path / "town.vprmap")
        crc = schema.checksum(1, vector)
        change(path, f"UPDATE descriptor SET vector = x'{vector.hex()}', crc = {crc} WHERE key = 1")
        with pytest.raises(MapError, match=said):
            is_copied(path)
    for table, column, value in (
        ("session", "name", "s" * 2000),
        ("camera", "intrinsics", "{}"),
        ("camera", "intrinsics", "no json"),
        ("keyframe", "stamp_ns", 2**62),
        ("keyframe", "id", -1),
        ("keyframe", "id", 2**63 - 1),  # the next one could not be counted
        ("keyframe", "moment", 2**63 - 1),
    ):
        path = saved(tmp_path / "town.vprmap")
        forge(path, table, column, value)
        with pytest.raises(MapError, match="is corrupt"):
            is_copied(path)
    for table, column, value in (
        ("keyframe", "odom_from_body", b"\0" * 128),
        ("keyframe", "travelled_m", float("inf")),
        ("thumbnail", "scale", 0.0),
    ):
        path = saved(tmp_path / "town.vprmap")
        forge(path, table, column, value)
        with pytest.raises(MapError, match="is corrupt"):
            list(is_copied(path))
    path = saved(tmp_path / "town.vprmap")
    change(path, f"INSERT INTO link VALUES (1, 99, NULL, NULL, 0, {schema.checksum(1, 99, None, None, 0)})")
    with pytest.raises(MapError, match="loop closures with keyframes that it does not have"):
        is_copied(path)


def test_a_map_whose_numbers_are_used_up_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "town.vprmap")
    change(path, f"UPDATE sqlite_sequence SET seq = {2**63 - 1} WHERE name = 'keyframe'")
    with pytest.raises(MapError, match="leaves no numbers"):
        is_copied(path)
    path = saved(tmp_path / "town.vprmap")
    row = (2**63 - 1, "r", "s")
    change(path, f"INSERT INTO session VALUES ({row[0]}, 'r', 's', {schema.checksum(*row)})")
    with pytest.raises(MapError, match="leaves no numbers"):
        is_copied(path)


def test_a_number_that_damage_made_null_is_corruption(tmp_path: Path) -> None:
    """SQLite does not compare the rows of a file with the NOT NULL of its columns."""
    path = saved(tmp_path / "town.vprmap")
    strict, loose = "moment INTEGER NOT NULL", "moment INTEGER"
    rewrite = "UPDATE sqlite_schema SET sql = replace(sql, '{}', '{}') WHERE name = 'keyframe'"
    change(path, "PRAGMA writable_schema = ON", rewrite.format(strict, loose))
    change(path, "UPDATE keyframe SET moment = NULL WHERE key = 2")
    change(path, "PRAGMA writable_schema = ON", rewrite.format(loose, strict))
    with pytest.raises(MapError, match="is corrupt"):
        is_copied(path)


def test_what_was_found_of_a_closure_is_kept(tmp_path: Path) -> None:
    path, turned, covariance = tmp_path / "town.vprmap", np.diag([1.0, -1.0, -1.0, 1.0]), np.diag(np.arange(1.0, 7.0))
    with is_recording(path) as recorded:
        first, second, third = (keyframe.ref for keyframe in some_keyframes(3))
        for keyframe in some_keyframes(3):
            recorded.add(keyframe)
        recorded.link(first, second, Verification(30, 0.5, 0.5, turned, covariance, True))
        recorded.link(first, third, Verification(30, 0.5, 0.5))
    posed, bare = is_copied(path).closures()
    np.testing.assert_array_equal(posed.first_from_second, turned)
    np.testing.assert_array_equal(posed.covariance, covariance)
    assert (posed.first, posed.second, posed.scale_known) == (first, second, True)
    assert (bare.second, bare.first_from_second, bare.covariance, bare.scale_known) == (third, None, None, False)
    forge(path, "link", "covariance", b"short")
    with pytest.raises(MapError, match="is corrupt"):
        list(is_copied(path).closures())


def test_a_changed_keyframe_is_noticed_when_it_is_read(tmp_path: Path) -> None:
    path = saved(tmp_path / "town.vprmap")
    change(path, f"UPDATE {TABLE_OF[KeyframeRow]} SET elapsed_ns = 7 WHERE key = 2")
    opened = is_copied(path)
    assert opened[name(0)].elapsed_ns == 0
    with pytest.raises(MapError, match="checksum differs"):
        opened[name(1)]


def test_one_process_records_and_others_search(tmp_path: Path) -> None:
    path = tmp_path / "town.vprmap"
    recorded = fill(is_recording(path))
    recorded.flush()
    with pytest.raises(MapError, match="is in use by another process"):
        is_recording(path)
    with pytest.raises(MapError, match="is in use by another process"):
        some_map().save(path, "m")
    searched, copied = is_searched(path), is_copied(path)
    assert_same_keyframes(searched, some_map())
    recorded.add(some_keyframes(40)[-1])
    recorded.flush()
    assert (len(searched), len(copied), len(is_copied(path))) == (5, 5, 6)
    searched.close()
    recorded.close()
    is_recording(path).close()


LOCKER = """
import sys
from pathlib import Path
from vpr_ros.map.map_file import MapLock
lock = MapLock(Path(sys.argv[1]))
print("locked", flush=True)
sys.stdin.read()
"""


def test_a_lock_ends_with_its_process_however_that_ends(tmp_path: Path) -> None:
    path = tmp_path / "town.vprmap"
    other = subprocess.Popen(
        [sys.executable, "-c", LOCKER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "locked\n"
    with pytest.raises(MapError, match="in use by another process"):
        MapLock(path)
    other.kill()
    other.communicate()
    with MapLock(path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_map_in_a_folder_that_takes_no_file_is_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may write anywhere, so the refusal is made up: what SQLite and the lock do is open with O_CREAT."""
    path = saved(tmp_path / "town.vprmap")

    def read_only(where: str | Path, flags: int, *_: object, **__: object) -> int:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("vpr_ros.map.map_file.os.open", read_only)
    with pytest.raises(MapError, match=r"cannot write to .*town.vprmap: Read-only file system"):
        is_recording(path)
    assert_same_keyframes(is_searched(path), some_map())


def test_a_link_to_a_map_stays_one(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    link = tmp_path / "town.vprmap"
    link.symlink_to(tmp_path / "disk" / "real.vprmap")
    with pytest.raises(MapError, match="a link to nothing"):
        is_searched(link)
    saved(tmp_path / "disk" / "real.vprmap")
    fill(is_recording(link), 0).close()
    some_map(7).save(link, "m")
    assert link.is_symlink()
    assert len(is_searched(tmp_path / "disk" / "real.vprmap")) == 7


@pytest.mark.parametrize("way", WAYS)
def test_a_pipe_is_no_map(tmp_path: Path, way: Callable[[Path], PlaceMap]) -> None:
    os.mkfifo(tmp_path / "town.vprmap")
    with pytest.raises(MapError, match="is not a regular file"):
        way(tmp_path / "town.vprmap")


def test_a_copy_takes_the_place_of_a_map_that_was_killed(tmp_path: Path) -> None:
    """Its write-ahead log must not be taken for the copy's."""
    path, killed = tmp_path / "town.vprmap", tmp_path / "killed"
    recorded = fill(is_recording(path), 30)
    recorded.flush()
    shutil.copytree(tmp_path, killed)
    recorded.close()
    assert (killed / "town.vprmap-wal").stat().st_size > 0
    (killed / ".town.vprmap.lock").unlink()
    some_map(4).save(killed / "town.vprmap", "m")
    assert_same_keyframes(is_copied(killed / "town.vprmap"), some_map(4))
    assert [file.name for file in killed.iterdir()] == ["town.vprmap"]


def test_a_failed_save_leaves_the_old_map_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "town.vprmap")

    def full_disk(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(store, "write_rows", full_disk)
    with pytest.raises(MapError, match="disk is full"):
        some_map(30).save(path, "m")
    monkeypatch.undo()
    assert len(is_copied(path)) == 5
    assert list(tmp_path.iterdir()) == [path]


def test_a_copy_is_that_of_its_moment(tmp_path: Path) -> None:
    recorded = fill(is_recording(tmp_path / "town.vprmap"))
    assert recorded.save(tmp_path / "copy.vprmap", "m") == 5
    recorded.add(some_keyframes(40)[-1])
    recorded.close()
    assert_same_keyframes(is_copied(tmp_path / "copy.vprmap"), some_map())
    assert len(is_copied(tmp_path / "town.vprmap")) == 6
