"""Is there a cv_bridge that works, and what decodes the node's images?

Found out in a process of its own, which a cv_bridge that was built for another NumPy can crash.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vpr_ros.doctor.finding import Finding, Level
from vpr_ros.machine import Machine, ProcessFailed, numpy_complaint

INSTALL = "sudo apt install ros-$ROS_DISTRO-cv-bridge"
UNKNOWN_VERSION = "of unknown version"
REINSTALL = "sudo apt install --reinstall ros-$ROS_DISTRO-cv-bridge"


@dataclass(frozen=True, slots=True)
class CvBridgeProbe:
    """What is known of the cv_bridge of a machine."""

    is_installed: bool
    version: str = UNKNOWN_VERSION
    encodings: tuple[str, ...] = ()
    """Those that it decodes, and as `images.decode_image` does."""
    fault: str = ""
    """One line: why it decodes none; empty if it works."""
    fix: str = ""
    """What to type about that."""


def probe_cv_bridge(machine: Machine) -> CvBridgeProbe:
    """Have it decode a picture in each encoding, in a process of its own. It is never imported here."""
    if not machine.where("cv_bridge"):
        return CvBridgeProbe(False, fault="cv_bridge is not installed", fix=INSTALL)
    version = machine.installed(["cv_bridge"]).get("cv_bridge", UNKNOWN_VERSION)
    try:
        facts = machine.ask(cv_bridge_facts)
    except ProcessFailed as failure:
        fault, fix = str(failure), machine.fix(failure, REINSTALL)
    else:
        # NumPy reports a module of another ABI and goes on: its conversions fail one by one, or write where they should not
        complaint = numpy_complaint(facts["stderr"])
        if facts["encodings"] and not complaint:
            return CvBridgeProbe(True, version, tuple(facts["encodings"]))
        fault, fix = f"{facts['fault']}{complaint}".strip(), REINSTALL
    numpy = machine.installed(["numpy"]).get("numpy", "?")
    is_numpy = "compiled for NumPy 1" in fault or ("crashed" in fault and not numpy.startswith("1."))
    fault = f"cv_bridge {version} does not work with NumPy {numpy}: {fault}"
    return CvBridgeProbe(True, version, (), fault, machine.pip("install 'numpy<2'") if is_numpy else fix)


def cv_bridge_facts() -> dict[str, Any]:
    """The encodings that cv_bridge decodes rightly, and what was wrong with the first that it does not."""
    from vpr_ros.image_decoder import checked_encodings

    encodings, fault = checked_encodings()
    return {"encodings": encodings, "fault": fault}


def check_image_decoder(machine: Machine, choice: str = "auto") -> Finding:
    """What decodes the node's images, and whether an installed cv_bridge works: other packages of a robot use it, too."""
    name, numpy, probe = "image decoder", machine.installed(["numpy"]).get("numpy", "?"), probe_cv_bridge(machine)
    if not probe.fault:
        works = f"cv_bridge {probe.version} works with NumPy {numpy}"
        if choice == "own":
            return Finding(
                name, Level.OK, f"vpr_ros, as node.image_decoder is own; {works}, and vpr_ros does not need it"
            )
        return Finding(name, Level.OK, f"{works} and decodes {', '.join(probe.encodings)}; vpr_ros decodes all others")
    if choice == "cv_bridge":
        found = f"{probe.fault}. node.image_decoder is cv_bridge: the node will not configure"
        return Finding(name, Level.ERROR, found, f"{probe.fix}    # or node.image_decoder: auto")
    if not probe.is_installed:
        return Finding(name, Level.OK, f"vpr_ros; {probe.fault}, and not needed (NumPy {numpy})")
    found = f"vpr_ros; {probe.fault}. vpr_ros does not need it, other packages here may"
    return Finding(name, Level.WARNING, found, f"{probe.fix}    # only if another package uses cv_bridge")
