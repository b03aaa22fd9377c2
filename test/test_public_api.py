"""The names that users import: there, lazy, and the ones that the documentation calls stable."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

import vpr_ros

ROOT = Path(__file__).parents[1]
VERSION = ElementTree.parse(ROOT / "package.xml").findtext("version")


def in_a_child(program: str, *arguments: str, cwd: Path = ROOT) -> str:
    """What a new interpreter prints that has imported nothing yet."""
    command = [sys.executable, *arguments, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=cwd).stdout


def test_importing_the_package_loads_no_library() -> None:
    program = "import sys; before = set(sys.modules); import vpr_ros; print(*(set(sys.modules) - before))"
    loaded = {name.partition(".")[0] for name in in_a_child(program).split()}
    assert "vpr_ros" in loaded
    assert not loaded & {"numpy", "cv2", "onnxruntime", "faiss", "yaml", "rosbags", "rclpy", "torch", "email"}


@pytest.mark.parametrize("name", vpr_ros.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert name in dir(vpr_ros)
    assert in_a_child(f"import vpr_ros; print(vpr_ros.{name})").strip()


def test_a_name_is_its_module_s_own() -> None:
    from vpr_ros.config import Config
    from vpr_ros.recognition.loop_detector import LoopDetector
    from vpr_ros.sources import open_source

    assert (vpr_ros.Config, vpr_ros.LoopDetector, vpr_ros.open_source) == (Config, LoopDetector, open_source)


def test_a_misspelt_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'LoopDetektor'"):
        vpr_ros.LoopDetektor  # noqa: B018
    with pytest.raises(ImportError):
        from vpr_ros import LoopDetektor  # type: ignore[attr-defined]  # noqa: F401


def test_the_version_is_package_xml_s_in_a_checkout_that_is_not_installed(tmp_path: Path) -> None:
    shutil.copy(ROOT / "package.xml", tmp_path)
    (tmp_path / "vpr_ros").mkdir()
    shutil.copy(ROOT / "vpr_ros" / "__init__.py", tmp_path / "vpr_ros")
    assert in_a_child("import vpr_ros; print(vpr_ros.__version__)", "-S", cwd=tmp_path).strip() == VERSION


def test_the_documentation_lists_exactly_the_public_names() -> None:
    page = (ROOT / "docs" / "python_api.md").read_text()
    table = page.partition("## What is stable")[2].partition("\n## ")[0]
    documented = set(re.findall(r"^\| `vpr_ros\.(\w+)", table, re.MULTILINE))
    assert documented == set(vpr_ros.__all__)
