from __future__ import annotations

import json
import os
import tracemalloc
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpr_ros.errors import MapError
from vpr_ros.map import place_map as place_map_module
from vpr_ros.map.place_map import FORMAT, PlaceMap
from vpr_ros.rotations import is_pose
from vpr_ros.types import Camera, Keyframe, KeyframeRef, Thumbnail

CAMERA = Camera(500.0, 505.0, 320.0, 240.0, 640, 480, (0.1, -0.2, 0.0, 0.0), fisheye=True)


def name(i: int) -> KeyframeRef:
    """Ids in no order."""
    stamp_ns = 1_700_000_000_123_456_789 + i
    return KeyframeRef("robot", "first", 17 * i % 101, stamp_ns, ("front", "rear", "")[i % 3], "lens")


def pose_at(x_m: float) -> np.ndarray:
    pose = np.eye(4)
    pose[0, 3] = x_m
    return pose


def some_map(count: int = 5, dim: int = 8) -> PlaceMap:
    rng = np.random.default_rng(count)
    result = PlaceMap(dim)
    for i in range(count):
        descriptor = rng.normal(size=dim).astype(np.float32)
        thumbnail = Thumbnail(rng.bytes(7 * i), 0.5)
        result.add(
            Keyframe(
                name(i),
                descriptor=descriptor / np.linalg.norm(descriptor),
                thumbnail=thumbnail if i else None,
                camera=CAMERA if i % 2 else None,
                odom_from_body=pose_at(i + 1) if i % 2 else None,
                travelled_m=1.5 * i if i % 2 else None,
                body_from_camera=pose_at(i + 2) if i % 2 else None,
            )
        )
    if count > 3:
        result.link(name(0), name(3))
    return result


@pytest.mark.parametrize("count", [1, 5, 30])
def test_a_map_survives_its_file_bit_for_bit(tmp_path: Path, count: int) -> None:
    saved = some_map(count)
    saved.save(tmp_path / "new" / "town.vprmap", "model")
    loaded = PlaceMap.load(tmp_path / "new" / "town.vprmap", "model")
    assert loaded.links == ([(name(0), name(3))] if count > 3 else [])
    assert len(loaded) == count
    assert loaded.next_id == saved.next_id
    for a, b in zip(saved, loaded, strict=True):
        assert asdict(a.ref) == asdict(b.ref)
        assert (a.thumbnail, a.camera, a.travelled_m) == (b.thumbnail, b.camera, b.travelled_m)
        np.testing.assert_equal(a.body_from_camera, b.body_from_camera)
        np.testing.assert_array_equal(a.descriptor, b.descriptor)
        np.testing.assert_equal(a.odom_from_body, b.odom_from_body)
    assert loaded.moments == saved.moments
    query = saved[name(0)].descriptor
    assert saved.search(query, 5) == loaded.search(query, 5)


def test_an_empty_map_survives(tmp_path: Path) -> None:
    PlaceMap(8).save(tmp_path / "empty", "model")
    assert len(PlaceMap.load(tmp_path / "empty", "model")) == 0


def test_a_map_from_before_there_were_rigs_is_of_one_camera(tmp_path: Path) -> None:
    some_map().save(tmp_path / "new", "m")
    with np.load(tmp_path / "new") as file:
        arrays = dict(file)
    header = json.loads(arrays["header"].tobytes())
    for head in header["keyframes"]:
        for key in ("camera_name", "robot", "id", "body_from_camera", "elapsed_ns", "odometry_segment"):
            del head[key]
    del header["next_id"]
    np.savez(tmp_path / "old.npz", **arrays | {"header": np.frombuffer(json.dumps(header).encode(), np.uint8)})
    old = PlaceMap.load(tmp_path / "old.npz", "m")
    assert [asdict(k.ref) for k in old] == [
        asdict(KeyframeRef("", "first", i, name(i).stamp_ns, "", "lens")) for i in range(5)
    ]
    assert list(old.moments.values()) == [0, 1, 2, 3, 4]
    assert old.next_id == 5


def moments_of(cameras: Iterable[tuple[str, str]]) -> list[int]:
    """Of keyframes that are given as (session, camera)."""
    result = PlaceMap(1)
    for i, (session, camera) in enumerate(cameras):
        result.add(Keyframe(KeyframeRef("", session, i, i, camera), np.ones(1, np.float32)))
    return list(result.moments.values())


@pytest.mark.parametrize(
    ("cameras", "moments"),
    [
        ("aaaa", [0, 1, 2, 3]),
        ("abababab", [0, 0, 1, 1, 2, 2, 3, 3]),
        ("abbaab", [0, 0, 1, 1, 2, 2]),
        ("aaabaa", [0, 1, 2, 2, 3, 4]),
        ("abcab", [0, 0, 0, 1, 1]),
    ],
)
def test_a_moment_ends_when_a_camera_repeats(cameras: str, moments: list[int]) -> None:
    assert moments_of(("s", camera) for camera in cameras) == moments


