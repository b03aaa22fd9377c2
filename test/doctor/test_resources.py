"""Memory, cores and folders of machines whose /proc, /sys and disk are made up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fake_machine import GB, Usage, assert_bad, put

from vpr_ros.doctor import Level
from vpr_ros.doctor.resources import check_cpu, check_folder, check_memory
from vpr_ros.machine import Machine


def meminfo(machine: Machine, available_mb: int) -> None:
    put(machine, "proc/meminfo", f"MemTotal:       8000000 kB\nMemAvailable:   {available_mb * 1024} kB\n")


def test_memory(machine: Machine) -> None:
    assert check_memory(machine).level is Level.SKIPPED
    meminfo(machine, 4096)
    assert check_memory(machine).level is Level.OK
    meminfo(machine, 900)
    assert_bad(check_memory(machine), Level.WARNING, "900 MB available", "ps aux")
    meminfo(machine, 400)
    assert_bad(check_memory(machine), Level.ERROR, "400 MB available", "ps aux")


@pytest.mark.parametrize(
    ("group", "folder", "limit", "used"),
    [
        ("0::/", "sys/fs/cgroup", "memory.max", "memory.current"),
        ("0::/system.slice/robot.service", "sys/fs/cgroup/system.slice", "memory.max", "memory.current"),
        (
            "4:memory:/docker/0123",
            "sys/fs/cgroup/memory",
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
        ),
    ],
)
def test_memory_limit_of_a_container(machine: Machine, group: str, folder: str, limit: str, used: str) -> None:
    meminfo(machine, 4096)
    put(machine, "proc/self/cgroup", f"9:cpu:/\n{group}\n")
    put(machine, f"{folder}/{used}", str(800 * 2**20))
    put(machine, f"{folder}/{limit}", "max" if limit == "memory.max" else "9223372036854771712")
    assert check_memory(machine).level is Level.OK
    put(machine, f"{folder}/{limit}", str(1000 * 2**20))
    assert_bad(check_memory(machine), Level.ERROR, "200 MB available", "docker run --memory")


def test_cpu_governor(machine: Machine) -> None:
    assert check_cpu(machine).level is Level.OK
    for driver, level in (("intel_pstate", Level.OK), ("tegra194", Level.WARNING)):
        put(machine, "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n")
        put(machine, "sys/devices/system/cpu/cpu0/cpufreq/scaling_driver", driver)
        assert check_cpu(machine).level is level
    assert_bad(check_cpu(machine), Level.WARNING, "holds cpu0 at its lowest", "scaling_governor")


def test_more_threads_than_cores(machine: Machine) -> None:
    assert check_cpu(machine, threads=4).level is Level.OK
    assert_bad(check_cpu(machine, threads=5), Level.WARNING, "4 cores", "engine.threads=4")
    put(machine, "sys/fs/cgroup/cpu.max", "150000 100000\n")
    assert_bad(check_cpu(machine, threads=4), Level.WARNING, "leaves 1.5", "engine.threads=1")
    put(machine, "sys/fs/cgroup/cpu.max", "max 100000\n")
    assert check_cpu(machine, threads=4).level is Level.OK


def test_folders(machine: Machine, tmp_path: Path) -> None:
    made = check_folder(machine, "maps folder", tmp_path / "a" / "b")
    assert made.level is Level.OK
    assert made.found.endswith("(will be made)")
    assert not (tmp_path / "a").exists(), "a check leaves nothing behind"
    put(machine, "file")
    in_a_file = check_folder(machine, "maps folder", tmp_path / "file" / "maps")
    assert_bad(in_a_file, Level.ERROR, "is no folder", f"mv {tmp_path}/file")
    unwritable = check_folder(machine, "maps folder", Path("/proc/vpr maps"))
    assert_bad(unwritable, Level.ERROR, "nothing can be written", "sudo chown -R $USER '/proc/vpr maps'")
    for free, level in ((50 * 2**20, Level.ERROR), (500 * 2**20, Level.WARNING)):
        filled = replace(machine, disk_usage=lambda _, free=free: Usage(GB, GB, free))
        assert_bad(check_folder(filled, "maps folder", tmp_path), level, f"{free // 2**20} MB free", "df -h")


def test_home_folder_is_expanded(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert str(tmp_path / "maps") in check_folder(machine, "maps folder", Path("~/maps")).found
