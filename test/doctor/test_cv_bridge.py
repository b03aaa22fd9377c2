"""A cv_bridge that is missing, works, was built for another NumPy, or crashes: found out from outside."""

from __future__ import annotations

import numpy as np
import pytest
from cv_bridges import ABORTS, COMPLAINS, ENCODINGS, SEGFAULTS, install
from fake_machine import alone, assert_bad, package

from vpr_ros.doctor import Level, Machine
from vpr_ros.doctor.cv_bridge import CvBridgeProbe, check_image_decoder, probe_cv_bridge


@pytest.fixture
def machine(machine: Machine) -> Machine:
    """Without the cv_bridge that may be installed here."""
    if alone(machine).where("cv_bridge") != machine.where("cv_bridge"):
        pytest.skip("a real cv_bridge is on Python's path")
    return machine


def with_bridge(machine: Machine, **faults: str) -> Machine:
    install(machine.at("modules"), **faults)
    return machine


def test_without_a_cv_bridge_there_is_nothing_to_do(machine: Machine) -> None:
    assert not probe_cv_bridge(machine).is_installed
    for choice in ("auto", "own"):
        finding = check_image_decoder(machine, choice)
        assert finding.level is Level.OK
        assert "cv_bridge is not installed, and not needed" in finding.found
    finding = check_image_decoder(machine, "cv_bridge")
    assert_bad(finding, Level.ERROR, "the node will not configure", "sudo apt install ros-$ROS_DISTRO-cv-bridge")
    assert "auto" in finding.fix


def test_one_that_works_decodes_what_it_decodes_rightly(machine: Machine) -> None:
    with_bridge(machine)
    assert probe_cv_bridge(machine) == CvBridgeProbe(True, "9.8.7", ENCODINGS)
    for choice in ("auto", "cv_bridge", "own"):
        finding = check_image_decoder(machine, choice)
        assert finding.level is Level.OK
        assert f"cv_bridge 9.8.7 works with NumPy {np.__version__}" in finding.found
        assert ("decodes rgb8, bgr8, mono8; vpr_ros" in finding.found) == (choice != "own")


def test_an_encoding_that_comes_out_wrong_is_not_its(machine: Machine) -> None:
    with_bridge(
        machine, at_call="if message.encoding == 'bgr8': return np.zeros((message.height, message.width, 3), np.uint8)"
    )
    assert probe_cv_bridge(machine).encodings == ("rgb8", "mono8")


@pytest.mark.parametrize(
    ("faults", "said"),
    [
        ({"at_import": ABORTS}, "crashed with SIGABRT"),
        ({"at_call": ABORTS}, "crashed with SIGABRT"),
        ({"at_import": "raise ImportError('numpy.core.multiarray failed to import')"}, "multiarray failed"),
        ({"at_call": SEGFAULTS}, "crashed with SIGSEGV"),
        ({"at_import": COMPLAINS}, "compiled for NumPy 1"),
        ({"at_call": COMPLAINS}, "compiled for NumPy 1"),
    ],
)
def test_one_for_another_numpy_is_a_warning_and_not_our_end(
    machine: Machine, faults: dict[str, str], said: str
) -> None:
    with_bridge(machine, **faults)
    package(machine, "numpy", "2.4.6")  # whatever is installed here
    finding = check_image_decoder(machine)
    assert_bad(finding, Level.WARNING, said, "pip install 'numpy<2'")
    assert "NumPy 2.4.6" in finding.found
    assert "vpr_ros does not need it" in finding.found
    finding = check_image_decoder(machine, "cv_bridge")
    assert_bad(finding, Level.ERROR, said, "pip install 'numpy<2'    # or node.image_decoder: auto")


@pytest.mark.parametrize(
    ("faults", "said"),
    [
        ({"at_import": "raise ImportError('libopencv_core.so.406: cannot open shared object file')"}, "libopencv_core"),
        ({"at_import": "import no_such_module"}, "no_such_module"),
        ({"at_import": "sys.exit(3)"}, "status 3"),
        ({"at_call": "raise RuntimeError('surprise')"}, "RuntimeError: surprise"),
        ({"at_call": "return np.zeros((message.height, message.width, 3), np.uint8)"}, "rgb8 differs by"),
        ({"at_call": "return None"}, "made NoneType"),
    ],
)
def test_any_other_fault_is_not_blamed_on_numpy(machine: Machine, faults: dict[str, str], said: str) -> None:
    with_bridge(machine, **faults)
    assert_bad(check_image_decoder(machine), Level.WARNING, said, "--reinstall ros-$ROS_DISTRO-cv-bridge")


def test_one_that_hangs_does_not_hold_us_up(machine: Machine) -> None:
    from dataclasses import replace

    with_bridge(machine, at_import="import time; time.sleep(60)")
    assert "no answer in 1 s" in probe_cv_bridge(replace(machine, process_s=1.0)).fault


def test_a_crash_with_numpy_1_is_not_numpy_s(machine: Machine) -> None:
    with_bridge(machine, at_import=ABORTS)
    package(machine, "numpy", "1.26.4")
    assert "--reinstall" in probe_cv_bridge(machine).fix
