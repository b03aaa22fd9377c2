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


def test_images_that_are_missing_or_named_twice_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg", "2.txt")
    for names, message in (
        (["1", "2"], r"^line 1: there is no image .*/2 \(\.jpg, \.png, \.\.\.\)$"),
        (["none/1"], r"^line 0: there is no image .*/none/1 "),
        (["1", "1"], r"^line 1: image 1 is named twice$"),
    ):
        with pytest.raises(SourceError, match=message):
            image_paths(tmp_path, names, lambda i: f"line {i}")
