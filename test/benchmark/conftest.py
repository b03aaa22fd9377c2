from __future__ import annotations

from pathlib import Path

import pytest

from vpr_ros.benchmark.case import Settings
from vpr_ros.config import Config


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(Config().with_values({"engine.threads": 1}), tmp_path / "engines", rounds=7)
