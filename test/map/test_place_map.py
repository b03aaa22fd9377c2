from __future__ import annotations

import shutil
import threading
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_maps import CAMERA, assert_same_keyframes, name, some_map

from vpr_ros.errors import MapError
from vpr_ros.map.index.open import open_index
from vpr_ros.map.place_map import PlaceMap
from vpr_ros.map.pruning import Plan
from vpr_ros.map.rows import DRIVE_MOMENTS
from vpr_ros.map.store import Store
from vpr_ros.types import Keyframe, KeyframeRef, Thumbnail


@pytest.mark.parametrize("count", [1, 5, 30])
def test_a_map_survives_its_file_bit_for_bit(tmp_path: Path, count: int) -> None:
    saved = some_map(count)
    assert saved.save(tmp_path / "new" / "town.vprmap", "model") == count
    loaded = PlaceMap.load(tmp_path / "new" / "town.vprmap", "model")
    assert_same_keyframes(loaded, saved)
    assert loaded.next_id("robot") == saved.next_id("robot")
    assert moments(loaded) == moments(saved)
    query = saved[name(0)].descriptor
    assert saved.search(query, 5) == loaded.search(query, 5)
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["town.vprmap"]


def test_an_empty_map_survives(tmp_path: Path) -> None:
    PlaceMap(8).save(tmp_path / "empty", "model")
    assert len(PlaceMap.load(tmp_path / "empty", "model")) == 0


def moments(place_map: PlaceMap) -> list[int]:
    """In the order in which keyframes were added."""
    return [place_map.moment(ref) for ref in place_map.names]


def moments_of(cameras: Iterable[tuple[str, str]]) -> list[int]:
    """Of keyframes that are given as (session, camera), counted from the first one of the first drive."""
    result = PlaceMap(1)
    for i, (session, camera) in enumerate(cameras):
        result.add(Keyframe(KeyframeRef("", session, i, i, camera), np.ones(1, np.float32)))
    return [moment - (DRIVE_MOMENTS) for moment in moments(result)]


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


def test_moments_of_two_drives_are_never_near() -> None:
    found = moments_of([("s", "a"), ("t", "b"), ("t", "a"), ("s", "b"), ("s", "a")])
    assert found == [0, DRIVE_MOMENTS, DRIVE_MOMENTS, 0, 1]


def test_a_jump_of_the_clock_ends_a_moment_but_not_the_drive() -> None:
    assert moments_of([("s", "a"), ("s+", "b"), ("s++", "a"), ("s++", "b")]) == [0, 1, 2, 2]


@given(st.lists(st.tuples(st.sampled_from("st"), st.sampled_from("abc")), max_size=40))
def test_moments_count_at_least_what_each_camera_adds_and_at_most_what_all_add(cameras: list[tuple[str, str]]) -> None:
    found = moments_of(cameras)
    for session in "st":
        of_session = [
            (camera, moment) for (name, camera), moment in zip(cameras, found, strict=True) if name == session
        ]
        for start in range(len(of_session)):
            for end in range(start + 1, len(of_session) + 1):
                passed = of_session[end - 1][1] - of_session[start][1] + 1
                seen = [camera for camera, _ in of_session[start:end]]
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
    assert place_map.next_id("robot") > max(k.ref.id for k in place_map)


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


def test_what_another_robot_sent_is_not_judged_by_our_cameras() -> None:
    """It has no picture until one is wanted, and its front camera is not ours."""
    place_map = PlaceMap(8)
    one = some_map(1)[name(0)]
    for robot, i in (("r1", 0), ("r2", 1), ("r2", 2)):
        place_map.add(replace(one, ref=replace(name(i), robot=robot, camera_name="front"), thumbnail=None, camera=None))
    judged = {"is_verified": True, "calibrated": ["front"]}
    assert [fault[0] for fault in place_map.faults(**judged)] == ["a", "a"]  # all 3 keyframes
    assert [fault[:5] for fault in place_map.faults(**judged, of_robot="r1")] == ["1 of ", "1 of "]
    assert [fault[:5] for fault in place_map.faults(**judged, of_robot="r2")] == ["2 of ", "2 of "]
    assert place_map.faults(**judged, of_robot="r3") == []


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


