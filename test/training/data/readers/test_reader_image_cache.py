"""Folders that a reader fills once, and the images in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training.data.readers.image_cache import encode_jpeg, fill_once
from vpr_ros.errors import TrainingError
from vpr_ros.images import read_image


def test_an_image_comes_back_in_its_colours(tmp_path: Path) -> None:
    image = np.full((48, 64, 3), (200, 40, 90), np.uint8)
    (tmp_path / "image.jpg").write_bytes(encode_jpeg(image))
    np.testing.assert_allclose(read_image(tmp_path / "image.jpg"), image, atol=3)


def test_a_folder_is_made_whole_or_not_at_all(tmp_path: Path) -> None:
    def killed(folder: Path) -> None:
        (folder / "half").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill_once(tmp_path / "made", killed)
    assert list(tmp_path.iterdir()) == []
    fill_once(tmp_path / "made", lambda folder: (folder / "whole").touch())
    fill_once(tmp_path / "made", killed)
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["whole"]


def test_the_process_that_comes_second_uses_what_the_first_one_made(tmp_path: Path) -> None:
    def overtaken(folder: Path) -> None:
        (folder / "slow").touch()
        fill_once(tmp_path / "made", lambda other: (other / "fast").touch())

    fill_once(tmp_path / "made", overtaken)
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["fast"]


def test_a_full_disk_is_a_clear_message(tmp_path: Path) -> None:
    def full(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(TrainingError, match=r"made: cannot be made: No space left on device"):
        fill_once(tmp_path / "made", full)
    assert list(tmp_path.iterdir()) == []
