from __future__ import annotations

import sys
from pathlib import Path

import pytest
from fake_machine import GB, Usage

from vpr_ros.machine import Machine


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """An empty machine with the real Python: files come from `tmp_path`; modules there shadow real ones."""
    (tmp_path / "modules").mkdir()
    return Machine(
        root=tmp_path,
        environment={"PATH": "/usr/bin"},
        path=(str(tmp_path / "modules"), *sys.path),
        cpus=4,
        disk_usage=lambda _: Usage(100 * GB, 0, 100 * GB),
    )