def test_a_moment_ends_with_its_session() -> None:
    assert moments_of([("s", "a"), ("t", "b"), ("t", "a"), ("s", "b")]) == [0, 1, 1, 2]


@given(st.lists(st.tuples(st.sampled_from("st"), st.sampled_from("abc")), max_size=40))
def test_moments_count_at_least_what_each_camera_adds_and_at_most_what_all_add(cameras: list[tuple[str, str]]) -> None:
    moments = moments_of(cameras)
    for start in range(len(cameras)):
        for end in range(start + 1, len(cameras) + 1):
            passed, seen = moments[end - 1] - moments[start] + 1, cameras[start:end]
            assert max(seen.count(camera) for camera in seen) <= passed <= len(seen)


def test_a_name_is_given_once() -> None:
    with pytest.raises(ValueError, match="keyframe 0 of session 'first' is in the map already"):
        some_map().add(some_map(1)[name(0)])


def test_names_are_of_robot_session_and_id_alone() -> None:
    place_map = some_map(1)
    one = place_map[name(0)]
    for other in (replace(one.ref, robot="other"), replace(one.ref, session="second"), replace(one.ref, id=1)):
        assert other not in place_map
        place_map.add(replace(one, ref=other))
    assert len(place_map) == 4
    assert replace(name(0), stamp_ns=1, camera_name="x", frame_id="y") in place_map


def test_an_id_is_never_given_again() -> None:
    place_map = some_map(30)
    assert place_map.next_id > max(k.ref.id for k in place_map)


def test_what_is_left_out_never_fills_the_top_k() -> None:
    place_map = some_map(30)
    everything = place_map.search(place_map[name(4)].descriptor, 30)
    assert everything[0].keyframe == name(4)
    assert len(everything) == 30
    left_out = [c.keyframe for c in everything[:12]]
    assert place_map.search(place_map[name(4)].descriptor, 5, without=left_out) == everything[12:17]
    assert place_map.search(place_map[name(4)].descriptor, 5, without=[c.keyframe for c in everything]) == ()


def test_another_model_is_refused(tmp_path: Path) -> None:
    some_map().save(tmp_path / "town", "a" * 64)
    with pytest.raises(MapError, match="made with another model"):
        PlaceMap.load(tmp_path / "town", "b" * 64)


def test_a_missing_map(tmp_path: Path) -> None:
    with pytest.raises(MapError, match="there is no map"):
        PlaceMap.load(tmp_path / "none", "m")


def test_every_truncation_and_every_flipped_byte_is_refused_or_harmless(tmp_path: Path) -> None:
    """No damage may crash with another error, and none may load as other keyframes."""
    path = tmp_path / "town"
    some_map().save(path, "m")
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


def test_a_pipe_is_no_map(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "map.npz")
    with pytest.raises(MapError, match="is not a regular file"):
        PlaceMap.load(tmp_path / "map.npz", "model")


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    path = tmp_path / "evil.npz"
    np.savez(path, header=np.array([{"format": FORMAT}], dtype=object), allow_pickle=True)
    with pytest.raises(MapError, match="corrupt or no map"):
        PlaceMap.load(path, "m")


def test_another_format_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "old.npz"
    np.savez(path, header=np.frombuffer(json.dumps({"format": "other"}).encode(), np.uint8))
    with pytest.raises(MapError, match="not a map of this version"):
        PlaceMap.load(path, "m")


def test_a_failed_save_leaves_the_old_map_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "town"
    some_map(5).save(path, "m")

    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(place_map_module, "_write_array", full_disk)
    with pytest.raises(MapError, match="No space left on device"):
        some_map(30).save(path, "m")
    monkeypatch.undo()
    assert len(PlaceMap.load(path, "m")) == 5
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("pictures", "is_verified", "said"),
    [
        ("yyy", True, ""),
        ("nnn", False, ""),
        ("nnn", True, "all 3 keyframes of the map have no picture to verify with"),
        ("yny", True, "1 of the map's 3 keyframes have no picture to verify with"),
        ("yey", True, "1 of the map's 3 keyframes have no picture to verify with"),  # of no bytes
        ("", True, ""),
    ],
)
def test_a_map_without_pictures_can_not_match_where_matches_are_verified(
    pictures: str, is_verified: bool, said: str
) -> None:
    place_map = PlaceMap(8)
    picture = {"y": Thumbnail(b"jpeg", 1.0), "n": None, "e": Thumbnail(b"", 1.0)}
    one = some_map(1)[name(0)]
    for i, kind in enumerate(pictures):
        place_map.add(replace(one, ref=name(i), thumbnail=picture[kind]))
    found = place_map.faults(is_verified=is_verified)
    assert len(found) == bool(said)
    assert all(each.startswith(said) and "can never match" in each for each in found)


