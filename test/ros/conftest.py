"""Real rclpy nodes in real processes. Skipped where ROS 2 is not installed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
os.environ.setdefault("AMENT_PREFIX_PATH", sys.prefix)
os.environ.setdefault("ROS_PYTHON_CHECK_FIELDS", "1")
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ["FASTDDS_DEFAULT_PROFILES_FILE"] = str(ROOT / "config" / "fastdds.xml")
os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 100)  # two test runs on one machine must not hear each other

collect_ignore_glob: list[str] = []
try:
    import rclpy
    import vpr_msgs.msg  # noqa: F401
except ImportError as error:
    collect_ignore_glob = ["test_*.py"]
    print(f"test/ros is skipped: {error}")

PARAMETERS: dict[str, object] = {
    "keyframe.min_interval_s": 0.0,
    "keyframe.max_similarity": 1.0,
    "exclusion.time_s": 3.0,
    "exclusion.count": 0,
    "match.min_similarity": 0.6,
    "match.island_gap": 0,
    "consistency.window": 1,
    "consistency.min_hits": 1,
    "engine.threads": 1,
    "engine.backend": "onnxruntime",
}


@pytest.fixture(scope="session", autouse=True)
def _ros() -> Iterator[None]:
    rclpy.init()
    yield
    rclpy.try_shutdown()


@pytest.fixture
def parameters(grid_model_path: Path, tmp_path: Path) -> dict[str, object]:
    return PARAMETERS | {"model.path": str(grid_model_path), "node.maps_directory": str(tmp_path / "maps")}


@pytest.fixture
def node(parameters: dict[str, object]) -> Iterator[Any]:
    """A running `NodeUnderTest`."""
    from harness import NodeUnderTest

    with NodeUnderTest(parameters) as running:
        yield running
