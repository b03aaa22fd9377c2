"""Pictures that come after their keyframes, as those of other robots do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_maps import fill, name, some_keyframes, some_map

from vpr_ros.errors import MapError
from vpr_ros.map.place_map import PlaceMap
from vpr_ros.types import Thumbnail

LATE = Thumbnail(b"a jpeg", 0.25)


def without_thumbnails(place_map: PlaceMap, count: int = 4) -> PlaceMap:
    for keyframe in some_keyframes(count):
        place_map.add(replace(keyframe, thumbnail=None))
    return place_map


@pytest.mark.parametrize("is_file", [False, True])
@pytest.mark.parametrize("is_durable", [False, True])
def test_a_keyframe_gets_its_picture_and_all_else_of_it_stays(tmp_path: Path, is_file: bool, is_durable: bool) -> None:
    path = tmp_path / "town.vprmap"
    place_map = without_thumbnails(PlaceMap.open(path, "m", 8) if is_file else PlaceMap(8))
    place_map.link(name(0), name(2))
    if is_durable:
        place_map.flush()
    before = place_map[name(1)]
    place_map.add_thumbnail(name(1), LATE)
    assert place_map[name(1)].thumbnail == LATE
    place_map.flush()
    assert place_map[name(1)].thumbnail == LATE
    assert place_map[name(2)].thumbnail is None
    assert place_map.links == [(name(0), name(2))]
    if is_file:
        place_map.close()
        place_map = PlaceMap.open(path, "m", 8)
    after = place_map[name(1)]
    assert after.thumbnail == LATE
    assert (after.camera, after.travelled_m, after.elapsed_ns) == (before.camera, before.travelled_m, before.elapsed_ns)
    np.testing.assert_array_equal(after.descriptor, before.descriptor)
    np.testing.assert_equal(after.odom_from_body, before.odom_from_body)
    assert len(place_map.faults(is_verified=True)) == 1
    assert "3 of the map's 4 keyframes" in place_map.faults(is_verified=True)[0]


def test_a_picture_is_never_replaced_and_never_without_a_keyframe() -> None:
    place_map = some_map(3)
    had = place_map[name(1)].thumbnail
    with pytest.raises(ValueError, match="has a picture already"):
        place_map.add_thumbnail(name(1), LATE)
    assert place_map[name(1)].thumbnail == had
    with pytest.raises(KeyError):
        place_map.add_thumbnail(name(7), LATE)


def test_names_after_an_id_come_in_the_order_of_their_ids() -> None:
    place_map = some_map(30)
    ids = sorted(ref.id for ref in place_map.names)
    found = place_map.names_after("robot", "first", ids[3], ids[20], 10)
    assert [ref.id for ref in found] == ids[4:14]
    assert [ref.id for ref in place_map.names_after("robot", "first", ids[3], ids[6], 10)] == ids[4:7]
    assert place_map.names_after("robot", "second", -1, 2**62, 10) == []
    for ref in found:
        one, other = place_map[ref], place_map.without_picture(ref)
        assert one.thumbnail is not None
        assert other.thumbnail is None
        assert (one.ref, one.camera, one.travelled_m) == (other.ref, other.camera, other.travelled_m)
        np.testing.assert_array_equal(one.descriptor, other.descriptor)
    assert place_map.durable_ids == {("robot", "first"): ids[-1]}
    assert (place_map.count_of("robot"), place_map.count_of("another")) == (30, 0)


def test_what_another_robot_numbers_is_no_number_of_ours() -> None:
    place_map = some_map(3)
    keyframe = some_keyframes(1)[0]
    place_map.add(replace(keyframe, ref=replace(keyframe.ref, robot="other", id=2**63 - 2)))
    assert place_map.next_id("robot") == 1 + max(ref.id for ref in place_map.names_of("robot", "first"))
    assert place_map.next_id("new") == 4


def test_maps_that_two_robots_exchanged_in_half_precision_are_merged() -> None:
    """Each has its own keyframes as they were made, and with pictures; the other's are rounded, and have none."""
    one, other = some_map(5), PlaceMap(8)
    for keyframe in some_keyframes(5):
        rounded = keyframe.descriptor.astype(np.float16).astype(np.float32)
        other.add(replace(keyframe, descriptor=rounded / np.linalg.norm(rounded), thumbnail=None))
    assert other.add_all(one) == 0
    assert [k.thumbnail for k in other] == [k.thumbnail for k in one]
    assert one.add_all(other) == 0
    foreign = fill(PlaceMap(8), 4)  # other descriptors under the same names
    with pytest.raises(MapError, match="not the same"):
        one.add_all(foreign)
