"""Imports that point one way, as in test_packaging.py: who reads data needs nothing of what trains on it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
READERS = sorted(path.stem for path in (ROOT / "training" / "data" / "readers").glob("*.py") if path.stem != "__init__")


def test_readers_need_neither_the_loop_nor_its_framework() -> None:
    program = f"""
import importlib, sys
for blocked in ("lightning", "training.train", "training.module", "training.recipe", "training.evaluation"):
    sys.modules[blocked] = None  # importing it raises ImportError
for reader in {READERS}:
    importlib.import_module(f"training.data.readers.{{reader}}")
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert len(READERS) > 10
    assert result.returncode == 0, result.stderr
