"""Engine files that were built on this machine: `MODEL/ENGINE.bin`, each with a JSON text that says what it is.

An engine is found by what it was built from: model, backend, library and device, precision, batch. The JSON holds the sha256
of the content, so a file that was damaged is known before a library sees it. Both are written whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vpr_ros.errors import ConfigError, EngineError
from vpr_ros.files import expanded, whole_file

if TYPE_CHECKING:  # it opens models with ONNX Runtime, which is not needed here
    from vpr_ros.model import PlaceModel

FORMAT = "vpr_ros.engine.2"


@dataclass(frozen=True, slots=True)
class Key:
    """What an engine is built from; another key is another engine."""

    model: str
    model_id: str
    backend: str
    identity: Mapping[str, str]
    """Versions and device, as `Backend.identity` says."""
    precision: str
    batch: int
    shape: tuple[int, int]
    """Of the model's images, (H, W)."""
    calibration: str = ""
    """sha256 of the images that int8 was calibrated on."""

    @classmethod
    def of(
        cls,
        model: PlaceModel,
        backend: str,
        identity: Mapping[str, str],
        precision: str,
        batch: int,
        calibration: str = "",
    ) -> Key:
        shape = (model.height, model.width)
        return cls(model.name, model.id, backend, dict(identity), precision, batch, shape, calibration)

    @property
    def file(self) -> Path:
        """Relative to the cache, without a suffix."""
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()
        folder = f"{re.sub(r'[^A-Za-z0-9_.-]', '_', self.model).lstrip('.')[:60]}-{self.model_id[:12]}"
        return Path(folder) / f"{self.backend}-{self.precision}-b{self.batch}-{digest[:12]}"


@dataclass(frozen=True, slots=True)
class Entry:
    """What the JSON beside an engine says. `facts` is what was measured when it was built."""

    key: Key
    sha256: str
    bytes: int
    facts: Mapping[str, Any] = field(default_factory=dict)


def cache_folder(name: str | Path = "", environment: Mapping[str, str] = os.environ) -> Path:
    """The folder `name`; without one, `vpr_ros/engines` in the user's cache ($XDG_CACHE_HOME or ~/.cache).

    Raises EngineError where there is no such home.
    """
    users = environment.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return expanded(name or f"{users}/vpr_ros/engines")
    except ConfigError as error:
        raise EngineError(f"no folder for engines, set engine.cache: {error}") from error


class EngineCache:
    """A folder of engines, `cache_folder` by default."""

    def __init__(self, folder: str | Path = "") -> None:
        self.folder = cache_folder(folder)

    def keep(self, key: Key, content: bytes, facts: Mapping[str, Any]) -> Entry:
        """Write an engine. Raises EngineError where the disk refuses."""
        entry = Entry(key, hashlib.sha256(content).hexdigest(), len(content), dict(facts))
        target = self.folder / key.file
        text = json.dumps({"format": FORMAT, **asdict(entry)}, indent=2) + "\n"
        try:
            with whole_file(_with(target, ".bin")) as file:
                file.write(content)
            with whole_file(_with(target, ".json")) as file:  # last: it vouches for the content
                file.write(text.encode())
        except OSError as error:
            raise EngineError(
                f"cannot write engine {target}: {error.strerror or error}; set engine.cache to another folder"
            ) from error
        return entry

    def find(self, key: Key) -> tuple[Entry, bytes] | str:
        """An engine and what is known of it; or why there is none that can be used."""
        path = self.folder / key.file
        if not _with(path, ".json").exists():
            return self._why_new(key)
        try:
            entry = read(_with(path, ".json"))
            content = _with(path, ".bin").read_bytes()
        except EngineError as error:
            return str(error)
        except OSError as error:
            return f"{path}.bin cannot be read: {error.strerror}"
        if entry.key != key:
            return f"{path}.json describes another engine"
        if hashlib.sha256(content).hexdigest() != entry.sha256:
            return f"{path}.bin is damaged: it is not what was written ({len(content)} of {entry.bytes} bytes)"
        return entry, content

    def _why_new(self, key: Key) -> str:
        """What has changed since the like was built."""
        for _, entry in self.entries():
            theirs = entry.key if isinstance(entry, Entry) else None
            if theirs and (theirs.model_id, theirs.backend, theirs.precision) == (
                key.model_id,
                key.backend,
                key.precision,
            ):
                mine, old = asdict(key), asdict(theirs)
                changed = [
                    f"{name} {_say(old[name])} -> {_say(mine[name])}" for name in mine if old[name] != mine[name]
                ]
                return f"the one at hand is for another machine or use: {'; '.join(changed)}"
        return "there is none yet"

    def entries(self) -> Iterator[tuple[Path, Entry | str]]:
        """Every engine by its JSON file; a text instead of an entry says what is wrong with it."""
        for path in sorted(self.folder.glob("*/*.json")):
            try:
                yield path, read(path)
            except EngineError as error:
                yield path, str(error)

    def check(self, path: Path, entry: Entry) -> str:
        """What is wrong with the content of an entry; empty if nothing is."""
        try:
            content = path.with_suffix(".bin").read_bytes()
        except OSError as error:
            return f"its content cannot be read: {error.strerror}"
        if hashlib.sha256(content).hexdigest() != entry.sha256:
            return f"its content is damaged ({len(content)} of {entry.bytes} bytes)"
        return ""

    def forget(self, key: Key) -> None:
        """Delete an engine if there is one."""
        path = _with(self.folder / key.file, ".json")
        if path.exists():
            self.remove(path)

    def remove(self, path: Path) -> None:
        """Delete an entry by its JSON file, and its folder if that was the last one."""
        for file in (path, path.with_suffix(".bin")):
            file.unlink(missing_ok=True)
        if not any(path.parent.iterdir()):
            path.parent.rmdir()


def read(path: Path) -> Entry:
    """The JSON beside an engine. Raises EngineError for one that is damaged or of another version."""
    try:
        plain = json.loads(path.read_text())
        if plain.pop("format") != FORMAT:
            raise EngineError(f"{path} was written by another version of vpr_ros")
        key = plain.pop("key")
        return Entry(Key(**{**key, "shape": tuple(key["shape"])}), **plain)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EngineError(f"{path} is damaged") from error


def _with(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _say(value: Any) -> str:
    return ", ".join(map(str, value.values())) if isinstance(value, dict) else str(value)
