"""Compute capabilities of GPUs that TensorRT for RTX plans for."""

from __future__ import annotations

import re
from typing import Any

from vpr_ros.errors import ConfigError

CAPABILITIES = "capabilities"
"""In the identity of plans for GPUs that were named: which, as `parse_capabilities` reads them."""


def parse_capabilities(text: str) -> tuple[str, ...]:
    """`"sm86, sm89"` -> `("sm86", "sm89")`, sorted; `""` -> `()`. Raises ConfigError for anything else."""
    names = {name.strip().lower() for name in text.split(",")} if text.strip() else set()
    for name in names:
        if not re.fullmatch(r"sm\d{2,3}", name):
            raise ConfigError(f"engine.capabilities {text!r}: {name!r} is no compute capability; write sm86,sm89,sm120")
    return tuple(sorted(names, key=lambda name: int(name[2:])))


def known_capabilities(trt: Any) -> list[str]:
    """The compute capabilities that TensorRT for RTX supports in this version, `sm75` first."""
    names = [name for name in dir(trt.ComputeCapability) if re.fullmatch(r"SM\d+", name)]
    return [name.lower() for name in sorted(names, key=lambda name: int(name[2:]))]
