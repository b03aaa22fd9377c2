"""A file of a cache is there whole or not at all, and nothing fails for it."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import pytest

from training.files import write_cache


def test_a_file_and_its_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "labels.npz"
    for content in (b"old", b"new"):
        write_cache(path, lambda file, content=content: file.write(content))
        assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def test_nothing_is_there_before_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "labels.npz"

    def write(file: IO[bytes]) -> None:
        file.write(b"half")
        file.flush()
        assert not path.exists()

    write_cache(path, write)
    assert path.read_bytes() == b"half"


def test_a_full_disk_costs_a_warning_and_keeps_the_old_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def full(file: IO[bytes]) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    path = tmp_path / "labels.npz"
    path.write_bytes(b"old")
    write_cache(path, full)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    assert f"{path} cannot be written (No space left on device): it will be computed again" in caplog.text


def test_a_folder_that_cannot_be_made_costs_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "taken").write_text("a file where the folder should be")
    write_cache(tmp_path / "taken" / "labels.npz", lambda file: file.write(b""))
    assert "cannot be written (File exists)" in caplog.text


def test_what_else_goes_wrong_is_raised_and_leaves_nothing(tmp_path: Path) -> None:
    def killed(file: IO[bytes]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_cache(tmp_path / "labels.npz", killed)
    assert list(tmp_path.iterdir()) == []
