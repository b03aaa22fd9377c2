"""`vpr doctor`: lines, JSON, colour and exit status; the checks have tests of their own."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

from vpr_ros.cli import doctor
from vpr_ros.doctor import Finding, Level
from vpr_ros.errors import ConfigError

GOOD = Finding("cpu", Level.OK, "4 cores")
POOR = Finding("opencv", Level.WARNING, "two of them", "pip uninstall one")
BAD = Finding("model", Level.ERROR, "cannot be read", "ls -l model.onnx")


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser(prog="vpr")
    doctor.add(parser.add_subparsers(required=True).add_parser("doctor"))
    options = parser.parse_args(["doctor", *arguments])
    return options.run(options)


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    findings = [GOOD, POOR]
    monkeypatch.setattr(doctor, "examine", lambda *_: iter(findings))
    return findings


def test_warnings_do_not_count_and_errors_do(found: list[Finding], capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    found.append(BAD)
    assert run() == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "3 checks: 1 OK, 1 warning, 1 error"
    assert lines[-3].strip() == "-> type: ls -l model.onnx"


def test_json_holds_all(found: list[Finding], capsys: pytest.CaptureFixture[str]) -> None:
    found.append(BAD)
    assert run("--json") == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["findings"][2] == {
        "name": "model",
        "level": "ERROR",
        "found": "cannot be read",
        "fix": "ls -l model.onnx",
    }
    assert [finding["level"] for finding in answer["findings"]] == ["OK", "WARNING", "ERROR"]


def test_colour_on_a_terminal_unless_no_color(
    found: list[Finding], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run()
    assert "\033" not in capsys.readouterr().out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    run()
    assert "\033[33mWARN" in capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    run()
    assert "\033" not in capsys.readouterr().out


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "1e9", "soon"])
def test_seconds_must_make_sense(seconds: str) -> None:
    with pytest.raises(SystemExit) as end:
        run("--seconds", seconds)
    assert end.value.code == 2


def test_parameters_are_checked_as_elsewhere() -> None:
    with pytest.raises(ConfigError, match="did you mean"):
        run("--set", "engine.thread=2")


def test_for_real_without_ros(tmp_path: Path) -> None:
    """Everything at once in a process of its own, on parameters with one fault: the model is missing."""
    program = f"""
import argparse, sys
import vpr_ros.cli.doctor as doctor
doctor.watch_graph = lambda *_: []
parser = argparse.ArgumentParser()
doctor.add(parser.add_subparsers().add_parser("doctor"))
options = parser.parse_args(["doctor", "--json", "--model", {str(tmp_path / "no.onnx")!r}])
sys.exit(options.run(options))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    findings = {finding["name"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert [name for name, finding in findings.items() if finding["level"] == "ERROR"] == ["model"]
    assert "no.onnx" in findings["model"]["fix"]
    assert findings["opencv"]["level"] == findings["faiss"]["level"] == "OK"
