from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fake_machine import GB, Usage, assert_bad, put

from vpr_ros.doctor import Finding, Level
from vpr_ros.doctor.dds import check_dds_profile, check_discovery, check_receive_buffer, check_shared_memory
from vpr_ros.machine import Machine


@pytest.mark.parametrize(
    ("environment", "level", "fix"),
    [
        ({}, Level.OK, ""),
        ({"ROS_DOMAIN_ID": "42", "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}, Level.OK, ""),
        ({"ROS_DOMAIN_ID": "233"}, Level.ERROR, "export ROS_DOMAIN_ID="),
        ({"ROS_DOMAIN_ID": "robot"}, Level.ERROR, "export ROS_DOMAIN_ID="),
        ({"ROS_DOMAIN_ID": "102"}, Level.WARNING, "export ROS_DOMAIN_ID="),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "OFF"}, Level.WARNING, "=LOCALHOST"),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCAL"}, Level.ERROR, "=LOCALHOST"),
        ({"ROS_LOCALHOST_ONLY": "1", "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}, Level.WARNING, "unset ROS_LOCALHOST"),
        ({"ROS_DISCOVERY_SERVER": "10.0.0.1:11811"}, Level.WARNING, "ROS_SUPER_CLIENT=TRUE"),
        ({"ROS_DISCOVERY_SERVER": "10.0.0.1:11811", "ROS_SUPER_CLIENT": "TRUE"}, Level.OK, ""),
    ],
)
def test_discovery(machine: Machine, environment: dict[str, str], level: Level, fix: str) -> None:
    finding = check_discovery(replace(machine, environment=environment))
    assert (finding.level, bool(finding.fix)) == (level, bool(fix))
    assert fix in finding.fix
    assert all(value in finding.found for name, value in environment.items() if name != "ROS_SUPER_CLIENT")


def test_dds_profile_that_is_missing_broken_or_not_read(machine: Machine, tmp_path: Path) -> None:
    def check(**environment: str) -> Finding:
        return check_dds_profile(replace(machine, environment=environment))

    assert check().level is Level.OK
    nowhere = check(FASTDDS_DEFAULT_PROFILES_FILE="/nowhere.xml")
    assert_bad(nowhere, Level.ERROR, "/nowhere.xml cannot be read", "config/fastdds.xml")
    put(machine, "broken.xml", "<profiles>")
    assert_bad(
        check(CYCLONEDDS_URI=f"file://{tmp_path}/broken.xml"), Level.ERROR, "cannot be read", "unset CYCLONEDDS_URI"
    )
    put(machine, "fine.xml", "<profiles/>")
    fine = str(tmp_path / "fine.xml")
    assert check(FASTDDS_DEFAULT_PROFILES_FILE=fine, ROS_DISTRO="kilted").level is Level.OK
    old = check(FASTDDS_DEFAULT_PROFILES_FILE=fine, ROS_DISTRO="humble")
    assert_bad(old, Level.WARNING, "does not look at", f"export FASTRTPS_DEFAULT_PROFILES_FILE={fine}")
    assert check(CYCLONEDDS_URI="<CycloneDDS/>").level is Level.OK


def test_shared_memory(machine: Machine) -> None:
    assert_bad(check_shared_memory(machine), Level.ERROR, "no /dev/shm", "mount")
    machine.at("dev/shm").mkdir(parents=True)
    assert check_shared_memory(machine).level is Level.OK
    small = replace(machine, disk_usage=lambda _: Usage(64 * 2**20, 0, 64 * 2**20))
    assert_bad(check_shared_memory(small), Level.WARNING, "64 MB", "sudo mount -o remount,size=1G /dev/shm")
    put(small, ".dockerenv")
    assert_bad(check_shared_memory(small), Level.WARNING, "too little", "docker run --shm-size=1g")
    full = replace(machine, disk_usage=lambda _: Usage(8 * GB, 8 * GB, 2**20))
    assert_bad(check_shared_memory(full), Level.WARNING, "nearly full", "ls -lS /dev/shm")


def test_receive_buffer_matters_to_cyclone(machine: Machine) -> None:
    cyclone = replace(machine, environment={"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"})
    assert check_receive_buffer(cyclone).level is Level.SKIPPED
    put(machine, "proc/sys/net/core/rmem_max", "212992\n")
    assert_bad(check_receive_buffer(cyclone), Level.WARNING, "208 KB", "net.core.rmem_max=2147483647")
    assert check_receive_buffer(machine).level is Level.OK
    put(machine, "proc/sys/net/core/rmem_max", "2147483647\n")
    assert check_receive_buffer(cyclone).level is Level.OK