def test_a_map_without_intrinsics_of_a_camera_that_is_calibrated_now() -> None:
    place_map = PlaceMap(8)
    one = some_map(1)[name(0)]
    for i, (camera_name, camera) in enumerate([("front", CAMERA), ("front", None), ("rear", None), ("front", None)]):
        place_map.add(replace(one, ref=replace(name(i), camera_name=camera_name), camera=camera))
    assert place_map.faults(is_verified=False) == []
    (found,) = place_map.faults(is_verified=False, calibrated=["front"])
    assert found.startswith("2 of the map's 4 keyframes have no intrinsics, though the camera is calibrated now")
    (found,) = place_map.faults(is_verified=False, calibrated=["front"], without=[name(3)])
    assert found.startswith("1 of the map's 4"), "those before this session"
    assert (
        len(place_map.faults(is_verified=False, calibrated=["front", "rear"], without=[name(1), name(2), name(3)])) == 0
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"links": np.array([[0, 5]])}, "does not have"),
        ({"links": np.array([[-1, 0]])}, "does not have"),
        ({"descriptors": np.full((5, 8), np.nan, np.float32)}, "unit length"),
        ({"descriptors": np.ones((5, 8), np.float32)}, "unit length"),
        ({"descriptors": np.eye(5, 8)}, "float64"),
        ({"descriptors": np.eye(5, 9, dtype=np.float32)}, r"\(5, 9\).*8"),
        ({"descriptors": np.eye(4, 8, dtype=np.float32)}, "disagree"),
        ({"descriptors": np.ones(8, np.float32)}, "shape"),
    ],
)
def test_a_forged_map_is_refused_when_it_is_loaded(tmp_path: Path, change: dict[str, np.ndarray], reason: str) -> None:
    """Not when the first frame meets it."""
    some_map().save(tmp_path / "map", "m")
    with np.load(tmp_path / "map") as file:
        arrays = dict(file)
    np.savez(tmp_path / "forged.npz", **arrays | change)
    with pytest.raises(MapError, match=reason):
        PlaceMap.load(tmp_path / "forged.npz", "m", dim=8)


def test_names_that_are_given_twice_are_refused(tmp_path: Path) -> None:
    some_map().save(tmp_path / "map", "m")
    with np.load(tmp_path / "map") as file:
        arrays = dict(file)
    header = json.loads(arrays["header"].tobytes())
    header["keyframes"][1] = header["keyframes"][0]
    np.savez(tmp_path / "forged.npz", **arrays | {"header": np.frombuffer(json.dumps(header).encode(), np.uint8)})
    with pytest.raises(MapError, match="in the map already"):
        PlaceMap.load(tmp_path / "forged.npz", "m")


def test_content_is_that_of_its_moment(tmp_path: Path) -> None:
    grown = some_map()
    content = grown.content()
    grown.add(replace(grown[name(0)], ref=name(40)))
    grown.link(name(0), name(40))
    content.save(tmp_path / "map", "m")
    loaded = PlaceMap.load(tmp_path / "map", "m")
    assert (len(loaded), len(grown)) == (5, 6)
    assert loaded.links == [(name(0), name(3))]


def test_a_map_is_written_piece_by_piece(tmp_path: Path) -> None:
    """By what Python and NumPy allocate meanwhile: nothing of the size of the pictures, the descriptors or the header."""
    place_map = PlaceMap(8)
    one = some_map(1)[name(0)]
    for i in range(2000):
        place_map.add(replace(one, ref=replace(name(0), id=i), thumbnail=Thumbnail(bytes(5000), 1.0)))
    content = place_map.content()
    content.save(tmp_path / "map", "m")  # imports and caches are filled
    tracemalloc.start()
    try:
        content.save(tmp_path / "map", "m")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (tmp_path / "map").stat().st_size > 10_000_000
    assert peak < 1_000_000


def test_too_little_memory_is_no_corrupt_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object, **__: object) -> None:
        raise MemoryError

    some_map().save(tmp_path / "map", "m")
    monkeypatch.setattr(place_map_module, "_keyframes", no_memory)
    with pytest.raises(MapError, match=r"cannot load map .*: there is too little memory"):
        PlaceMap.load(tmp_path / "map", "m")
    monkeypatch.setattr(place_map_module, "_write_array", no_memory)
    with pytest.raises(MapError, match=r"cannot save map .*: there is too little memory"):
        some_map().save(tmp_path / "map", "m")


