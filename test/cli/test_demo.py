from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path
from typing import Any

import pytest

from vpr_ros import cli
from vpr_ros.cli import demo


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "rclpy" else real(name))
    with pytest.raises(SystemExit) as ended:
        cli.main(["demo"])
    assert ended.value.code == 2
    assert "the demo needs rclpy" in capsys.readouterr().err


def test_an_installed_package_has_no_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "CHECKOUT", tmp_path)
    with pytest.raises(SystemExit):
        cli.main(["demo"])
    assert "part of a checkout" in capsys.readouterr().err


def test_the_demo_runs_in_a_process_that_finds_its_world(monkeypatch: pytest.MonkeyPatch) -> None:
    called: dict[str, Any] = {}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(subprocess, "call", lambda command, env: called.update(command=command, env=env) or 0)
    with pytest.raises(SystemExit) as ended:
        cli.main(["demo", "--rate", "2"])
    assert ended.value.code == 0
    assert called["command"][1:3] == ["-m", "demo_world.demo"]
    assert (Path(called["env"]["PYTHONPATH"].partition(":")[0]) / "demo_world").is_dir()
