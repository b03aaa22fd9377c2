"""Where a run folder cannot be made, `vpr replay` ends at once, in one line."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import pytest
from small_worlds import texture

from vpr_ros import replay
from vpr_ros.cli import main


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "\x1b[31mimages"
    folder.mkdir()
    for i in range(3):
        cv2.imwrite(str(folder / f"{i}.jpg"), texture(i, 64, 48))
    return folder


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    with pytest.raises(SystemExit) as end:
        main(["replay", *map(str, arguments)])
    assert end.value.code == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert "\x1b" not in errors
    return errors


def test_before_anything_is_replayed(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "replay", None)  # never called
    (tmp_path / "file").touch()
    assert "cannot write" in refused(capsys, images, "--out", tmp_path / "file")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert "No space left on device" in refused(capsys, images, "--out", tmp_path / "runs")
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_disk_that_fills_up_meanwhile(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vpr_ros.evaluation.run_folder.write_report", full)
    arguments = ("--out", tmp_path / "runs", "--set", "engine.backend=onnxruntime")
    assert "No space left on device; make room" in refused(capsys, images, *arguments)


def test_names_do_not_steer_the_terminal(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert r"\x1b[31mimages" in refused(capsys, images / "none")
