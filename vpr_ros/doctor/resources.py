"""Are there memory, processor cores and room on the disk?"""

from __future__ import annotations

import os
import shlex
import tempfile
from pathlib import Path

from vpr_ros.doctor.finding import GIB, MIB, Finding, Level, size_text
from vpr_ros.files import expanded
from vpr_ros.machine import Machine

NEEDED_MEMORY = GIB // 2
WANTED_MEMORY = GIB
NEEDED_DISK = 100 * MIB
WANTED_DISK = GIB


def check_memory(machine: Machine) -> Finding:
    """How much memory is left, also under a container's limit?"""
    memory = machine.memory
    if "MemAvailable" not in memory:
        return Finding("memory", Level.SKIPPED, "/proc/meminfo cannot be read", "free -h    # want 1 GB available")
    free, said = memory["MemAvailable"], ""
    fix = "ps aux --sort=-rss | head    # what takes it; stop something or add swap"
    if tightest := _memory_limit(machine):
        limit, used = tightest
        said = f", this container may use {size_text(limit)} and uses {size_text(used)}"
        if limit - used < free:
            free, fix = max(0, limit - used), "docker run --memory=4g ...    # or MemoryMax= of the systemd unit"
    said = f"{size_text(free)} available of {size_text(memory.get('MemTotal', 0))}{said}"
    if free < NEEDED_MEMORY:
        return Finding("memory", Level.ERROR, f"{said}: the node needs {size_text(NEEDED_MEMORY)}", fix)
    if free < WANTED_MEMORY:
        return Finding("memory", Level.WARNING, f"{said}: little for a map that grows", fix)
    return Finding("memory", Level.OK, said)


def _memory_limit(machine: Machine) -> tuple[int, int] | None:
    """The limit of this process's control groups that leaves least, and what is used of it, in bytes."""
    found = []
    for line in machine.read("proc/self/cgroup").splitlines():
        number, controllers, group = line.split(":", 2)
        if number == "0":
            base, names = Path("sys/fs/cgroup"), ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            base, names = Path("sys/fs/cgroup/memory"), ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        inner = base / group.lstrip("/")
        # inside a container the group's path is the host's and is not there; its own is the root
        for folder in (inner, *(parent for parent in inner.parents if parent.is_relative_to(base))):
            limit, used = (machine.read(folder / name) for name in names)
            if limit.isdecimal() and used.isdecimal() and int(limit) < 2**60:
                found.append((int(limit), int(used)))
    return min(found, key=lambda pair: pair[0] - pair[1], default=None)


def check_cpu(machine: Machine, threads: int = 0) -> Finding:
    """How many cores this process may use, and whether they are throttled on purpose."""
    allowed, said = float(machine.cpus), f"{machine.cpus} cores"
    if (limit := machine.cpu_limit) is not None and limit < allowed:
        allowed, said = limit, f"{said}, of which a container's limit leaves {limit:.1f}"
    if threads > max(1.0, allowed):
        found = f"{said}: engine.threads {threads} are more than there are, which is slower than fewer"
        fix = f"--set engine.threads={max(1, int(allowed))}    # or 0: the engine chooses"
        return Finding("cpu", Level.WARNING, found, fix)
    slow = []
    for folder in sorted(machine.at("sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq")):
        # the powersave of these two drivers scales with the load; that of any other is the lowest frequency, always
        scales = machine.read(folder / "scaling_driver") in ("intel_pstate", "amd-pstate-epp")
        if machine.read(folder / "scaling_governor") == "powersave" and not scales:
            slow.append(folder.parent.name)
    if slow:
        found = f"{said}; the governor powersave holds {', '.join(slow)} at its lowest"
        fix = "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
        return Finding("cpu", Level.WARNING, found, fix)
    return Finding("cpu", Level.OK, said)


def check_folder(machine: Machine, name: str, folder: Path) -> Finding:
    """Can files be written there, and is there room? What is missing will be made, so its nearest parent counts."""
    folder = expanded(folder).absolute()
    existing = next(path for path in (folder, *folder.parents) if os.path.exists(path))
    wanted, there = shlex.quote(str(folder)), shlex.quote(str(existing))
    if not existing.is_dir():
        return Finding(name, Level.ERROR, f"{folder}: {existing} is no folder", f"mv {there} /tmp/")
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        fix = f"sudo mkdir -p {wanted} && sudo chown -R $USER {wanted}"
        return Finding(name, Level.ERROR, f"{folder}: nothing can be written there: {error.strerror}", fix)
    free = machine.disk_usage(existing).free
    said = f"{folder}, {size_text(free)} free" + ("" if existing == folder else " (will be made)")
    fix = f"df -h {there} && du -sh {there}/* | sort -h | tail    # what fills it"
    if free < NEEDED_DISK:
        return Finding(name, Level.ERROR, f"{said}: full", fix)
    if free < WANTED_DISK:
        return Finding(name, Level.WARNING, f"{said}: nearly full", fix)
    return Finding(name, Level.OK, said)
