"""Folders whose file names say what is known, aligned passes, and names that say nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from small_worlds import touch

from training.data.readers.folders import ClipFolder, NamedPlaces, aligned, gardenspoint, stromovka
from vpr_ros.errors import SourceError


def test_places_and_sessions_from_names(tmp_path: Path) -> None:
    touch(tmp_path / "michigan", "0102.jpg", "0304.jpg", "0302.jpg", "readme.txt")
    (images,) = NamedPlaces(path="michigan").read(tmp_path)
    assert images.name == "michigan"
    assert [path.name for path in images.paths] == ["0102.jpg", "0302.jpg", "0304.jpg"]
    assert images.places.tolist() == [0, 0, 1]
    assert images.sequences.tolist() == ["01", "03", "03"]
    assert np.isnan(images.positions_m).all()


def test_places_without_sessions(tmp_path: Path) -> None:
    touch(tmp_path / "rooms", "a/kitchen-1.png", "b/kitchen-2.png", "b/hall-10.png", "b/hall-9.png")
    reader = NamedPlaces(path="rooms", pattern="*/*.png", place=r"(?P<place>[a-z]+)-\d+")
    (images,) = reader.read(tmp_path)
    by_name = dict(zip([path.name for path in images.paths], images.places.tolist(), strict=True))
    assert by_name == {"hall-9.png": 0, "hall-10.png": 0, "kitchen-1.png": 1, "kitchen-2.png": 1}
    assert set(images.sequences) == {"rooms"}


def test_a_session_that_only_some_names_have(tmp_path: Path) -> None:
    touch(tmp_path / "x", "1.jpg", "2_1.jpg")
    (images,) = NamedPlaces(path="x", place=r"((?P<session>\d)_)?(?P<place>\d)").read(tmp_path)
    assert images.sequences.tolist() == ["x", "2"]
    assert images.places.tolist() == [0, 0]


def test_clips_across_folders_and_suffixes(tmp_path: Path) -> None:
    touch(tmp_path / "camvid", "train/0001TP_2.png", "train/0001TP_10.png", "val/0016E5_1.png", "val/0001TP_3.jpg")
    patterns = ("train/*.png", "val/*.png", "val/*.jpg")
    (images,) = ClipFolder(path="camvid", patterns=patterns, clip=r"(?P<clip>[^_]+)_.*").read(tmp_path)
    assert [path.name for path in images.paths] == ["0001TP_2.png", "0001TP_10.png", "0016E5_1.png", "0001TP_3.jpg"]
    assert images.sequences.tolist() == ["0001TP", "0001TP", "0016E5", "0001TP"]
    assert set(images.places) == {-1}
    assert np.isnan(images.positions_m).all()


def test_names_that_say_nothing_are_refused(tmp_path: Path) -> None:
    touch(tmp_path / "x", "0304.jpg", "cover.jpg")
    with pytest.raises(SourceError, match=r"x/cover\.jpg: its name does not match '\(\?P<session>"):
        NamedPlaces(path="x").read(tmp_path)
    with pytest.raises(SourceError, match=r"x/0304\.jpg: its name does not match '\(\?P<clip>"):
        ClipFolder(path="x").read(tmp_path)
    with pytest.raises(SourceError, match=r"x: holds no \*\.png or \*\.bmp"):
        ClipFolder(path="x", patterns=("*.png", "*.bmp")).read(tmp_path)
    with pytest.raises(SourceError, match=r"absent: holds no \*\.jpg"):
        NamedPlaces(path="absent").read(tmp_path)


@pytest.mark.parametrize(
    ("reader", "options", "message"),
    [
        (NamedPlaces, {"place": r"(\d+)"}, r"needs a group \(\?P<place>\.\.\.\)"),
        (NamedPlaces, {"place": r"(?P<place>"}, "not a regular expression"),
        (ClipFolder, {"clip": r"(?P<place>\d+)"}, r"needs a group \(\?P<clip>\.\.\.\)"),
        (ClipFolder, {"patterns": ()}, "at least 1 item"),
    ],
)
def test_expressions_that_cannot_work_are_refused(reader: type, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        reader.model_validate(options)


def test_aligned_passes_in_natural_order(tmp_path: Path) -> None:
    names = [f"{i}.jpg" for i in range(12)]
    touch(tmp_path / "park" / "summer", *names)
    touch(tmp_path / "park" / "winter", *(f"frame{name}" for name in names))
    protocol = aligned(tmp_path / "park" / "summer", tmp_path / "park" / "winter", 1)
    (part,) = protocol.parts
    assert (protocol.name, protocol.rule) == ("park summer -> winter", "+- 1 images")
    assert [path.name for path in part.database.paths] == names, "9 before 10"
    assert [path.name for path in part.queries.paths] == [f"frame{name}" for name in names]
    assert [found.tolist() for found in part.positives] == [
        [j for j in range(12) if abs(i - j) <= 1] for i in range(12)
    ]
    assert part.stop is None


def test_passes_that_are_not_aligned_are_refused(tmp_path: Path) -> None:
    touch(tmp_path / "a", "1.jpg", "2.jpg")
    touch(tmp_path / "b", "1.jpg")
    with pytest.raises(SourceError, match=r"b: has 1 images but .*a has 2: they are not aligned"):
        aligned(tmp_path / "a", tmp_path / "b", 1)
    with pytest.raises(SourceError, match="c: No such file"):
        aligned(tmp_path / "a", tmp_path / "c", 1)
    (tmp_path / "d").mkdir()
    with pytest.raises(SourceError, match="d: no images"):
        aligned(tmp_path / "d", tmp_path / "d", 1)


def test_the_named_protocols(tmp_path: Path) -> None:
    for folder in ("day_left", "day_right", "autumn", "winter"):
        touch(tmp_path / folder, *(f"{i:03d}.jpg" for i in range(5)))
    garden, park = gardenspoint(tmp_path), stromovka(tmp_path)
    assert (garden.name, garden.rule) == ("GardensPoint day_left -> day_right", "+- 2 images")
    assert garden.parts[0].queries.paths[0].parent.name == "day_right"
    assert garden.parts[0].positives[2].tolist() == [0, 1, 2, 3, 4]
    assert (park.name, park.rule) == ("Stromovka autumn -> winter", "+- 1 images")
    assert park.parts[0].database.paths[0].parent.name == "autumn"
    assert park.parts[0].positives[2].tolist() == [1, 2, 3]


def test_the_real_folders(shared_data: Path) -> None:
    (michigan,) = NamedPlaces(path="michigan").read(shared_data)
    assert np.bincount(michigan.places).tolist() == [12] * 5
    (tower,) = ClipFolder(path="ie_tower", patterns=("*/*.jpg",)).read(shared_data)
    assert len(tower) == 1439
    for protocol, count in (
        (gardenspoint(shared_data / "gardenspoint"), 200),
        (stromovka(shared_data / "stromovka"), 101),
    ):
        assert len(protocol.parts[0].queries) == count
