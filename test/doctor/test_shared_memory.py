"""What killed ROS processes left in /dev/shm is seen and removed, and nothing that anybody uses."""

from __future__ import annotations

import fcntl
import os
import pwd
import time
from dataclasses import replace
from pathlib import Path

import pytest
from fake_machine import put

from vpr_ros.doctor import Level, shared_memory
from vpr_ros.doctor.dds import check_shared_memory
from vpr_ros.doctor.shared_memory import leftovers, other_users, remove
from vpr_ros.machine import Machine

DEAD, ALIVE = "fastdds_0123456789abcdef", "fastrtps_fedcba9876543210"
OTHERS = ("fastdds", "mine_fastdds_0123", "sem.other", "fastdds_0123456789abcdef_el_", "fastdds_xyz")


def fill(machine: Machine, *names: str, age_s: float = 100.0) -> None:
    for name in names:
        put(machine, f"dev/shm/{name}", "x" * 10_000)
        old = time.time() - age_s
        os.utime(machine.at(f"dev/shm/{name}"), (old, old))


def names(machine: Machine) -> set[str]:
    return {path.name for path in machine.at("dev/shm").iterdir()}


def test_what_nobody_maps_is_seen_and_removed(machine: Machine) -> None:
    port = ("fastdds_port7411", "fastdds_port7411_el", "fastdds_port7411_sl", "sem.fastdds_port7411_mutex")
    fill(machine, DEAD, f"{DEAD}_el", ALIVE, f"{ALIVE}_el", *port, *OTHERS)
    put(
        machine,
        "proc/7/maps",
        f"7f00-7f01 rw-s 00000000 00:19 4                    /dev/shm/{ALIVE}\n7f02-7f03 rw-p 0 0:0 0\n",
    )
    found = leftovers(machine)
    assert [[file.name for file in each.files] for each in found] == [[DEAD, f"{DEAD}_el"], sorted(port)]
    assert found[0].size >= 20_000
    finding = check_shared_memory(machine)
    assert (finding.level, finding.fix) == (Level.WARNING, "vpr doctor --clear-shared-memory")
    assert "left by processes that died" in finding.found
    assert remove(found) == sum(each.size for each in found)
    assert names(machine) == {ALIVE, f"{ALIVE}_el", *OTHERS}
    assert leftovers(machine) == []
    assert check_shared_memory(machine).level is Level.OK


@pytest.mark.parametrize("mapped", ["fastdds_port7411", "sem.fastdds_port7411_mutex"])
def test_a_port_of_which_any_file_is_mapped_stays(machine: Machine, mapped: str) -> None:
    fill(machine, "fastdds_port7411", "fastdds_port7411_el", "sem.fastdds_port7411_mutex")
    put(machine, "proc/8/maps", f"7f00-7f01 rw-s 00000000 00:19 4   /dev/shm/{mapped} (deleted)\n")
    assert leftovers(machine) == []


def test_what_a_process_holds_a_lock_of_stays(machine: Machine) -> None:
    """One in a container that shares the memory: its maps cannot be seen."""
    fill(machine, DEAD, f"{DEAD}_el")
    found = leftovers(machine)
    with machine.at(f"dev/shm/{DEAD}_el").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert leftovers(machine) == []
        assert remove(found) == 0
    assert names(machine) == {DEAD, f"{DEAD}_el"}
    assert len(leftovers(machine)) == 1


def test_what_is_new_or_somebody_elses_is_not_judged(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(machine, DEAD, age_s=0.0)
    assert leftovers(machine) == []
    fill(machine, DEAD)
    monkeypatch.setattr(shared_memory.os, "geteuid", lambda: os.getuid() + 1)
    assert leftovers(machine) == []


def test_links_are_not_followed(machine: Machine, tmp_path: Path) -> None:
    fill(machine, ALIVE)
    link = machine.at(f"dev/shm/{DEAD}")
    link.symlink_to(tmp_path / "elsewhere")
    os.utime(link, (0, 0), follow_symlinks=False)
    assert [each.files[0].name for each in leftovers(machine)] == [ALIVE]


def test_there_is_none(machine: Machine) -> None:
    assert leftovers(replace(machine, root=Path("/nowhere"))) == []


@pytest.mark.parametrize("held", [f"{ALIVE}_el", "fastdds_port7411_el"])
def test_fast_dds_of_another_user_is_named_while_it_runs(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, held: str
) -> None:
    """Fast DDS takes what it can see for shared, and cannot open it: nothing arrives, and nothing is logged."""
    fill(machine, ALIVE, f"{ALIVE}_el", "fastdds_port7411", "fastdds_port7411_el")
    user = pwd.getpwuid(os.getuid()).pw_name
    with machine.at(f"dev/shm/{held}").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert other_users(machine) == []  # they are ours
        monkeypatch.setattr(shared_memory.os, "geteuid", lambda: os.getuid() + 1)
        assert other_users(machine) == [user]
        finding = check_shared_memory(machine)
        assert finding.level is Level.WARNING
        assert f"({user})" in finding.found
        assert "one user" in finding.fix
    assert other_users(machine) == []  # left by a process that died
    assert check_shared_memory(machine).level is Level.OK


def test_a_user_without_a_name_is_a_number(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(number: int) -> None:
        raise KeyError(number)

    fill(machine, ALIVE)
    monkeypatch.setattr(shared_memory.os, "geteuid", lambda: os.getuid() + 1)
    monkeypatch.setattr(shared_memory.pwd, "getpwuid", nobody)
    with machine.at(f"dev/shm/{ALIVE}").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert other_users(machine) == [str(os.getuid())]