def of_sessions(*sessions: str, robot: str = "robot", seed: int = 0) -> PlaceMap:
    """A keyframe of each of these sessions in turn, linked to the one before."""
    rng = np.random.default_rng(seed)
    result = PlaceMap(4)
    for i, session in enumerate(sessions):
        descriptor = rng.normal(size=4).astype(np.float32)
        result.add(Keyframe(KeyframeRef(robot, session, i), descriptor / np.linalg.norm(descriptor)))
        if i:
            result.link(result.names[i - 1], result.names[i])
    return result


def test_a_session_is_removed_with_its_links_and_its_names_are_not_given_again() -> None:
    place_map = of_sessions(*"aabba")
    kept = [place_map[ref] for ref in place_map.names if ref.session == "a"]
    assert place_map.remove_session("robot", "b") == 2
    assert [k.ref for k in place_map] == [k.ref for k in kept]
    assert place_map.links == [(kept[0].ref, kept[1].ref)]
    assert place_map.sessions == [("robot", "a")]
    assert place_map.next_id("robot") == 5
    for keyframe in kept:
        assert place_map.search(keyframe.descriptor, 1)[0].keyframe == keyframe.ref
    with pytest.raises(MapError, match="there is no session 'b' of robot 'robot'; sessions: 'a'"):
        place_map.remove_session("robot", "b")


def test_what_was_removed_meanwhile_may_be_left_out_of_a_search() -> None:
    place_map = of_sessions(*"aaa")
    names = place_map.names
    place_map.remove(names[:1])
    assert [c.keyframe for c in place_map.search(np.ones(4, np.float32) / 2, 3, without=names[:2])] == names[2:]


def test_a_session_is_renamed(tmp_path: Path) -> None:
    place_map = of_sessions(*"ab")
    place_map.rename_session("robot", "a", "anna", "monday")
    assert place_map.sessions == [("anna", "monday"), ("robot", "b")]
    assert place_map.names[0] == KeyframeRef("anna", "monday", 0)
    with pytest.raises(MapError, match="already"):
        place_map.rename_session("robot", "b", "anna", "monday")
    place_map.save(tmp_path / "map", "m")
    assert PlaceMap.load(tmp_path / "map", "m").names == place_map.names


def test_maps_are_merged_once() -> None:
    """However often; sessions keep their moments, and links come along."""
    into, other = of_sessions(*"aab"), of_sessions(*"ccd", robot="other", seed=1)
    assert into.add_all(other) == 3
    assert into.add_all(other) == 0
    assert len(into) == 6
    assert len(into.links) == 4
    assert [into.moment(ref) % DRIVE_MOMENTS for ref in into.names] == [0, 1, 0, 0, 1, 0]
    with pytest.raises(MapError, match="is in both maps, but not the same: rename it"):
        into.add_all(of_sessions("a", seed=2))


def test_what_stands_for_a_keyframe_has_its_links() -> None:
    place_map = of_sessions(*"aaa")
    first, second, third = (place_map._key(ref) for ref in place_map.names)
    place_map.merge(Plan({second: first}))
    assert len(place_map) == 2
    assert place_map.links == [(place_map._ref(first), place_map._ref(third))]


def test_a_map_is_pruned_to_what_it_may_keep(tmp_path: Path) -> None:
    """And is the same again from its file."""
    path = tmp_path / "town.vprmap"
    place_map = PlaceMap.open(path, "m", 2)
    for i in range(60):  # a circle, in steps of 6 degrees
        angle = np.radians(6.0 * i)
        place_map.add(Keyframe(KeyframeRef("", "s", i), np.array([np.cos(angle), np.sin(angle)], np.float32)))
    spared = place_map.names[10:14]
    place_map.merge(place_map.redundant(keep=30, gap=5, spared=spared))
    assert len(place_map) == 30
    assert set(spared) <= set(place_map.names)
    kept = [ref.id for ref in place_map.names]
    assert max(np.diff([*kept, kept[0] + 60])) <= 11
    place_map.shrink()
    place_map.close()
    assert PlaceMap.load(path, "m").names == place_map.names


