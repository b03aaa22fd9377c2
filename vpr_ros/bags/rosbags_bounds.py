"""Bounds for what rosbags unpacks and parses; imported before any bag is opened.

rosbags unpacks a chunk to whatever it turns out to hold, two megabytes to two gigabytes, and compares the size afterwards. It
also reads the QoS profiles that a recorder wrote beside each topic as YAML without bounds. Its tables are filled with ours: bags
that are as they should be read the same, for every user of rosbags in this process.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import lz4.frame
from rosbags.rosbag2 import storage_mcap, storage_sqlite3

from vpr_ros.bags.compressed import HAS_ZSTD, MAX_UNPACKED_BYTES, unpacked_to
from vpr_ros.errors import ConfigError
from vpr_ros.parameter_files import parse_yaml


def unpacked_lz4(data: bytes, size: int) -> bytes:
    """What an lz4 frame holds, but no more than `size` bytes and one. Raises RuntimeError for damage."""
    return bytes(lz4.frame.LZ4FrameDecompressor().decompress(data, max_length=min(size, MAX_UNPACKED_BYTES) + 1))


def unpacked_zstd(data: bytes, size: int) -> bytes:
    """What zstd data holds, but no more than `size` bytes and one. Raises zstandard.ZstdError for damage."""
    return unpacked_to(data, min(size, MAX_UNPACKED_BYTES) + 1)


def _without_bombs(parse: Callable[[Any], list[Any]]) -> Callable[[Any], list[Any]]:
    """rosbags' reader of QoS profiles, for those that our reader of YAML accepts: none of the others."""

    @wraps(parse)
    def parsed(profiles: Any) -> list[Any]:
        if isinstance(profiles, str):
            try:
                profiles = parse_yaml(profiles)
            except ConfigError:
                return []
        return parse(profiles)

    return parsed


def bound() -> None:
    """Once: what is bounded stays so."""
    unpack: dict[str, Callable[[bytes, int], bytes]] = storage_mcap.DECOMPRESSORS
    unpack["lz4"] = unpacked_lz4
    if HAS_ZSTD:
        unpack["zstd"] = unpacked_zstd
    for storage in (storage_mcap, storage_sqlite3):
        if not hasattr(storage.parse_qos, "__wrapped__"):
            storage.parse_qos = _without_bombs(storage.parse_qos)  # type: ignore[attr-defined]


bound()
