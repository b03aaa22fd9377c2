"""Machines with faults for the doctor: files, Python modules and packages that are only there, in a folder."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import replace

from vpr_ros.doctor import Finding, Level
from vpr_ros.machine import Machine

GB = 2**30
Usage = namedtuple("Usage", "total used free")  # as shutil's


def put(machine: Machine, path: str, text: str = "") -> None:
    file = machine.at(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def module(machine: Machine, name: str, code: str) -> None:
    put(machine, f"modules/{name}.py", code)


def package(machine: Machine, name: str, version: str) -> None:
    folder = f"modules/{name.replace('-', '_')}-{version}.dist-info"
    put(machine, f"{folder}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def alone(machine: Machine) -> Machine:
    """The same without what is really installed here."""
    return replace(machine, path=(str(machine.root / "modules"),))


def assert_bad(finding: Finding, level: Level, found: str, fix: str) -> None:
    assert finding.level is level, finding
    assert found in finding.found
    assert fix in finding.fix
