"""`vpr benchmark`: arguments, files and exit status; what is measured has tests of its own."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest
from fake_backends import FakeBackend
from small_worlds import save_grid_model, texture

from vpr_ros.cli import benchmark as command
from vpr_ros.config import EngineConfig
from vpr_ros.engines.benchmark import run as run_module
from vpr_ros.engines.benchmark.table import Table
from vpr_ros.errors import ConfigError, ModelError, SourceError


@pytest.fixture
def run(tmp_path: Path, grid_model_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The command on the grid model without processes: ONNX Runtime in the guise of a backend, another that is missing."""
    known = {"onnxruntime": FakeBackend("onnxruntime"), "tensorrt": FakeBackend("tensorrt", why_missing="no GPU")}
    monkeypatch.setattr(command, "backends_of", lambda cache, engine: known)
    monkeypatch.setattr(run_module, "in_process", lambda progress, work, *arguments: work(progress, *arguments))

    def run(*arguments: str) -> int:
        parser = argparse.ArgumentParser(prog="vpr")
        command.add(parser.add_subparsers(required=True).add_parser("benchmark"))
        model = [] if arguments and arguments[0].endswith(".onnx") else [str(grid_model_path)]
        settings = ["--out", str(tmp_path / "runs"), "--rounds", "5", "--threads", "1"]
        options = parser.parse_args(["benchmark", *model, *settings, *arguments])
        return options.run(options)

    return run


def folder(tmp_path: Path) -> Path:
    [folder] = (tmp_path / "runs").iterdir()
    return folder


def test_a_run_leaves_a_table_three_times_and_a_plot(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run() == 0
    made = folder(tmp_path)
    assert made.name.endswith("-benchmark")
    assert {path.name for path in made.iterdir()} == {"benchmark.json", "benchmark.md", "benchmark.png"}
    table = Table.from_json((made / "benchmark.json").read_text())
    combinations = [(row.model, row.backend, row.precision, row.batch) for row in table.rows]
    assert combinations == [("grid", "onnxruntime", p, b) for p in ("fp32", "bf16") for b in (1, 4)]
    assert all(row.measured and row.measured.rounds == 5 for row in table.rows)
    assert (table.planned, table.threads) == (4, 1)
    assert table.text() in capsys.readouterr().out
    assert (made / "benchmark.md").read_text() == table.markdown()
    assert cv2.imread(str(made / "benchmark.png")) is not None


def test_a_plot_that_fails_loses_nothing(
    run: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fails(*_: object) -> None:
        raise TypeError("subplots() got an unexpected\nkeyword argument")

    monkeypatch.setattr(command, "write_plot", fails)
    assert run("--precisions", "fp32", "--batches", "1") == 0
    assert "onnxruntime" in capsys.readouterr().out
    assert "no plot: TypeError: subplots() got an unexpected keyword argument" in caplog.text
    assert {path.name for path in folder(tmp_path).iterdir()} == {"benchmark.json", "benchmark.md"}


def test_what_is_asked_for_is_measured_or_has_a_reason(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--backends", "tensorrt", "onnxruntime", "--precisions", "fp32", "--batches", "2", "2") == 0
    said = capsys.readouterr().out
    assert "tensorrt fp32 (batch 2): no GPU" in said
    assert len(Table.from_json((folder(tmp_path) / "benchmark.json").read_text()).rows) == 2


def test_engines_are_built_as_the_configuration_says(run: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def known(cache: Any, engine: EngineConfig) -> dict[str, FakeBackend]:
        asked.append(engine.version_compatible)
        return {"onnxruntime": FakeBackend("onnxruntime", ("fp32",))}

    monkeypatch.setattr(command, "backends_of", known)
    assert run("--set", "engine.version_compatible=true", "--batches", "1") == 0
    assert asked == [True]


def test_several_models(run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = [save_grid_model(tmp_path / f"{cell}.onnx", cell=cell) for cell in (8, 16)]
    assert run(*map(str, models), "--precisions", "fp32", "--batches", "1") == 0
    assert capsys.readouterr().out.count("grid   onnxruntime  fp32") == 2


def test_nothing_measured_is_a_failure(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--backends", "tensorrt") == 1
    assert "nothing was measured" in capsys.readouterr().out
    assert not (folder(tmp_path) / "benchmark.png").exists()


def test_an_interrupt_keeps_the_rows_that_are_done(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []

    def in_process(tell: Any, work: Any, *arguments: Any) -> Any:
        calls.append(work)
        if len(calls) == 4:  # the second row's measurement
            raise KeyboardInterrupt
        return work(tell, *arguments)

    monkeypatch.setattr(run_module, "in_process", in_process)
    assert run() == 130
    assert "1 of 4 combinations were done" in capsys.readouterr().out
    assert {path.name for path in folder(tmp_path).iterdir()} == {"benchmark.json", "benchmark.md", "benchmark.png"}
    assert len(json.loads((folder(tmp_path) / "benchmark.json").read_text())["rows"]) == 1


def test_a_cache_is_kept_and_used(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], users_cache: Path
) -> None:
    before = sorted(users_cache.rglob("*"))
    one = ("--cache", str(tmp_path / "cache"), "--precisions", "fp32", "--batches", "1")
    assert run(*one) == 0
    assert "cached" not in capsys.readouterr().out
    assert run(*one) == 0
    assert "cached" in capsys.readouterr().out
    assert sorted(users_cache.rglob("*")) == before  # the node's engines are left alone


def test_images_of_ones_own(run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = tmp_path / "mine"
    images.mkdir()
    for i in range(3):
        cv2.imwrite(str(images / f"{i}.png"), texture(i, 80, 60))
    assert run("--images", str(images), "--precisions", "fp32", "--batches", "1") == 0
    assert "3 of mine" in capsys.readouterr().out
    with pytest.raises(SourceError, match="has no poses"):
        run("--places", str(images))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("--batches", "0"), ConfigError),
        (("--threads", "-1"), ConfigError),
        (("nowhere.onnx",), ModelError),
        (("--images", "/nowhere"), SourceError),
        (("--places", "/nowhere"), SourceError),
    ],
)
def test_mistakes_are_told_before_anything_is_made(
    run: Callable[..., int], tmp_path: Path, arguments: tuple[str, ...], error: type[Exception]
) -> None:
    with pytest.raises(error):
        run(*arguments)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("arguments", [("--rounds", "0"), ("--backends", "abacus"), ("--precisions", "fp7")])
def test_arguments_that_are_none(run: Callable[..., int], arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as end:
        run(*arguments)
    assert end.value.code == 2


def test_help(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("--help")
    assert "--cache FOLDER" in capsys.readouterr().out
