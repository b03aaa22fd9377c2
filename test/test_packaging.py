"""What holds the package together: one description of it, and imports that point one way."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from vpr_ros.config import Config, ros_yaml
from vpr_ros.types import MatchStatus

ROOT = Path(__file__).parents[1]

# A module may import from its own level and from those below; everything on the top level is a shell of its own.
LEVELS = (
    {
        "errors",
        "types",
        "config",
        "rotations",
        "calibration",
        "extrinsics",
        "images",
        "image_decoder",
        "share",
        "stopwatch",
        "trajectory",
        "whole_file",
    },
    {"model", "engines"},
    {"map"},
    {"recognition"},
    {"sources", "bags", "replay", "run_folder", "evaluation", "doctor", "benchmark"},
    {"cli", "ros"},
)
LEVEL = {module: level for level, modules in enumerate(LEVELS) for module in modules}
MODULES = sorted((ROOT / "vpr_ros").rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Full names of what a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def name(path: Path) -> str:
    """`vpr_ros/map/index/faiss_index.py` -> `vpr_ros.map.index.faiss_index`."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_imports_point_down(path: Path) -> None:
    importer = name(path).removeprefix("vpr_ros").strip(".").partition(".")[0] or "errors"  # vpr_ros itself: lowest
    for imported in imports(path):
        package, _, rest = imported.partition(".")
        assert package not in ("training", "demo_world"), f"{name(path)} imports {package}, which no robot has"
        target = rest.partition(".")[0]
        if package != "vpr_ros" or target == importer:
            continue
        assert {importer, target} <= LEVEL.keys(), "test_packaging.py must say which level a new module is on"
        assert LEVEL[importer] >= LEVEL[target], f"{name(path)} imports {imported}, which is above it"
        assert LEVEL[target] < len(LEVELS) - 1, f"{name(path)} imports {imported}: cli and ros stay apart"


def test_robot_needs_no_torch_and_core_no_ros() -> None:
    core = [name(path) for path in MODULES if "ros" not in path.relative_to(ROOT / "vpr_ros").parts]
    program = f"""
import importlib, sys
for blocked in ("rclpy", "vpr_msgs", "torch", "training", "demo_world"):
    sys.modules[blocked] = None  # importing it raises ImportError
for module in {core}:
    importlib.import_module(module)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr


def test_package_xml_is_the_only_description() -> None:
    package = ElementTree.parse(ROOT / "package.xml").getroot()
    setup = subprocess.run(
        [sys.executable, "setup.py", "--name", "--version", "--license"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert setup.stdout.split() == [package.findtext(tag) for tag in ("name", "version", "license")]


def test_vpr_msgs_has_the_same_version() -> None:
    versions = {ElementTree.parse(ROOT / folder / "package.xml").findtext("version") for folder in (".", "vpr_msgs")}
    assert len(versions) == 1


def test_parameter_file_is_up_to_date() -> None:
    assert (ROOT / "config" / "vpr.yaml").read_text() == ros_yaml(Config()), (
        "run: .venv/bin/python -m vpr_ros.config > config/vpr.yaml"
    )


def test_match_status_equals_the_message() -> None:
    message = (ROOT / "vpr_msgs" / "msg" / "PlaceMatch.msg").read_text()
    constants = {name: int(value) for name, value in re.findall(r"^uint8 (\w+)=(\d+)", message, re.MULTILINE)}
    assert constants == {status.name: status.value for status in MatchStatus}
