"""What was kept beside a map is used if it is what was written for this map, and counts as absent otherwise."""

from __future__ import annotations

import os
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vpr_ros.map.index.base import Selection
from vpr_ros.map.index.codes import Codes, Hnsw, IvfPq
from vpr_ros.map.index.row_file import DamagedError, RowFile
from vpr_ros.map.index.snapshot import Snapshot
from vpr_ros.map.index.tiered_index import TieredIndex

DIM, COUNT = 8, 60
CODES = IvfPq(probed=1.0)


def unit(count: int, seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def opened(folder: Path, token: str = "map", dim: int = DIM, codes: Codes = CODES) -> TieredIndex:
    return TieredIndex(dim, codes, 40, Snapshot(folder, dim, codes, token), tail=16)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that has the first 60 keyframes."""
    folder = tmp_path_factory.mktemp("index")
    index = opened(folder)
    index.add(np.arange(1, COUNT + 1), unit(COUNT))
    index.wait()
    index.close()
    return folder


def check(index: TieredIndex) -> None:
    """It has all of `unit(COUNT)`, one way or the other, and answers exactly."""
    missing = np.setdiff1d(np.arange(1, COUNT + 1), index.keys())
    index.add(missing, unit(COUNT)[missing - 1])
    index.wait()
    for query in unit(5, seed=9):
        similarities = unit(COUNT) @ query
        similarities[:3] = -2
        found = index.search(query, 10, Selection(np.array([1, 2, 3])))
        assert [hit.key for hit in found] == (np.argsort(-similarities)[:10] + 1).tolist()
        np.testing.assert_allclose([h.similarity for h in found], np.sort(similarities)[::-1][:10], atol=1e-5)


def test_what_was_written_is_there_at_once(written: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(written, tmp_path / "copy")
    index = opened(folder)
    assert index.keys().tolist() == list(range(1, COUNT + 1))
    assert index.sealed_count == COUNT
    check(index)
    index.close()


@settings(max_examples=60, deadline=None)
@given(
    which=st.sampled_from(["sealed.vpri", "rows-1.f32"]), place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7)
)
def test_any_bit_that_is_not_as_written(
    written: Path, tmp_path_factory: pytest.TempPathFactory, which: str, place: float, bit: int
) -> None:
    folder = shutil.copytree(written, tmp_path_factory.mktemp("damaged") / "index")
    data = bytearray((folder / which).read_bytes())
    data[int(place * len(data))] ^= 1 << bit
    (folder / which).write_bytes(data)
    index = opened(folder)
    assert len(index) == 0
    check(index)
    index.close()
    again = opened(folder)
    assert len(again) == COUNT  # it was mended by what was built
    check(again)
    again.close()
    shutil.rmtree(folder)


@pytest.mark.parametrize("which", ["sealed.vpri", "rows-1.f32"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_files_that_were_cut(written: Path, tmp_path: Path, which: str, share: float) -> None:
    folder = shutil.copytree(written, tmp_path / "index")
    os.truncate(folder / which, int(share * (folder / which).stat().st_size))
    index = opened(folder)
    assert len(index) == 0
    check(index)
    index.close()


@pytest.mark.parametrize(
    "what", ["rows of another map", "no rows", "no header", "a folder", "longer rows", "a page of zeros"]
)
def test_files_that_do_not_belong_together(written: Path, tmp_path: Path, what: str) -> None:
    folder = shutil.copytree(written, tmp_path / "index")
    rows = folder / "rows-1.f32"
    if what == "rows of another map":
        other = opened(tmp_path / "other", token="another")
        other.add(np.arange(1, COUNT + 1), unit(COUNT, seed=1))
        other.wait()
        other.close()
        shutil.copy(tmp_path / "other" / "rows-1.f32", rows)
    elif what == "no rows":
        rows.unlink()
    elif what == "no header":
        (folder / "sealed.vpri").unlink()
    elif what == "a folder":
        (folder / "sealed.vpri").unlink()
        (folder / "sealed.vpri").mkdir()
    elif what == "longer rows":
        rows.write_bytes(rows.read_bytes() + b"left behind by a process that was killed")
    elif what == "a page of zeros":
        data = rows.read_bytes()
        rows.write_bytes(bytes(36 * 8) + data[36 * 8 :])
    index = opened(folder)
    assert len(index) == (COUNT if what == "longer rows" else 0)
    check(index)
    index.close()


def test_of_another_map_dimension_or_kind(written: Path, tmp_path: Path) -> None:
    for number, (token, dim, codes) in enumerate(
        [("another", DIM, CODES), ("map", 2 * DIM, CODES), ("map", DIM, IvfPq()), ("map", DIM, Hnsw())]
    ):
        folder = shutil.copytree(written, tmp_path / str(number))
        index = opened(folder, token, dim, codes)
        assert len(index) == 0
        index.close()


def test_two_processes_on_one_folder(written: Path, tmp_path: Path) -> None:
    """The second one has what the first one wrote, works on its own, and writes nothing."""
    folder = shutil.copytree(written, tmp_path / "index")
    first, second = opened(folder), opened(folder)
    assert first.faults() == []
    assert "another process" in " ".join(second.faults())
    for number, index in enumerate((first, second)):
        index.add(np.arange(100, 140), unit(40, seed=10 + number))
        index.wait()
        assert len(index) == COUNT + 40
        assert index.search(unit(40, seed=10 + number)[7], 1)[0].key == 107
    second.close()
    first.close()
    third = opened(folder)
    assert len(third) == COUNT + 40
    assert third.search(unit(40, seed=10)[7], 1)[0].similarity == pytest.approx(1, abs=1e-5)
    third.close()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    index = opened(tmp_path / "file" / "index")
    check(index)
    assert "cannot be written" in " ".join(index.faults())
    index.close()


def test_a_disk_that_is_full(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shutil.copytree(written, tmp_path / "index")
    index = opened(folder)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        index.add(np.arange(100, 140), unit(40, seed=1))
        index.wait()
        assert "No space left" in " ".join(index.faults())
        assert len(index) == COUNT + 40
        assert index.search(unit(40, seed=1)[7], 1)[0].key == 107
    index.add(np.arange(140, 240), unit(100, seed=2))  # there is room again
    index.wait()
    assert index.faults() == []
    assert index.sealed_count == COUNT + 140
    index.close()
    again = opened(folder)
    assert len(again) == COUNT + 140
    again.close()


def test_rows_are_made_anew_without_the_removed(tmp_path: Path) -> None:
    index = opened(tmp_path)
    index.add(np.arange(1, COUNT + 1), unit(COUNT))
    index.wait()
    index.remove(np.arange(1, 31))
    index.wait()
    assert index.sealed_count == 30
    index.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", "rows-2.f32", "sealed.vpri"]
    again = opened(tmp_path)
    assert again.keys().tolist() == list(range(31, COUNT + 1))
    again.remove(again.keys())
    assert len(again) == 0
    assert again.search(unit(1)[0], 3) == []
    check_after_all_was_removed(again)
    again.close()


def check_after_all_was_removed(index: TieredIndex) -> None:
    index.add(np.arange(100, 160), unit(60, seed=3))
    index.wait()
    assert index.search(unit(60, seed=3)[11], 1)[0].key == 111


def test_row_file_keeps_what_it_had_when_it_grows(tmp_path: Path) -> None:
    file = RowFile.create(tmp_path / "rows", DIM, 5)
    file.append(unit(10))
    before = file.rows
    file.append(unit(10, seed=1))
    file.cut(12)
    file.append(unit(3, seed=2))
    np.testing.assert_array_equal(before, unit(10))
    expected = np.concatenate([unit(10), unit(10, seed=1)[:2], unit(3, seed=2)])
    np.testing.assert_array_equal(file.rows, expected)
    file.close()
    np.testing.assert_array_equal(RowFile.open(tmp_path / "rows", DIM, 5, 15, False).rows, expected)
    for salt, count in ((6, 15), (5, 30)):
        with pytest.raises(DamagedError):
            RowFile.open(tmp_path / "rows", DIM, salt, count, False)


def test_after_making_anew_failed_the_old_rows_are_kept_and_go_on(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(written, tmp_path / "index")
    index = opened(folder)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        index.remove(np.arange(1, 31))
        index.wait()
        assert "No space left" in " ".join(index.faults())
    index.add(np.arange(100, 140), unit(40, seed=1))
    index.wait()
    assert index.faults() == []
    assert index.sealed_count == 70
    index.close()
    again = opened(folder)
    assert again.keys().tolist() == [*range(31, COUNT + 1), *range(100, 140)]
    assert again.search(unit(40, seed=1)[7], 1)[0].key == 107
    again.close()
    assert len(list(folder.glob("rows-*.f32"))) == 1


def test_removals_while_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written is one state, whichever."""
    index = opened(tmp_path)
    index.add(np.arange(1, COUNT + 1), unit(COUNT))
    index.wait()
    written_once = zlib.crc32

    def with_a_removal(data: bytes, value: int = 0) -> int:
        crc = written_once(data, value)
        index.remove(np.array([with_a_removal.key]))  # type: ignore[attr-defined]
        with_a_removal.key += 1  # type: ignore[attr-defined]
        return crc

    with_a_removal.key = 1  # type: ignore[attr-defined]
    with monkeypatch.context() as patched:
        patched.setattr(zlib, "crc32", with_a_removal)
        index.add(np.arange(100, 120), unit(20, seed=1))
        index.wait()
    assert with_a_removal.key > 3  # type: ignore[attr-defined]
    index.close()
    again = opened(tmp_path)
    assert len(again) >= COUNT + 20 - with_a_removal.key  # type: ignore[attr-defined]
    again.close()
