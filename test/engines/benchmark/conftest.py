from __future__ import annotations

from pathlib import Path

import pytest

from vpr_ros.config import EngineConfig
from vpr_ros.engines.benchmark.case import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(EngineConfig(threads=1), tmp_path / "engines", rounds=7)
