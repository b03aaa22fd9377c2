from __future__ import annotations

import json

import pytest

from vpr_ros.doctor import Finding, Level, summary


def test_a_finding_says_what_to_type_exactly_if_it_is_not_ok() -> None:
    with pytest.raises(ValueError, match="names its fix"):
        Finding("disk", Level.ERROR, "full")
    with pytest.raises(ValueError, match="names its fix"):
        Finding("disk", Level.OK, "empty", "rm")


def test_a_finding_survives_json() -> None:
    finding = Finding("disk", Level.WARNING, "nearly full", "df -h")
    assert Finding.from_json(json.loads(json.dumps(finding.to_json()))) == finding


def test_lines_are_aligned_and_coloured_only_if_asked() -> None:
    good, bad = Finding("cpu", Level.OK, "4 cores"), Finding("maps folder", Level.ERROR, "full", "df -h")
    (first,), (second, fix) = good.lines(), bad.lines()
    assert first.index("4 cores") == second.index("full") == fix.index("-> type: df -h")
    assert "\033" not in first + second + fix
    assert bad.lines(colour=True)[0].startswith("\033[31mERROR\033[0m")
    assert summary([good, bad, bad]) == "3 checks: 1 OK, 2 errors"
