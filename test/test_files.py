from __future__ import annotations

import itertools
import os
import time
import uuid
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vpr_ros.errors import ConfigError, OutputError
from vpr_ros.files import (
    STALE_S,
    check_writable,
    expanded,
    numeric_order,
    read_regular_file,
    remove_stale_parts,
    whole_file,
)


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


def part_of(path: Path, age_s: float) -> Path:
    """What a killed save leaves."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    part.write_bytes(b"half")
    os.utime(part, (time.time() - age_s,) * 2)
    return part


def test_what_killed_saves_left_is_removed_by_the_next(tmp_path: Path) -> None:
    stale, other = part_of(tmp_path / "file", 2 * STALE_S), part_of(tmp_path / "another", 2 * STALE_S)
    fresh = part_of(tmp_path / "file", STALE_S / 2)
    users = [tmp_path / name for name in (".file.part", f"file.{uuid.uuid4().hex}.part", "b.part")]
    for path in users:
        path.write_bytes(b"whose?")
        os.utime(path, (0, 0))
    with whole_file(tmp_path / "file") as file:
        file.write(b"new")
    assert not stale.exists()
    assert not other.exists()
    assert fresh.exists()
    assert all(path.exists() for path in users)


def test_a_save_that_goes_on_is_left_alone_whatever_the_clock_shows(tmp_path: Path) -> None:
    with whole_file(tmp_path / "file") as file:
        os.utime(file.name, (0, 0))
        with whole_file(tmp_path / "other"):
            pass
        file.write(b"whole")
    assert (tmp_path / "file").read_bytes() == b"whole"


def test_links_and_folders_of_such_names_are_left_alone(tmp_path: Path) -> None:
    link, folder = (tmp_path / f".x.{uuid.uuid4().hex}.part" for _ in range(2))
    link.symlink_to(tmp_path / "nowhere")
    folder.mkdir()
    os.utime(folder, (0, 0))
    os.utime(link, (0, 0), follow_symlinks=False)
    remove_stale_parts(tmp_path)
    assert link.is_symlink()
    assert folder.is_dir()


def test_a_folder_is_tried(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b")
    assert os.listdir(tmp_path / "a" / "b") == []
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OutputError, match=r"cannot write .*/file"):
            check_writable(folder)


def test_a_full_disk_is_named_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=f"cannot write {tmp_path}: No space left on device; make room"):
        check_writable(tmp_path)


@pytest.mark.parametrize("path", ["~nosuchuser/maps", "~nosuchuser"])
def test_a_home_of_nobody(path: str) -> None:
    with pytest.raises(ConfigError, match=r"there is no user 'nosuchuser' with a home"):
        expanded(path)


def test_a_process_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(path: Path) -> Path:
        if str(path).startswith("~"):
            raise RuntimeError("Could not determine home directory.")  # as pathlib reports it
        return path

    monkeypatch.setattr(Path, "expanduser", none)
    with pytest.raises(ConfigError, match=r"~/maps: this user has no home; set HOME"):
        expanded("~/maps")
    assert expanded("/maps") == Path("/maps")


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


def test_a_private_file_is_its_users_alone(tmp_path: Path) -> None:
    path = tmp_path / "homes" / "a"
    before = os.umask(0)
    try:
        for _ in range(2):  # the second replaces one that all may read
            with whole_file(path, is_private=True) as file:
                file.write(b"x")
            assert path.stat().st_mode & 0o777 == 0o600
            path.chmod(0o644)
        assert path.parent.stat().st_mode & 0o777 == 0o700
        with whole_file(tmp_path / "all" / "b") as file:
            file.write(b"x")
        assert (tmp_path / "all" / "b").stat().st_mode & 0o777 == 0o666
    finally:
        os.umask(before)


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    for name in ("old", "new"):
        target, link = tmp_path / "disk" / name, tmp_path / name
        link.symlink_to(target)
        if name == "old":
            target.write_text("before")
        with whole_file(link) as file:
            file.write(b"after")
        assert link.is_symlink()
        assert target.read_text() == "after"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "new", "old"]
