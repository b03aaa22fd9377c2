"""What is known of images stays with them, and the fingerprint changes exactly when that does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from training.data.image_set import ImageSet, Surfaces, heading_from_compass
from vpr_ros.errors import SourceError
from vpr_ros.types import Camera

CAMERA = Camera(500.0, 500.0, 320.0, 240.0, 640, 480)


def paths(count: int) -> list[Path]:
    return [Path(f"drive/{i}.png") for i in range(count)]


def surfaces(count: int, units_per_m: float = 1000.0) -> Surfaces:
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, 0, 3] = range(count)
    return Surfaces(poses, tuple(Path(f"depth/{i}.png") for i in range(count)), units_per_m, CAMERA)


def town() -> ImageSet:
    """Three images of which everything is known."""
    return ImageSet.of(
        "town",
        paths(3),
        positions_m=[[0, 1], [2, 3], [4, 5]],
        headings_rad=[0.0, 1.0, 2.0],
        places=[7, 7, 8],
        sequences=["a", "a", "b"],
        conditions=["day", "night", ""],
        surfaces=surfaces(3),
    )


def test_what_is_not_given_is_unknown() -> None:
    images = ImageSet.of("town", paths(2))
    assert len(images) == 2
    assert images.paths == tuple(paths(2))
    assert_array_equal(images.positions_m, np.full((2, 2), np.nan))
    assert_array_equal(images.headings_rad, [np.nan, np.nan])
    assert images.places.tolist() == [-1, -1]
    assert images.sequences.tolist() == ["town", "town"]
    assert images.conditions.tolist() == ["", ""]
    assert images.surfaces is None


def test_a_set_has_images() -> None:
    with pytest.raises(SourceError, match=r"^town: no images$"):
        ImageSet.of("town", [])


@pytest.mark.parametrize(
    "known",
    [
        {"positions_m": [[0, 0]]},
        {"positions_m": [[0, 0, 0], [0, 0, 0]]},
        {"headings_rad": [0, 0, 0]},
        {"places": [[0, 0]]},
        {"sequences": ["a"]},
        {"conditions": []},
    ],
)
def test_arrays_are_aligned_with_the_images(known: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^town: arrays do not match its 2 images$"):
        ImageSet.of("town", paths(2), **known)


@pytest.mark.parametrize("chosen", [[2, 0], np.array([True, False, True])])
def test_images_take_along_what_is_known(chosen: Any) -> None:
    taken, order = town().take(chosen, "part"), np.arange(3)[chosen]
    assert taken.name == "part"
    assert [path.stem for path in taken.paths] == [str(i) for i in order]
    assert_array_equal(taken.positions_m[:, 0], 2 * order)
    assert_array_equal(taken.headings_rad, order)
    assert taken.places.tolist() == [[7, 7, 8][i] for i in order]
    assert taken.sequences.tolist() == ["aab"[i] for i in order]
    assert taken.conditions.tolist() == [["day", "night", ""][i] for i in order]
    assert taken.surfaces is not None
    assert_array_equal(taken.surfaces.world_from_camera[:, 0, 3], order)
    assert [path.stem for path in taken.surfaces.depth_paths] == [str(i) for i in order]
    assert (taken.surfaces.units_per_m, taken.surfaces.camera) == (1000.0, CAMERA)


def test_no_image_cannot_be_taken() -> None:
    assert town().take([1]).name == "town"
    with pytest.raises(SourceError, match=r"^town: no images$"):
        town().take(np.zeros(3, bool))


WORDS = st.sampled_from(["", "a", "b"])
NUMBERS = st.sampled_from([-1.0, 0.0, 0.5, np.nan])


@st.composite
def known(draw: st.DrawFn) -> dict[str, Any]:
    """All that a set of 1 to 3 images is made of, from so few values that two are often equal."""
    count = draw(st.integers(1, 3))

    def each(values: st.SearchStrategy[Any]) -> list[Any]:
        return draw(st.lists(values, min_size=count, max_size=count))

    return {
        "name": draw(WORDS),
        "paths": [Path(f"drive/{name}.png") for name in each(st.sampled_from("01"))],
        "positions_m": each(st.tuples(NUMBERS, NUMBERS)),
        "headings_rad": each(NUMBERS),
        "places": each(st.integers(-1, 1)),
        "sequences": each(WORDS),
        "conditions": each(WORDS),
        "surfaces": draw(st.sampled_from([None, surfaces(count), surfaces(count, 5000.0)])),
    }


@given(known(), known(), st.data())
@settings(max_examples=50, deadline=None)
def test_equal_fingerprints_mean_equal_data(first: dict[str, Any], second: dict[str, Any], data: st.DataObject) -> None:
    if len(first["paths"]) == len(second["paths"]):  # two sets that differ in little
        second = first | {key: second[key] for key in data.draw(st.lists(st.sampled_from(sorted(first)), max_size=2))}

    def told(known: dict[str, Any]) -> str:
        depth = known["surfaces"] and known["surfaces"].units_per_m
        return repr({**known, "surfaces": depth})

    equal = ImageSet.of(**first).fingerprint() == ImageSet.of(**second).fingerprint()
    assert equal == (told(first) == told(second))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"sequences": ["a\nb", "c"]}, {"sequences": ["a", "b\nc"]}),
        ({"sequences": ["a", "b"], "conditions": ["c", ""]}, {"sequences": ["a", "bc"], "conditions": ["", ""]}),
        ({"sequences": ["a, b", "c"]}, {"sequences": ["a", "b, c"]}),
        ({"sequences": ["a', 'b", "c"]}, {"sequences": ["a", "b', 'c"]}),
    ],
)
def test_texts_do_not_run_into_each_other(first: dict[str, Any], second: dict[str, Any]) -> None:
    assert ImageSet.of("town", paths(2), **first).fingerprint() != ImageSet.of("town", paths(2), **second).fingerprint()


def with_moved_camera(images: ImageSet) -> ImageSet:
    assert images.surfaces is not None
    poses = images.surfaces.world_from_camera.copy()
    poses[1, 2, 3] += 1e-9
    return replace(images, surfaces=replace(images.surfaces, world_from_camera=poses))


def with_other_lens(images: ImageSet) -> ImageSet:
    assert images.surfaces is not None
    return replace(images, surfaces=replace(images.surfaces, camera=replace(CAMERA, fx=501.0)))


def with_other_depth(images: ImageSet) -> ImageSet:
    assert images.surfaces is not None
    others = (Path("depth/9.png"), *images.surfaces.depth_paths[1:])
    return replace(images, surfaces=replace(images.surfaces, depth_paths=others))


@pytest.mark.parametrize("change", [with_moved_camera, with_other_lens, with_other_depth])
def test_the_fingerprint_knows_the_surfaces(change: Callable[[ImageSet], ImageSet]) -> None:
    assert change(town()).fingerprint() != town().fingerprint()


def test_the_fingerprint_knows_the_files_but_not_where_they_lie(tmp_path: Path) -> None:
    for root in ("here", "there"):
        (tmp_path / root / "drive").mkdir(parents=True)
        (tmp_path / root / "drive" / "0.png").write_bytes(b"four")
    images = {root: ImageSet.of("town", [tmp_path / root / "drive" / "0.png"]) for root in ("here", "there")}
    before = images["here"].fingerprint()
    assert images["there"].fingerprint() == before
    images["there"].paths[0].write_bytes(b"other")
    assert images["there"].fingerprint() != before
    images["there"].paths[0].unlink()
    assert images["there"].fingerprint() != before


@given(st.lists(st.integers(0, 2), min_size=1, max_size=6), st.integers(1, 6))
@settings(max_examples=30, deadline=None)
def test_the_union_of_parts_is_the_whole(order: list[int], cut: int) -> None:
    whole = replace(town(), surfaces=None).take(order)
    halves = [half for half in (order[:cut], order[cut:]) if half]
    parts = [town().take(half, f"part {i}") for i, half in enumerate(halves)]
    assert ImageSet.union("town", parts).fingerprint() == whole.fingerprint()


def test_a_compass_turns_the_other_way_and_starts_at_north() -> None:
    assert_allclose(
        heading_from_compass([0, 90, 180, 270, 360]), [np.pi / 2, 0, -np.pi / 2, np.pi, np.pi / 2], atol=1e-12
    )
    assert np.isnan(heading_from_compass(np.nan))


@given(st.floats(-1e3, 1e3))
@settings(max_examples=50, deadline=None)
def test_the_direction_is_the_same(degrees: float) -> None:
    heading = heading_from_compass(degrees)
    east, north = np.sin(np.radians(degrees)), np.cos(np.radians(degrees))
    assert_allclose([np.cos(heading), np.sin(heading)], [east, north], atol=1e-9)
    assert -np.pi < heading <= np.pi
