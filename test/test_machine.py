"""A machine's processes: whatever happens in them is one line, with what to type."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
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
    assert fix in Machine().fix(ProcessFailed(failure), "the usual")


# --- pip: what is proposed must not break what apt installed ----------------------------------------------------------------


def apt(tmp_path: Path, numpy: str = "", *, distribution: str = "", managed: bool = False) -> Machine:
    """A machine whose Python is the system's, with this NumPy behind the one that pip installed."""
    user, system = tmp_path / "home/lib", tmp_path / "usr/lib/python3/dist-packages"
    for folder, version in ((user, "2.2.6"), (system, numpy)):
        info = folder / f"numpy-{version}.dist-info/METADATA"
        if version:
            info.parent.mkdir(parents=True)
            info.write_text(f"Metadata-Version: 2.1\nName: numpy\nVersion: {version}\n")
    if distribution:
        (tmp_path / "opt/ros" / distribution).mkdir(parents=True)
    if managed:
        (tmp_path / "usr/lib/python3.12").mkdir(parents=True, exist_ok=True)
        (tmp_path / "usr/lib/python3.12/EXTERNALLY-MANAGED").touch()
    environment = {"PATH": "", "ROS_DISTRO": distribution}
    return Machine(tmp_path, environment, (str(user), str(system)), "/usr/bin/python3", (3, 12))


@pytest.mark.parametrize(("numpy", "distribution"), [("1.21.5", ""), ("1.26.4", ""), ("", "humble"), ("", "jazzy")])
def test_where_the_system_has_numpy_1_pip_never_brings_numpy_2(tmp_path: Path, numpy: str, distribution: str) -> None:
    machine = apt(tmp_path, numpy, distribution=distribution)
    assert machine.pip_install("faiss-cpu>=1.7.3").endswith("pip install 'faiss-cpu>=1.7.3' 'numpy<2'")
    assert machine.pip_install("onnxruntime", "numpy").endswith("pip install onnxruntime 'numpy<2'")
    crashed = ProcessFailed("crashed with SIGSEGV (compiled for NumPy 1, this is NumPy 2)")
    assert machine.fix(crashed, "pip install newer").endswith("pip install 'numpy<2'")


@pytest.mark.parametrize(("numpy", "distribution"), [("", ""), ("2.3.1", ""), ("2.3.1", "lyrical")])
def test_where_nothing_needs_numpy_1_pip_is_free(tmp_path: Path, numpy: str, distribution: str) -> None:
    machine = apt(tmp_path, numpy, distribution=distribution)
    assert machine.pip_install("onnxruntime", "numpy").endswith("pip install onnxruntime numpy")


def test_numpy_that_is_too_old_is_updated(tmp_path: Path) -> None:
    failure = ProcessFailed("ModuleNotFoundError: No module named 'numpy._core' (compiled for a newer NumPy)")
    assert apt(tmp_path, "1.21.5").fix(failure, "the usual").endswith("pip install -U 'numpy<2'")
    code = "raise RuntimeError('module compiled against API version 0x10 but this version of numpy is 0xe')"
    with pytest.raises(ProcessFailed, match=r"\(compiled for a newer NumPy\)$"):
        Machine().run([sys.executable, "-c", code], 20.0)


def test_where_pip_is_refused_it_is_typed_so_that_it_is_not(tmp_path: Path) -> None:
    """PEP 668, on Ubuntu 24.04; a virtual environment is free of it."""
    managed = apt(tmp_path, managed=True)
    assert managed.pip("uninstall -y a") == "/usr/bin/python3 -m pip uninstall --break-system-packages -y a"
    in_venv = replace(managed, python=str(tmp_path / "my venv/bin/python"))
    assert in_venv.pip("uninstall -y a") == f"'{tmp_path}/my venv/bin/python' -m pip uninstall -y a"


def test_the_pip_of_this_python_is_called_pip(tmp_path: Path) -> None:
    """And never that of another one, which is first on the path where a virtual environment is not activated."""
    for folder in ("mine", "other"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "pip").touch(0o755)
    python = str(tmp_path / "mine/python")
    mine = Machine(environment={"PATH": f"{tmp_path}/mine:{tmp_path}/other"}, path=(), python=python)
    assert mine.pip_install("a") == "pip install a"
    other = replace(mine, environment={"PATH": f"{tmp_path}/other:{tmp_path}/mine"})
    assert other.pip_install("a") == f"{python} -m pip install a"


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
