"""What errors name can be typed as it stands, and no option is understood by halves."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from vpr_ros import cli
from vpr_ros.bags.writer import BagWriter
from vpr_ros.sources import BagSource, FolderSource, KittiSource, TumSource, VideoSource

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = cli._parser(["replay"]).parse_args(["replay", "x"]).options
SOURCES = (BagSource, FolderSource, KittiSource, TumSource, VideoSource)
KEYWORDS = {name for kind in SOURCES for name in inspect.signature(kind).parameters} - {"path", "root"}


def trees(*folders: str) -> Iterator[tuple[Path, ast.AST]]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path, ast.parse(path.read_text(encoding="utf-8"))


def calls(tree: ast.AST, name: str) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == name:
            yield node


def texts(tree: ast.AST) -> Iterator[str]:
    docs = {
        ast.get_docstring(n, clean=False)
        for n in ast.walk(tree)
        if isinstance(n, ast.Module | ast.ClassDef | ast.FunctionDef)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value not in docs:
            yield node.value


def test_every_keyword_of_a_source_and_of_an_error_is_an_option() -> None:
    named = {
        call.args[0].value
        for _, tree in trees("vpr_ros")
        for call in calls(tree, "Keyword")
        if isinstance(call.args[0], ast.Constant)
    }
    assert "image_topic" in named
    assert KEYWORDS | named <= OPTIONS.keys()
    assert all(option.startswith("--") for option in OPTIONS.values())


def test_no_error_names_a_keyword_in_plain_text() -> None:
    words = re.compile("|".join(rf"\b{name}\b" for name in KEYWORDS if "_" in name) + r"|\b(camera|sequence)=")
    for path, tree in trees("vpr_ros/sources", "vpr_ros/evaluation", "vpr_ros/bags"):
        for node in ast.walk(tree):
            if isinstance(node, ast.Raise):
                keywords = {id(c.args[0]) for c in calls(node, "Keyword")}
                for part in ast.walk(node):
                    if isinstance(part, ast.Constant) and isinstance(part.value, str) and id(part) not in keywords:
                        assert not words.search(part.value), f"{path}:{node.lineno}: {part.value}"


def test_every_option_in_a_text_exists() -> None:
    for path, tree in trees("vpr_ros/sources", "vpr_ros/evaluation", "vpr_ros/recognition", "vpr_ros/map"):
        for text in texts(tree):
            for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", text):
                foreign = option in {
                    "--src",
                    "--dst",
                    "--ros-args",
                    "--repair",
                }  # rosbags-convert, ros2 run, vpr map check
                assert foreign or option in OPTIONS.values(), f"{path}: {text}"


def test_no_parser_takes_abbreviations() -> None:
    found = 0
    for path, tree in trees("vpr_ros", "training", "demo_world", "benchmarks", "examples"):
        for call in [*calls(tree, "ArgumentParser"), *calls(tree, "add_parser")]:
            given = {keyword.arg: keyword.value for keyword in call.keywords}
            value = given.get("allow_abbrev")
            assert isinstance(value, ast.Constant), f"{path}:{call.lineno}"
            assert value.value is False
            found += 1
    assert found > 20


@pytest.mark.parametrize("option", ["--image", "--ground-truth", "--odom", "--rev", "--se"])
def test_half_an_option_is_none(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["replay", "x", option, "1"])
    assert ended.value.code == 2
    assert f"unrecognized arguments: {option} 1" in capsys.readouterr().err


def bag(path: Path) -> Path:
    with BagWriter(path) as writer:
        for topic in ("/left/image", "/right/image"):
            writer.image(topic, 10**9, np.zeros((48, 64, 3), np.uint8), "camera")
    return path


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "choose one with --image-topic: /left/image"),
        (["--image-topic", "/rear"], "--image-topic can be one of"),
        (["--image-topic", "/left/image", "--odom-topic", "/left/image"], "--odom-topic needs nav_msgs/msg/Odometry"),
        (["--rate-hz", "3"], "a bag has no --rate-hz; what can be chosen: --image-topic, "),
        (
            ["--ground-truth-topic", "/a", "--ground-truth-file", "b"],
            "--ground-truth-topic or --ground-truth-file, not both",
        ),
        (["--sequence", "00"], "--sequence is for KITTI trees only"),
        (["--image-topic", "/left/image", "--revisit-m", "99"], "0 <= --revisit-m <= --match-m must hold"),
        (["--image-topic", "/left/image", "--ground-truth-gap-s", "-1"], "--ground-truth-gap-s must be >= 0"),
    ],
)
def test_what_the_command_line_answers(
    arguments: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["replay", str(bag(tmp_path / "bag")), "--out", str(tmp_path / "runs"), *arguments])
    assert ended.value.code == 2
    assert reason in capsys.readouterr().err
