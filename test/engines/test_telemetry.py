"""A robot reports to nobody: opened engines leave no files but ours, where libraries would keep who they report as."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_worlds import save_grid_model

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import sys
from vpr_ros import Config, PlaceModel, open_engine
model = PlaceModel.open(sys.argv[1])
open_engine(model, Config().with_values({"engine.backend": sys.argv[2], "engine.precision": "fp32"}).engine).close()
print("openvino_telemetry" in sys.modules)
"""


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_opened_engines_leave_no_device_id(tmp_path: Path, backend: str) -> None:
    if backend == "openvino":
        pytest.importorskip("openvino")
    home = tmp_path / "home"
    home.mkdir()
    model = save_grid_model(tmp_path / "grid.onnx")
    environment = {k: v for k, v in os.environ.items() if k not in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME", "CI")}
    environment |= {"HOME": str(home), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PROGRAM, str(model), backend]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "False"
    left = {path.relative_to(home).parts[:2] for path in home.rglob("*") if path.is_file()}
    assert left <= {(".cache", "vpr_ros")}
