from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from vpr_ros.benchmark.machine import this_machine


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
    machine = this_machine(tmp_path)
    assert machine.board == "NVIDIA Jetson Orin Nano Developer Kit"
    assert machine.jetpack == "R36.4.3 (JetPack 6)"
    assert machine.power == "governor schedutil"
    assert machine.system.startswith("Ubuntu 22.04.5 LTS, ")
    assert (machine.memory_gb, machine.load, machine.cpu_limit) == (8.0, 0.25, 1.5)
    assert machine.cpu  # the architecture, for want of a name


def test_a_machine_without_linux_files(tmp_path: Path) -> None:
    machine = this_machine(tmp_path)
    assert (machine.board, machine.jetpack, machine.load, machine.cpu_limit) == ("", "", None, None)
    assert machine.versions["onnxruntime"]
