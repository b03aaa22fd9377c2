from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_maps import some_archive, some_map

from vpr_ros import cli
from vpr_ros.bags.writer import BagWriter
from vpr_ros.map.place_map import PlaceMap


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(["map", *map(str, arguments)])
    return int(ended.value.code or 0)


@pytest.fixture
def town(tmp_path: Path) -> Path:
    path = tmp_path / "town.vprmap"
    some_map(30).save(path, "m" * 64)
    return path


def test_info(town: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("info", town) == 0
    said = capsys.readouterr().out
    assert "30 keyframes in 1 sessions, 1 loop closures" in said
    assert "mmmm, 8 numbers in a descriptor" in said
    assert "session 'first' of robot: 30 keyframes of front, lens, rear, 15 with odometry, 2023-11-14 22:13:20" in said


def test_info_of_an_archive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("info", some_archive(tmp_path / "old.vprmap")) == 0
    assert "5 keyframes in 1 sessions" in capsys.readouterr().out


def test_check_and_repair(town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", town) == 0
    assert "whole: 30 keyframes in 1 sessions, 29 pictures, 1 loop closures" in capsys.readouterr().out
    content = bytearray(town.read_bytes())
    jpeg = some_map(30)[some_map(30).names[20]].thumbnail.jpeg
    content[content.index(jpeg)] ^= 0xFF
    town.write_bytes(content)
    assert run("check", town) == 1
    said = capsys.readouterr().out
    assert "a keyframe has lost its picture\n" in said
    assert f"vpr map check {town} --repair NEW" in said
    assert run("check", town, "--repair", tmp_path / "new.vprmap") == 1
    assert run("check", tmp_path / "new.vprmap") == 0


def test_merge_rename_remove(town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fleet = tmp_path / "fleet.vprmap"
    assert run("merge", fleet, town, town) == 0
    said = capsys.readouterr().out
    assert f"30 of 30 keyframes of {town} were new" in said
    assert f"0 of 30 keyframes of {town} were new" in said
    assert run("rename", fleet, "first", "monday", "--robot", "robot", "--new-robot", "anna") == 0
    assert PlaceMap.load(fleet, "m" * 64).sessions == [("anna", "monday")]
    assert run("remove", fleet, "first") == 2
    assert "there is no session 'first' of robot ''; sessions: 'monday'" in capsys.readouterr().err
    assert run("remove", fleet, "monday", "--robot", "anna") == 0
    assert len(PlaceMap.load(fleet, "m" * 64)) == 0


def test_maps_of_two_models_are_not_merged(town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other.vprmap"
    some_map(3).save(other, "n" * 64)
    assert run("merge", tmp_path / "fleet.vprmap", town, other) == 2
    assert "made with another model" in capsys.readouterr().err
    assert not (tmp_path / "fleet.vprmap").exists()


def test_prune(town: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("prune", town, "--keyframes", 20, "--dry-run") == 0
    assert "10 of 30 keyframes would be removed" in capsys.readouterr().out
    assert run("prune", town, "--keyframes", 20) == 0
    assert len(PlaceMap.load(town, "m" * 64)) == 20
    assert run("prune", town, "--keyframes", 1) == 0
    said = capsys.readouterr().out  # the two ends of ten moments
    assert "removed 18 of 20 keyframes; 2 are left\nmore would be the last ones of their place\n" in said
    assert run("prune", town, "--keyframes", 0) == 2


@pytest.mark.parametrize("action", ["info", "check", "rename", "remove", "prune", "export", "view"])
def test_a_map_that_is_not_there_is_one_line(action: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = {"rename": ["a", "b"], "remove": ["a"], "prune": ["--keyframes", "5"], "export": [tmp_path / "out"]}.get(
        action, []
    )
    assert run(action, tmp_path / "none.vprmap", *more) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_export(town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("export", town, tmp_path / "out", "--formats", "tum,pairs") == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / "out" / name) for name in ("trajectories", "pairs.txt")]
    assert run("export", town, tmp_path / "out", "--formats", "kml") == 2
    assert "there is no 'kml'; there are g2o, tum, pairs, npz" in capsys.readouterr().err


def test_view(town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("view", town, "--out", tmp_path / "page.html") == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "page.html")
    assert "30" in (tmp_path / "page.html").read_text()


def test_what_an_action_refuses_is_named_as_it_is_typed(
    town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        for topic in ("/left/image", "/right/image"):
            writer.image(topic, 10**9, np.zeros((48, 64, 3), np.uint8), "camera")
    assert run("reembed", town, tmp_path / "new.vprmap", "--from", tmp_path / "bag") == 2
    assert "choose one with --image-topic: /left/image" in capsys.readouterr().err
