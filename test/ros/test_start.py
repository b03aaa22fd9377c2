"""Mistakes at the start of the node, and signals while it starts: one line, no traceback."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

START = [sys.executable, "-m", "vpr_ros.ros.start", "--ros-args", "-p", "engine.backend:=onnxruntime"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["-r", "__ns:=robot1"], "Couldn't parse remap rule: '-r __ns:=robot1'"),
        (["-r", "image:=/1cam/image_raw"], "Couldn't parse remap rule"),
        (["--params-file", "/nowhere.yaml"], "/nowhere.yaml"),
        (["--log-level", "verbose"], "log level: '--log-level verbose'"),
        (["-p", "match.min_similarity=0.4"], "match.min_similarity=0.4"),
        (["-p", "match.min_similarity:=7"], "match.min_similarity must be in"),
        (
            ["-p", "qos_overrides./image.subscription.reliability:=reliabel"],
            "cannot subscribe: Unexpected QoS override",
        ),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], reason: str) -> None:
    done = subprocess.run([*START, *arguments], capture_output=True, text=True, timeout=250, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 1
    assert "Traceback" not in said
    assert any(reason in line and " at /" not in line for line in said.splitlines() if "[rcl]" not in line), said


@pytest.mark.parametrize(
    ("before", "reason"),
    [
        ("import faiss; del faiss.SearchParameters", "cannot search a part of an index"),
        ("import sys; sys.modules['vpr_msgs'] = None", "vpr_msgs does not import: "),
        ("import sys; sys.modules['faiss'] = None", "faiss does not import: "),
    ],
)
def test_a_library_that_does_not_work_is_one_line(before: str, reason: str) -> None:
    """Before any image comes: a node that fails at every frame looks alive."""
    program = f"{before}\nfrom vpr_ros.ros.start import main\nmain()"
    done = subprocess.run(
        [sys.executable, "-c", program, *START[3:]], capture_output=True, text=True, timeout=250, check=False
    )
    said = done.stdout + done.stderr
    assert done.returncode == 1
    assert "Traceback" not in said
    line = next(line for line in said.splitlines() if reason in line)
    assert "; type: " in line


def test_a_file_that_is_no_yaml(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("/**:\n ros__parameters:\n  match:\n   min_similarity: [0.4\n")
    done = subprocess.run(
        [*START, "--params-file", str(path)], capture_output=True, text=True, timeout=250, check=False
    )
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert str(path) in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_imports_ends_it(number: signal.Signals) -> None:
    """Before ROS handles signals: the process says when its own code has begun."""
    program = (
        "import sys, threading, time, importlib\n"
        "from vpr_ros.ros import start\n"
        "real = importlib.import_module\n"
        "class Slow:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'vpr_ros.ros.vpr_node':\n"
        "            print('importing', flush=True)\n"
        "            time.sleep(100)\n"
        "sys.meta_path.insert(0, Slow())\n"
        "start.main()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "importing\n"
    process.send_signal(number)
    _, errors = process.communicate(timeout=250)
    assert (process.returncode, errors) == (-number, "")