def many(place_map: PlaceMap, first: int, count: int) -> None:
    """Keyframes with ids from `first` on; each id always has the same descriptor."""
    for i in range(first, first + count):
        descriptor = np.random.default_rng(i).normal(size=place_map.dim).astype(np.float32)
        place_map.add(Keyframe(KeyframeRef("", "s", i), descriptor / np.linalg.norm(descriptor)))


def assert_finds_all(place_map: PlaceMap) -> None:
    for ref in place_map.names[::50]:
        assert place_map.search(place_map[ref].descriptor, 1)[0].keyframe == ref


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    """A map whose index has a snapshot."""
    path = tmp_path / "town.vprmap"
    with PlaceMap.open(path, "m", 16, index="ivfpq") as place_map:
        many(place_map, 0, 4500)
        place_map._index.wait()
    assert (tmp_path / "town.index" / "sealed.vpri").is_file()
    return path


def test_a_large_map_opens_with_what_its_index_has_kept(sealed: Path) -> None:
    store = Store(sealed, writable=False)
    assert len(open_index(16, "ivfpq", sealed.with_suffix(".index"), store.facts()["map_id"]).keys()) >= 4000
    store.close()
    for recording in (False, True):
        with PlaceMap.open(sealed, "m", 16, index="ivfpq", recording=recording) as place_map:
            assert len(place_map) == 4500
            assert_finds_all(place_map)
            if recording:
                many(place_map, 4500, 100)
                place_map.remove(place_map.names[1000:1200])
                assert_finds_all(place_map)
    with PlaceMap.open(sealed, "m", 16, index="ivfpq") as place_map:
        assert len(place_map) == 4400
        assert_finds_all(place_map)


@pytest.mark.parametrize("grown", [0, 3000])
def test_an_index_of_another_past_of_the_map_is_made_anew(sealed: Path, tmp_path: Path, grown: int) -> None:
    """Somebody puts a copy of the file back in its place: keys that were given since are given again."""
    copy = tmp_path / "kept"
    shutil.copy(sealed, copy)
    with PlaceMap.open(sealed, "m", 16, index="ivfpq") as place_map:
        many(place_map, 10_000, 3000)
        place_map._index.wait()
    shutil.copy(copy, sealed)
    if grown:  # without the index beside it, as on another machine
        shutil.move(tmp_path / "town.index", tmp_path / "away")
        with PlaceMap.open(sealed, "m", 16, index="exact") as place_map:
            many(place_map, 20_000, grown)
        shutil.move(tmp_path / "away", tmp_path / "town.index")
    with PlaceMap.open(sealed, "m", 16, index="ivfpq") as place_map:
        assert len(place_map) == 4500 + grown
        assert_finds_all(place_map)


def test_a_small_map_has_no_folder_beside_it(tmp_path: Path) -> None:
    with PlaceMap.open(tmp_path / "town.vprmap", "m", 16) as place_map:
        many(place_map, 0, 100)
    assert [path.name for path in tmp_path.iterdir()] == ["town.vprmap"]


def test_a_map_in_memory_is_saved_while_it_grows(tmp_path: Path) -> None:
    """A copy has what the map had at some moment, all of it."""
    place_map = PlaceMap(16)
    many(place_map, 0, 2000)
    counts: list[int] = []

    def save() -> None:
        counts.extend(place_map.save(tmp_path / f"{i}.vprmap", "m") for i in range(3))

    thread = threading.Thread(target=save)
    thread.start()
    while thread.is_alive():
        many(place_map, len(place_map), 1)
        assert place_map[place_map.names[-1]].ref.id == len(place_map) - 1
    thread.join()
    assert len(counts) == 3
    for i, count in enumerate(counts):
        copy = PlaceMap.load(tmp_path / f"{i}.vprmap", "m")
        assert [keyframe.ref.id for keyframe in copy] == list(range(count))
