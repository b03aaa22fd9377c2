"""What holds the package together: one description of it, and a core that runs alone.

That imports point one way is checked by import-linter (.importlinter), in `make lint`.
"""

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

from vpr_ros.config import Config, ros_yaml
from vpr_ros.types import MatchStatus

ROOT = Path(__file__).parents[1]

MODULES = sorted(
    set((ROOT / "vpr_ros").rglob("*.py")) - {ROOT / "vpr_ros" / "__init__.py"}
)  # which names them all, lazily


def name(path: Path) -> str:
    """`vpr_ros/map/index/faiss_index.py` -> `vpr_ros.map.index.faiss_index`."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


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
