"""A machine's processes: whatever happens in them is one line, with what to type."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from vpr_ros.machine import Machine, ProcessFailed


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os; os.abort()", "crashed with SIGABRT"),
        ("raise ImportError('libx.so.1: cannot open')", "ImportError: libx.so.1: cannot open"),
        ("import sys; sys.exit(7)", "ended with status 7"),
        ("import time; time.sleep(60)", "no answer in 1 s"),
        (
            "import os, sys; sys.stderr.write('AttributeError: _ARRAY_API not found'); sys.stderr.flush(); os.abort()",
            "crashed with SIGABRT (compiled for NumPy 1, this is NumPy 2)",
        ),
    ],
)
def test_a_process_that_ends_badly_is_one_line(code: str, said: str) -> None:
    with pytest.raises(ProcessFailed) as failure:
        Machine().run([sys.executable, "-c", code], 1.0 if "sleep" in code else 20.0)
    assert str(failure.value) == said


@pytest.mark.parametrize(
    ("failure", "fix"),
    [
        (
            "ImportError: /usr/lib/aarch64-linux-gnu/libgomp.so.1: cannot allocate memory in static TLS block",
            "export LD_PRELOAD=/usr/lib/aarch64-linux-gnu/libgomp.so.1",
        ),
        ("crashed with SIGSEGV (compiled for NumPy 1, this is NumPy 2)", "pip install 'numpy<2'"),
        ("ImportError: libGL.so.1: cannot open shared object file", "sudo apt install libgl1"),
        ("crashed with SIGILL", "OPENBLAS_CORETYPE=ARMV8"),
        ("ModuleNotFoundError: No module named 'faiss'", "the usual"),
    ],
)
def test_known_import_failures_have_their_own_fix(failure: str, fix: str) -> None:
    assert fix in ProcessFailed(failure).fix("the usual")


# --- description -------------------------------------------------------------------------------------------------------


def test_a_jetson_is_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    for path, content in {
        "proc/cpuinfo": "processor\t: 0\nBogoMIPS\t: 62.5\n",
        "proc/meminfo": "MemTotal:        7802520 kB\n",
        "proc/loadavg": "0.25 0.5 0.5 1/100 1\n",
        "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
        "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n",
        "etc/os-release": 'NAME="Ubuntu"\nPRETTY_NAME="Ubuntu 22.04.5 LTS"\n',
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "schedutil\n",
        "sys/fs/cgroup/cpu.max": "150000 100000\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(content)
    machine = Machine(root=tmp_path).description()
    assert machine.board == "NVIDIA Jetson Orin Nano Developer Kit"
    assert machine.jetpack == "R36.4.3 (JetPack 6)"
    assert machine.power == "governor schedutil"
    assert machine.system.startswith("Ubuntu 22.04.5 LTS, ")
    assert (machine.memory_gb, machine.load, machine.cpu_limit) == (8.0, 0.25, 1.5)
    assert machine.cpu  # the architecture, for want of a name


def test_a_machine_without_linux_files(tmp_path: Path) -> None:
    machine = Machine(root=tmp_path).description()
    assert (machine.board, machine.jetpack, machine.load, machine.cpu_limit) == ("", "", None, None)
    assert machine.versions["onnxruntime"]
