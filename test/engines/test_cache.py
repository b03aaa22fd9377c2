from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpr_ros.engines.cache import EngineCache, Entry, Key, cache_folder
from vpr_ros.errors import EngineError

KEY = Key("grid", "0123456789abcdef", "tensorrt", {"library": "TensorRT 10.3", "device": "Orin"}, "fp16", 2, (48, 64))


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "engines")


def bin_of(cache: EngineCache, key: Key = KEY) -> Path:
    return cache.folder / f"{key.file}.bin"


def test_what_was_kept_is_found(cache: EngineCache) -> None:
    kept = cache.keep(KEY, b"an engine", {"speed": 3.5})
    assert cache.find(KEY) == (kept, b"an engine")
    assert [path.name for path in sorted(bin_of(cache).parent.iterdir())] == [
        f"{KEY.file.name}.bin",
        f"{KEY.file.name}.json",
    ]
    assert dict(cache.entries()) == {bin_of(cache).with_suffix(".json"): kept}


def test_an_empty_cache_says_so(cache: EngineCache) -> None:
    assert cache.find(KEY) == "there is none yet"
    assert list(cache.entries()) == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"identity": {"library": "TensorRT 10.4", "device": "Orin"}},
            "identity TensorRT 10.3, Orin -> TensorRT 10.4, Orin",
        ),
        ({"batch": 4}, "batch 2 -> 4"),
        ({"shape": (96, 64)}, "shape (48, 64) -> (96, 64)"),
    ],
)
def test_another_machine_or_use_is_said(cache: EngineCache, change: dict[str, object], reason: str) -> None:
    cache.keep(KEY, b"an engine", {})
    assert cache.find(dataclasses.replace(KEY, **change)) == f"the one at hand is for another machine or use: {reason}"


@pytest.mark.parametrize("damage", [b"", b"an engin", b"an engin3", b"an engine and more"])
def test_a_damaged_engine_is_not_used(cache: EngineCache, damage: bytes) -> None:
    entry = cache.keep(KEY, b"an engine", {})
    bin_of(cache).write_bytes(damage)
    assert cache.find(KEY) == f"{bin_of(cache)} is damaged: it is not what was written ({len(damage)} of 9 bytes)"
    assert (
        cache.check(bin_of(cache).with_suffix(".json"), entry) == f"its content is damaged ({len(damage)} of 9 bytes)"
    )


def test_a_missing_engine_is_said(cache: EngineCache) -> None:
    entry = cache.keep(KEY, b"an engine", {})
    bin_of(cache).unlink()
    assert cache.find(KEY) == f"{bin_of(cache)} cannot be read: No such file or directory"
    assert "cannot be read" in cache.check(bin_of(cache).with_suffix(".json"), entry)


@given(st.integers(0, 10**6), st.binary(min_size=1, max_size=4))
def test_whatever_happens_to_the_text_no_wrong_engine_is_found(
    tmp_path_factory: pytest.TempPathFactory, at: int, bytes_there: bytes
) -> None:
    cache = EngineCache(tmp_path_factory.mktemp("cache"))
    kept = cache.keep(KEY, b"an engine", {"speed": 3.5})
    text = bin_of(cache).with_suffix(".json")
    content = bytearray(text.read_bytes())
    content[at % len(content) : at % len(content) + len(bytes_there)] = bytes_there
    text.write_bytes(content)
    found = cache.find(KEY)
    if not isinstance(found, str):
        entry, engine = found
        assert (entry.key, entry.sha256, engine) == (kept.key, kept.sha256, b"an engine")
    for _, entry_or_fault in cache.entries():
        assert isinstance(entry_or_fault, (Entry, str))


def test_a_text_of_another_version_is_refused(cache: EngineCache) -> None:
    cache.keep(KEY, b"an engine", {})
    text = bin_of(cache).with_suffix(".json")
    text.write_text(json.dumps(json.loads(text.read_text()) | {"format": "vpr_ros.engine.9"}))
    assert cache.find(KEY) == f"{text} was written by another version of vpr_ros"


def test_removing_leaves_no_empty_folder(cache: EngineCache) -> None:
    other = dataclasses.replace(KEY, batch=1)
    for key in (KEY, other):
        cache.keep(key, b"an engine", {})
    cache.remove(bin_of(cache).with_suffix(".json"))
    assert isinstance(cache.find(KEY), str)
    assert not isinstance(cache.find(other), str)
    cache.remove(bin_of(cache, other).with_suffix(".json"))
    assert list(cache.folder.iterdir()) == []


def test_a_model_s_name_is_no_path(cache: EngineCache) -> None:
    key = dataclasses.replace(KEY, model="../../etc/passwd")
    cache.keep(key, b"an engine", {})
    assert bin_of(cache, key).resolve().parent.parent == cache.folder.resolve()


def test_a_disk_that_refuses_is_named_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "engines").write_text("a file where a folder should be")
    with pytest.raises(EngineError, match=r"cannot write engine .*; set engine.cache to another folder"):
        EngineCache(tmp_path / "engines").keep(KEY, b"an engine", {})


def test_the_cache_is_the_user_s(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert EngineCache().folder == tmp_path / "vpr_ros" / "engines"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert EngineCache().folder == Path.home() / ".cache" / "vpr_ros" / "engines"


def test_the_folder_is_the_user_s_or_what_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/robot")
    for users, expected in (("", "/home/robot/.cache/vpr_ros/engines"), (str(tmp_path), f"{tmp_path}/vpr_ros/engines")):
        assert cache_folder("", {"XDG_CACHE_HOME": users}) == Path(expected)
        monkeypatch.setenv("XDG_CACHE_HOME", users)
        assert EngineCache().folder == Path(expected)
        assert cache_folder("~/mine", {"XDG_CACHE_HOME": users}) == Path("/home/robot/mine")
