"""The parameter files of config/presets: readable, different from the defaults, and each value with its reason."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from vpr_ros.config import Config

FOLDER = Path(__file__).parents[1] / "config" / "presets"
PRESETS = sorted(FOLDER.glob("*.yaml"))


def test_there_is_one_for_each_kind_of_robot() -> None:
    assert {path.stem for path in PRESETS} == {"indoor", "outdoor", "handheld", "rig"}


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_holds_what_differs_from_the_defaults(path: Path) -> None:
    tree = yaml.safe_load(path.read_text())["/**"]["ros__parameters"]
    named = {f"{stage}.{leaf}" for stage, leaves in tree.items() for leaf in leaves}
    defaults = Config().flat()
    assert named == {name for name, value in Config.from_yaml(path).flat().items() if value != defaults[name]}


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_each_value_has_its_reason(path: Path) -> None:
    values = [line for line in path.read_text().splitlines() if re.match(r"\s+\w+: \S", line)]
    assert values
    for line in values:
        assert re.search(r"  # (measured|judgement)", line), line


def test_they_are_installed() -> None:
    assert 'glob("config/presets/*.yaml")' in (FOLDER.parents[1] / "setup.py").read_text()
