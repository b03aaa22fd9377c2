"""torchvision beside a torch of another build."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

MISMATCHED = {
    "__init__.py": "from . import early, operators\nmodels = 'models'\n",
    "early.py": "loaded = True\n",
    "operators.py": """
import torch
@torch.library.register_fake("torchvision::nms")
def nms(dets, scores, iou_threshold): ...
""",
}
PROGRAM = """
try:
    import torchvision
except (RuntimeError, ImportError):
    print("broken")
from training.models.torchvision_wheel import import_torchvision
print(import_torchvision().models)
import torchvision
print(import_torchvision() is torchvision)
"""


def run(folder: Path, files: dict[str, str]) -> subprocess.CompletedProcess[str]:
    (folder / "torchvision").mkdir()
    for name, text in files.items():
        (folder / "torchvision" / name).write_text(text)
    path = f"import sys; sys.path[:0] = [{str(folder)!r}, {str(Path(__file__).parents[3])!r}]\n"
    return subprocess.run([sys.executable, "-c", path + PROGRAM], capture_output=True, text=True, check=False)


def test_a_torchvision_whose_operators_do_not_load_is_imported(tmp_path: Path) -> None:
    done = run(tmp_path, MISMATCHED)
    assert done.stdout.split() == ["broken", "models", "True"], done.stderr


def test_another_failure_is_one_line_with_the_fix(tmp_path: Path) -> None:
    done = run(tmp_path, {"__init__.py": "raise ImportError('out of luck')"})
    assert done.returncode != 0
    assert "ImportError: out of luck" in done.stderr
    last = done.stderr.splitlines()[-1]
    assert "ModelError: torchvision cannot be imported beside torch" in last
    assert "pip install --force-reinstall -c constraints.txt torch torchvision" in last
