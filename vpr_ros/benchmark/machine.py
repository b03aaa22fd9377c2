"""What machine this is."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vpr_ros.engines.nvidia_driver import NvidiaDriver
from vpr_ros.errors import EngineError

_PACKAGES = (
    "vpr_ros numpy onnx onnxruntime onnxruntime-gpu openvino tensorrt tensorrt-cu12 tensorrt-cu13 pycuda"
    " tensorrt-rtx-cu12 tensorrt-rtx-cu13"
    " opencv-python opencv-python-headless"
)


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a table was measured; nothing that names its owner. Empty or None is what it has not."""

    cpu: str
    cores: int
    """That this process may use."""
    cpu_limit: float | None
    """Cores' worth of time that a container may use."""
    memory_gb: float
    gpu: str
    board: str
    jetpack: str
    power: str
    """Power mode of a Jetson and the governor of the CPU: both change every figure."""
    system: str
    python: str
    load: float | None
    """Processes that wanted to run in the minute before: near 0 on a machine that was free."""
    versions: Mapping[str, str]
    """Of what computes."""


def this_machine(root: Path = Path("/")) -> Machine:
    """What computes here. `root` is where `proc`, `sys` and `etc` are."""

    def read(path: str) -> str:
        try:
            return (root / path).read_text(errors="replace").strip("\0\n ")
        except OSError:
            return ""

    def found(pattern: str, path: str) -> str:
        match = re.search(pattern, read(path), re.MULTILINE)
        return match[1].strip() if match else ""

    quota = read("sys/fs/cgroup/cpu.max").split()
    has_limit = len(quota) == 2 and quota[0].isdecimal()
    name = found(r'^PRETTY_NAME="?([^"\n]+)', "etc/os-release") or platform.system()
    governor = read("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    power = [_power_mode(), f"governor {governor}" if governor else ""]
    return Machine(
        cpu=found(r"^(?:model name|Model)\s*:(.*)", "proc/cpuinfo") or platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        cpu_limit=int(quota[0]) / int(quota[1]) if has_limit else None,
        memory_gb=round(int(found(r"^MemTotal:\s+(\d+) kB", "proc/meminfo") or 0) * 1024 / 1e9, 1),
        gpu=_gpu(),
        board=read("proc/device-tree/model"),
        jetpack=_jetpack(read("etc/nv_tegra_release")),
        power=", ".join(part for part in power if part),
        system=f"{name}, {platform.release()}, {platform.machine()}",
        python=platform.python_version(),
        load=float(load.partition(" ")[0]) if (load := read("proc/loadavg")) else None,
        versions=_versions(),
    )


def _versions() -> dict[str, str]:
    versions = {}
    for package in _PACKAGES.split():
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


def _gpu() -> str:
    try:
        driver = NvidiaDriver()
        return f"{driver.device()}, driver for {driver.version()}"
    except EngineError:
        return ""


def _jetpack(release: str) -> str:
    """`R36.4.3 (JetPack 6)` of a line like `# R36 (release), REVISION: 4.3, GCID: ...`."""
    found = re.search(r"R(\d+).*?REVISION: ([\d.]+)", release)
    if not found:
        return release
    jetpack = {"32": " (JetPack 4)", "35": " (JetPack 5)", "36": " (JetPack 6)", "38": " (JetPack 7)"}
    return f"R{found[1]}.{found[2]}{jetpack.get(found[1], '')}"


def _power_mode() -> str:
    """Of a Jetson: `15W`."""
    command = shutil.which("nvpmodel")
    if not command:
        return ""
    try:
        said = subprocess.run([command, "-q"], capture_output=True, text=True, timeout=5).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = re.search(r"NV Power Mode:\s*(.+)", said)
    return f"power mode {found[1].strip()}" if found else ""
