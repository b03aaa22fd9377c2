"""Images that an index names."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_worlds import touch

from training.data.readers.images import image_paths
from vpr_ros.errors import SourceError


def test_images_are_found_whatever_their_suffix(tmp_path: Path) -> None:
    touch(tmp_path, "1.2_x.JPG", "a/3.png", "a/3.csv", "a/4.png", "a/4.jpg")
    found = image_paths(tmp_path, ["a/4", "1.2_x", "a/3"], str)
    assert [str(path.relative_to(tmp_path)) for path in found] == ["a/4.jpg", "1.2_x.JPG", "a/3.png"]


def test_an_image_that_is_missing_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "1.png", "2.txt")
    found = image_paths(tmp_path, ["1", "2"], lambda i: f"line {i}")
    assert found == [tmp_path / "1.png", tmp_path / "2.jpg"]
    assert not found[1].exists()
    assert [record.getMessage() for record in caplog.records] == [
        f"line 1: there is no image {tmp_path}/2 (.jpg, .png, ...); 1 of 2 are missing and count as unreadable"
    ]


def test_images_that_are_mostly_missing_or_named_twice_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg", "2.txt")
    for names, message in (
        (["1", "2", "3"], r"^line 1: there is no image .*/2 \(\.jpg, \.png, \.\.\.\), nor 1 others of 3$"),
        (["none/1"], r"^line 0: there is no image .*/none/1 "),
        (["1", "1"], r"^line 1: image 1 is named twice$"),
    ):
        with pytest.raises(SourceError, match=message):
            image_paths(tmp_path, names, lambda i: f"line {i}")
