"""Every command of training answers at once: it parses its arguments before it imports what takes seconds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMANDS = (
    "cluster",
    "compare",
    "evaluate",
    "export.__main__",
    "labels.__main__",
    "masks",
    "parity_images",
    "segment",
    "train",
    "train_segmentation",
    "whiten",
    "data.readers.rosbag",
)


def test_no_command_is_forgotten() -> None:
    files = [path for path in (ROOT / "training").rglob("*.py") if '__name__ == "__main__"' in path.read_text()]
    names = {".".join(path.relative_to(ROOT / "training").with_suffix("").parts) for path in files}
    assert names == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_needs_no_torch(command: str) -> None:
    program = f"""
import sys
sys.modules["torch"] = sys.modules["lightning"] = sys.modules["matplotlib"] = None  # importing them raises ImportError
from training.{command} import parser
print(parser().format_help())
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    assert "usage:" in result.stdout


def test_a_torchvision_that_does_not_load_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text("raise ImportError('built for another torch')")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    command = [
        sys.executable,
        "-m",
        "training.train",
        "training/recipes/small_gcl.yaml",
        "--out",
        str(tmp_path / "out"),
    ]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    (line,) = result.stderr.splitlines()
    assert line.startswith("train: torchvision cannot be imported beside torch")
    assert "pip install --force-reinstall" in line


def test_help_of_a_package_names_its_command() -> None:
    for package in ("labels", "export"):
        command = [sys.executable, "-m", f"training.{package}", "--help"]
        result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
        assert result.stdout.startswith(f"usage: python -m training.{package}")