def test_a_map_is_its_users_alone(tmp_path: Path) -> None:
    path = tmp_path / "maps" / "home.vprmap"
    PlaceMap(4).save(path, "model")
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)


JUNK: list[object] = [
    None,
    True,
    -1,
    2**63,
    2**64,
    1e308,
    float("nan"),
    float("inf"),
    "x",
    "\ud800",
    "s" * 2000,
    [],
    [1],
    {},
    {"a": 1},
]
FIELDS = [
    "robot", "session", "id", "stamp_ns", "camera_name", "frame_id", "travelled_m", "elapsed_ns", "odometry_segment", "scale", "camera",
    "odom_from_body", "body_from_camera",
]  # fmt: skip
IN_CAMERA = ["fx", "fy", "cx", "cy", "width", "height", "distortion", "fisheye"]


def forged(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A map of which the second keyframe is changed."""
    some_map().save(path, "m")
    with np.load(path) as file:
        arrays = dict(file)
    header = json.loads(arrays["header"].tobytes())
    change(header["keyframes"][1])
    forged = path.with_suffix(".npz")
    np.savez(forged, **arrays | {"header": np.frombuffer(json.dumps(header).encode(), np.uint8)})
    return forged


@pytest.mark.parametrize("field", [*FIELDS, *(f"camera.{name}" for name in IN_CAMERA)])
def test_whatever_a_header_holds_is_refused_or_of_its_type(tmp_path: Path, field: str) -> None:
    """What loads can be searched, published and saved: names that are text, times that ROS can hold, numbers that are finite."""
    for junk in JUNK:

        def change(header: dict[str, Any], junk: object = junk) -> None:
            inner = header["camera"] if field.startswith("camera.") else header
            inner[field.rpartition(".")[2]] = junk

        try:
            loaded = PlaceMap.load(forged(tmp_path / "map", change), "m")
        except MapError:
            continue
        keyframe = list(loaded)[1]
        ref = keyframe.ref
        for text in (ref.robot, ref.session, ref.camera_name, ref.frame_id):
            assert isinstance(text, str)
            assert len(text.encode()) < 4000
        assert 0 <= ref.id < 2**64 - 1
        assert -(2**31) <= ref.stamp_ns // 10**9 < 2**31
        assert all(abs(number) < 2**63 for number in (keyframe.elapsed_ns, keyframe.odometry_segment))
        assert keyframe.travelled_m is None or np.isfinite(keyframe.travelled_m)
        assert keyframe.thumbnail is None or 0 < keyframe.thumbnail.scale < np.inf
        for pose in (keyframe.odom_from_body, keyframe.body_from_camera):
            assert pose is None or is_pose(pose)
        if keyframe.camera is not None:
            assert np.isfinite(keyframe.camera.matrix).all()
            assert np.isfinite(keyframe.camera.distortion).all()
        loaded.save(tmp_path / "again", "m")
        assert len(PlaceMap.load(tmp_path / "again", "m")) == len(loaded)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"session": 7}, "keyframe 1 has no session that can be: '7'"),
        ({"frame_id": None}, "no frame_id"),
        ({"stamp_ns": 10**19}, "no stamp_ns"),
        ({"scale": 0}, "no scale"),
        ({"travelled_m": "far"}, "no travelled_m"),
        ({"camera": {"fx": "a"}}, "distortion"),
        ({"odom_from_body": [["a"] * 4] * 4}, "could not convert"),
    ],
)
def test_the_reason_is_named(tmp_path: Path, change: dict[str, object], reason: str) -> None:
    with pytest.raises(MapError, match=reason):
        PlaceMap.load(forged(tmp_path / "map", lambda header: header.update(change)), "m")


def test_a_pose_that_is_none_is_left_out(tmp_path: Path) -> None:
    """Maps from before odometry was checked may have them."""
    path = forged(tmp_path / "map", lambda header: header.update(odom_from_body=[[float("nan")] * 4] * 4))
    assert list(PlaceMap.load(path, "m"))[1].odom_from_body is None


@pytest.mark.parametrize("sizes", [[-1, 1, 0, 0, 0], [0, 0, 0, 0, 1], [0.5, 0, 0, 0, 0]])
def test_pictures_of_another_length_are_refused(tmp_path: Path, sizes: list[float]) -> None:
    some_map().save(tmp_path / "map", "m")
    with np.load(tmp_path / "map") as file:
        arrays = dict(file)
    bad = np.array(sizes) + arrays["thumbnail_sizes"]
    np.savez(tmp_path / "forged.npz", **arrays | {"thumbnail_sizes": bad})
    with pytest.raises(MapError):
        PlaceMap.load(tmp_path / "forged.npz", "m")
