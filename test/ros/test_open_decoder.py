"""`node.image_decoder` against machines with and without a cv_bridge that works."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cv_bridges import ABORTS, ENCODINGS, install
from harness import image_msg

from vpr_ros.config import Config, NodeConfig
from vpr_ros.errors import ConfigError
from vpr_ros.machine import Machine
from vpr_ros.ros.open_decoder import open_decoder


def config(choice: str, transport: str = "raw") -> NodeConfig:
    return Config().with_values({"node.image_decoder": choice, "node.image_transport": transport}).node


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where modules are found first, in this process and in the probe's."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "cv_bridge", raising=False)
    yield tmp_path
    sys.modules.pop("cv_bridge", None)


def test_a_cv_bridge_that_works_is_used_by_auto_and_cv_bridge(folder: Path) -> None:
    install(folder)
    picture = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    for choice in ("auto", "cv_bridge"):
        decoder = open_decoder(config(choice))
        assert decoder.bridged == ENCODINGS
        assert decoder.description == "cv_bridge 9.8.7 (raw rgb8, bgr8, mono8) and vpr_ros (all others)"
        assert np.array_equal(decoder.raw(image_msg(picture, 0)), picture)


@pytest.mark.parametrize("fault", ["", ABORTS])
def test_own_never_looks_for_a_cv_bridge(folder: Path, fault: str) -> None:
    install(folder, at_import=fault)
    decoder = open_decoder(config("own"), replace(Machine(), python="/no/such/python"))
    assert not decoder.bridged
    assert decoder.description == "vpr_ros (node.image_decoder is own)"
    assert "cv_bridge" not in sys.modules


def test_auto_needs_no_cv_bridge_for_compressed_images(folder: Path) -> None:
    install(folder, at_import=ABORTS)
    decoder = open_decoder(config("auto", "compressed"), replace(Machine(), python="/no/such/python"))
    assert decoder.description == "vpr_ros (compressed images)"
    with pytest.raises(ConfigError):
        open_decoder(config("cv_bridge", "compressed"))


@pytest.mark.parametrize(
    ("fault", "said", "fix"),
    [
        ("raise ImportError('libboost_python310.so')", "ImportError: libboost_python310.so", "--reinstall"),
        (ABORTS, "crashed with SIGABRT", "pip install 'numpy<2'"),
    ],
)
def test_one_that_does_not_work_is_left_alone_by_auto_and_refused_by_cv_bridge(
    folder: Path, fault: str, said: str, fix: str
) -> None:
    install(folder, at_import=fault)
    decoder = open_decoder(config("auto"))
    assert not decoder.bridged
    assert decoder.description.startswith("vpr_ros (cv_bridge 9.8.7 does not work")
    assert said in decoder.description
    with pytest.raises(ConfigError, match=r"node\.image_decoder is cv_bridge") as error:
        open_decoder(config("cv_bridge"))
    assert said in str(error.value)
    assert fix in str(error.value)
    assert "\n" not in str(error.value)
    assert "cv_bridge" not in sys.modules, "it must not be imported here"


def test_none_installed(folder: Path) -> None:
    machine = replace(Machine(), path=(str(folder),))
    assert open_decoder(config("auto"), machine).description == "vpr_ros (cv_bridge is not installed)"
    with pytest.raises(ConfigError, match=r"not installed; type: sudo apt install ros-\$ROS_DISTRO-cv-bridge"):
        open_decoder(config("cv_bridge"), machine)


def test_one_that_works_only_in_the_probe_s_process(folder: Path) -> None:
    install(folder, at_import="if 'rclpy' in sys.modules: raise RuntimeError('two\\nlines')")
    import rclpy  # noqa: F401

    assert "does not work in this process: RuntimeError: two lines" in open_decoder(config("auto")).description
    with pytest.raises(ConfigError, match="in this process"):
        open_decoder(config("cv_bridge"))
