from __future__ import annotations

import itertools
import os
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vpr_ros.files import numeric_order, read_regular_file, whole_file


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file"
    with whole_file(path) as file:
        file.write(b"old")
    with whole_file(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert os.listdir(path.parent) == ["file"]


@pytest.mark.parametrize("reason", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_what_breaks_off_leaves_nothing(tmp_path: Path, reason: BaseException) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write_half() -> None:
        with whole_file(path) as file:
            file.write(b"half")
            raise reason

    with pytest.raises(type(reason)):
        write_half()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_two_writers_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with whole_file(path) as first, whole_file(path) as second:
        first.write(b"first")
        second.write(b"second")
    assert path.read_bytes() == b"first"  # the last to end
    assert os.listdir(tmp_path) == ["file"]


def test_others_may_read_it(tmp_path: Path) -> None:
    with whole_file(tmp_path / "file"):
        pass
    (tmp_path / "usual").touch()
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize(
    "names",
    [
        ["0.5", "0.10", "0.25"],
        ["-1", "10", "9", "2e1", "1e-2"],
        ["1305031102.175304", "1305031102.1", "1305031103"],
        ["999", "1403636579763555584", "1403636579813555456", "1403636579763555585"],
    ],
)
def test_names_that_are_numbers_are_in_their_order(names):
    expected = [Path(f"{name}.png") for name in sorted(names, key=Fraction)]
    for paths in itertools.permutations(expected):
        assert numeric_order(paths) == expected


@settings(deadline=None)
@given(st.lists(st.text("²٣0123456789.-_ae", min_size=1), unique=True))
def test_any_names_have_an_order(names):
    paths = [Path(f"x{name}.png") for name in names]
    assert sorted(numeric_order(paths)) == sorted(paths)


def test_only_regular_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, "/dev/zero"):
        with pytest.raises(OSError, match="is not a regular file"):
            read_regular_file(path)
    (tmp_path / "a").write_bytes(b"b")
    assert read_regular_file(tmp_path / "a") == b"b"
