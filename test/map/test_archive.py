"""Maps of before there were databases."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_maps import (
    archive_arrays,
    as_header,
    assert_same_keyframes,
    name,
    some_archive,
    some_keyframes,
    some_map,
)

from vpr_ros.errors import MapError
from vpr_ros.map.archive import FORMAT
from vpr_ros.map.place_map import PlaceMap
from vpr_ros.types import KeyframeRef


def header_of(arrays: dict[str, Any]) -> dict[str, Any]:
    header: dict[str, Any] = json.loads(arrays["header"].tobytes())
    return header


def test_an_archive_is_read(tmp_path: Path) -> None:
    assert_same_keyframes(PlaceMap.load(some_archive(tmp_path / "town.vprmap"), "m"), some_map())


def test_an_archive_that_is_recorded_in_becomes_a_database_once_and_is_kept(tmp_path: Path) -> None:
    path = some_archive(tmp_path / "town.vprmap")
    content = path.read_bytes()
    place_map = PlaceMap.open(path, "m", 8)
    assert_same_keyframes(place_map, some_map())
    place_map.close()
    assert path.read_bytes().startswith(b"SQLite format 3")
    assert (tmp_path / "town.vprmap.npz").read_bytes() == content
    again = PlaceMap.open(path, "m", 8)
    assert_same_keyframes(again, some_map())
    again.close()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["town.vprmap", "town.vprmap.npz"]


def test_an_archive_that_is_only_searched_stays_one(tmp_path: Path) -> None:
    path = some_archive(tmp_path / "town.vprmap")
    content = path.read_bytes()
    place_map = PlaceMap.open(path, "m", 8, recording=False)
    assert_same_keyframes(place_map, some_map())
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_a_map_from_before_there_were_rigs_is_of_one_camera(tmp_path: Path) -> None:
    header = header_of(archive_arrays(some_keyframes(5), [], "m"))
    for head in header["keyframes"]:
        for key in ("camera_name", "robot", "id", "body_from_camera", "elapsed_ns", "odometry_segment"):
            del head[key]
    del header["next_id"]
    old = PlaceMap.load(some_archive(tmp_path / "old.npz", header=as_header(header)), "m")
    assert [asdict(k.ref) for k in old] == [
        asdict(KeyframeRef("", "first", i, name(i).stamp_ns, "", "lens")) for i in range(5)
    ]
    first = old.moment(old.names[0])
    assert [old.moment(ref) - first for ref in old.names] == [0, 1, 2, 3, 4]
    assert old.next_id("") == 5


def test_every_truncation_and_every_flipped_byte_is_refused_or_harmless(tmp_path: Path) -> None:
    """No damage may crash with another error, and none may load as other keyframes."""
    path = some_archive(tmp_path / "town")
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for cut in rng.integers(0, len(content), 40):
        path.write_bytes(content[:cut])
        with pytest.raises(MapError):
            PlaceMap.load(path, "m")
    for position in rng.integers(0, len(content), 400):
        damaged = bytearray(content)
        damaged[position] ^= 0xFF
        path.write_bytes(bytes(damaged))
        try:
            loaded = PlaceMap.load(path, "m")
        except MapError:
            continue
        np.testing.assert_array_equal([k.descriptor for k in loaded], [k.descriptor for k in some_map()])


def test_a_small_file_that_unpacks_to_a_large_one_is_no_map(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "map.npz", thumbnails=np.zeros(1 << 27, np.uint8))
    assert (tmp_path / "map.npz").stat().st_size < 1 << 20
    with pytest.raises(MapError, match=r"is no map: .* would become"):
        PlaceMap.load(tmp_path / "map.npz", "model")


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    path = tmp_path / "evil.npz"
    np.savez(path, header=np.array([{"format": FORMAT}], dtype=object), allow_pickle=True)
    with pytest.raises(MapError, match="corrupt or no map"):
        PlaceMap.load(path, "m")


def test_another_format_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MapError, match="not a map of this version"):
        PlaceMap.load(some_archive(tmp_path / "old.npz", header=as_header({"format": "other"})), "m")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"links": np.array([[0, 5]])}, "does not have"),
        ({"links": np.array([[-1, 0]])}, "does not have"),
        ({"descriptors": np.full((5, 8), np.nan, np.float32)}, "unit length"),
        ({"descriptors": np.ones((5, 8), np.float32)}, "unit length"),
        ({"descriptors": np.eye(5, 8)}, "float64"),
        ({"descriptors": np.eye(5, 9, dtype=np.float32)}, "9 numbers, the model's 8"),
        ({"descriptors": np.eye(4, 8, dtype=np.float32)}, "disagree"),
        ({"descriptors": np.ones(8, np.float32)}, "shape"),
    ],
)
def test_a_forged_archive_is_refused_when_it_is_loaded(
    tmp_path: Path, change: dict[str, np.ndarray], reason: str
) -> None:
    """Not when the first frame meets it."""
    with pytest.raises(MapError, match=reason):
        PlaceMap.load(some_archive(tmp_path / "forged.npz", **change), "m", dim=8)


def test_names_that_are_given_twice_are_refused(tmp_path: Path) -> None:
    header = header_of(archive_arrays(some_keyframes(5), [], "m"))
    header["keyframes"][1] = header["keyframes"][0]
    with pytest.raises(MapError, match="in the map already"):
        PlaceMap.load(some_archive(tmp_path / "forged.npz", header=as_header(header)), "m")
