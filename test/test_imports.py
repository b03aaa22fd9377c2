"""What does not import is one line that names the module, the reason and what to type, at every entrance."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vpr_ros.imports import import_failure
from vpr_ros.machine import Machine

ROOT = Path(__file__).parents[1]
CASES = [
    ("faiss", "", "faiss does not import: ModuleNotFoundError: No module named 'faiss'", "pip install faiss-cpu"),
    ("cv2", "raise ImportError('numpy.core.multiarray failed to import')", "(compiled for NumPy 1", "install 'numpy<2'"),
    ("faiss", "raise ModuleNotFoundError(\"No module named 'numpy._core'\", name='numpy._core')",
     "faiss does not import: ModuleNotFoundError: No module named 'numpy._core' (compiled for a newer", "install -U "),
    ("jinja2", "import no_such_module", "jinja2 does not import: ModuleNotFoundError", "pip install no_such_module"),
    ("matplotlib", "raise AttributeError('_ARRAY_API not found')", "matplotlib does not import", "'numpy<2'"),
    ("faiss", "raise ImportError('undefined symbol')", "faiss does not import: ImportError: undefined", "vpr doctor"),
]  # fmt: skip


def broken(tmp_path: Path, module: str, code: str) -> dict[str, str]:
    """The environment of a process in which a module fails, or is not there."""
    (tmp_path / f"{module}.py").write_text(
        code or f"raise ModuleNotFoundError(\"No module named '{module}'\", name={module!r})"
    )
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH", "")])}


@pytest.mark.parametrize(("module", "code", "found", "fix"), CASES)
def test_the_command_line(tmp_path: Path, module: str, code: str, found: str, fix: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vpr_ros.cli", "replay", str(tmp_path)],
        env=broken(tmp_path, module, code),
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("vpr: ")
    assert done.stderr.count("\n") == 1, done.stderr
    assert found in done.stderr
    assert fix in done.stderr.partition("; type: ")[2]


@pytest.mark.parametrize(
    ("module", "fix"),
    [("rclpy", "source /opt/ros/"), ("sensor_msgs", "source /opt/ros/"), ("vpr_msgs", "ln -s vpr_ros/vpr_msgs ")],
)
def test_of_ros(module: str, fix: str) -> None:
    error = ModuleNotFoundError(f"No module named '{module}'", name=module)
    assert import_failure(error, Machine()).partition("; type: ")[2].startswith("source ")
    assert fix in import_failure(error, Machine())
