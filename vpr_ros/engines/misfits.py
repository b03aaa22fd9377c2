"""Which engines of a cache would be built again here, and why."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vpr_ros.engines.backend import Backend, BuildsAhead
from vpr_ros.engines.backends import backends
from vpr_ros.engines.cache import EngineCache, Entry
from vpr_ros.engines.tensorrt.backend import VERSION_COMPATIBLE
from vpr_ros.engines.tensorrt.capabilities import CAPABILITIES, parse_capabilities


def misfits(cache: EngineCache) -> Iterator[tuple[Path, str]]:
    """Each engine of a cache by its JSON file, with why it would be built again if it were needed; empty if it would not."""
    for path, entry in cache.entries():
        if isinstance(entry, str):
            yield path, entry
        else:
            identity = entry.key.identity
            known = backends(
                cache,
                VERSION_COMPATIBLE in identity.get("library", ""),
                parse_capabilities(identity.get(CAPABILITIES, "")),
            )
            yield path, _misfit(cache, path, entry, known.get(entry.key.backend))


def _misfit(cache: EngineCache, path: Path, entry: Entry, backend: Backend | None) -> str:
    if backend is None:
        return f"there is no backend {entry.key.backend}"
    if damage := cache.check(path, entry):
        return damage
    if not entry.facts and isinstance(backend, BuildsAhead):
        if reason := backend.cannot_build():
            return f"{backend.name} cannot build here now: {reason}"
        now = dict(backend.identity_ahead())
    elif missing := backend.missing():
        return f"{backend.name} cannot run here now: {missing}"
    else:
        now = dict(backend.identity())
    if now != dict(entry.key.identity):
        return f"it was built for {', '.join(entry.key.identity.values())}; here is {', '.join(now.values())}"
    return ""
