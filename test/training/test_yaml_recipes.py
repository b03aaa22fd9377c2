from __future__ import annotations

from pathlib import Path

import pytest

from training.options import parse_overrides, read_yaml
from vpr_ros.errors import ConfigError

BAD = ("a: 2026-99-99", "a: " + "[" * 5000 + "]" * 5000, "a: !!int x", "a: &a [*a]", "a: {b")


@pytest.mark.parametrize("text", BAD, ids=range(len(BAD)))
def test_a_recipe_and_an_override_that_are_no_yaml_are_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"^\S+recipe\.yaml is not YAML[^\n]*$"):
        read_yaml(path)
    with pytest.raises(ConfigError, match=r"^loop\.steps=[^\n]*: not YAML[^\n]*$"):
        parse_overrides([f"loop.steps={text.removeprefix('a: ')}"])
