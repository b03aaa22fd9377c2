"""Which decoder the node's images get: the parameter, and whether cv_bridge works here."""

from __future__ import annotations

from vpr_ros.config import NodeConfig
from vpr_ros.doctor.cv_bridge import REINSTALL, probe_cv_bridge
from vpr_ros.errors import ConfigError
from vpr_ros.image_decoder import Decoder, named, new_bridge
from vpr_ros.machine import Machine


def open_decoder(config: NodeConfig, machine: Machine | None = None) -> Decoder:
    """The decoder that `node.image_decoder` chooses. cv_bridge is imported here only if it works in a process of its own.

    Raises ConfigError where it is cv_bridge, and that does not work here.
    """
    choice = config.image_decoder
    if choice == "own":
        return Decoder("vpr_ros (node.image_decoder is own)")
    if choice == "auto" and config.image_transport == "compressed":
        return Decoder("vpr_ros (compressed images)")
    probe = probe_cv_bridge(machine or Machine())
    fault, fix = probe.fault, probe.fix
    if not fault:
        try:
            bridge = new_bridge()
        except Exception as error:  # after all that this process has imported
            fault, fix = f"cv_bridge {probe.version} does not work in this process: {named(error)}", REINSTALL
        else:
            description = f"cv_bridge {probe.version} (raw {', '.join(probe.encodings)}) and vpr_ros (all others)"
            return Decoder(description, bridge, probe.encodings)
    if choice == "cv_bridge":
        raise ConfigError(f"node.image_decoder is cv_bridge, and {fault}; type: {fix}    # or node.image_decoder: auto")
    return Decoder(f"vpr_ros ({fault})")
