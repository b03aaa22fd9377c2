"""What a check found, for people and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from vpr_ros.printable import printable

MIB, GIB = 2**20, 2**30
NAME_WIDTH = 14


class Level(Enum):
    OK = "OK"
    WARNING = "WARN"
    ERROR = "ERROR"
    SKIPPED = "SKIP"


COLOURS = {Level.OK: 32, Level.WARNING: 33, Level.ERROR: 31, Level.SKIPPED: 36}


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found. `fix` is what to type, empty only if all is well. Raises ValueError otherwise."""

    name: str
    level: Level
    found: str
    fix: str = ""

    def __post_init__(self) -> None:
        if (self.level is Level.OK) != (not self.fix):
            raise ValueError(f"{self.name}: a finding names its fix exactly if it is not OK")

    def lines(self, colour: bool = False) -> list[str]:
        """For people: one line, and one with what to type unless all is well."""
        mark = f"{self.level.value:<5}"
        if colour:
            mark = f"\033[{COLOURS[self.level]}m{mark}\033[0m"
        first = f"{mark}  {self.name:<{NAME_WIDTH}}  {printable(self.found)}"
        return [first, f"{'':<{NAME_WIDTH + 9}}-> type: {printable(self.fix)}"] if self.fix else [first]

    def to_json(self) -> dict[str, str]:
        return {"name": self.name, "level": self.level.name, "found": self.found, "fix": self.fix}

    @classmethod
    def from_json(cls, item: Mapping[str, str]) -> Finding:
        return cls(item["name"], Level[item["level"]], item["found"], item["fix"])


def summary(findings: Sequence[Finding]) -> str:
    """`24 checks: 22 OK, 1 warning, 1 error`."""
    count = {level: sum(finding.level is level for finding in findings) for level in Level}
    parts = [f"{count[Level.OK]} OK"]
    for level, word in ((Level.WARNING, "warning"), (Level.ERROR, "error")):
        if count[level]:
            parts.append(f"{count[level]} {word}{'s' if count[level] > 1 else ''}")
    if count[Level.SKIPPED]:
        parts.append(f"{count[Level.SKIPPED]} skipped")
    return f"{len(findings)} checks: {', '.join(parts)}"


def size_text(count: float) -> str:
    """`1536 MB`, `23.5 GB`, in powers of 1024."""
    if count < MIB:
        return f"{count / 1024:.0f} KB"
    if count < 2 * GIB:
        return f"{count / MIB:.0f} MB"
    return f"{count / GIB:.1f} GB"
