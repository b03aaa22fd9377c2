"""What a recipe can say. Every component is an `Options` class: its fields are the YAML keys, its methods the work.

pydantic because it names the line of a recipe that is wrong (`loss.margin: Input should be a valid number`) and chooses
among components by their `kind`; we would have to write both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from vpr_ros.errors import ConfigError
from vpr_ros.parameter_files import parse_yaml


class Options(BaseModel):
    """Base of every component of a recipe: immutable, unknown keys and numbers that are not finite refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @classmethod
    def checked(cls, content: Any, origin: str) -> Self:
        """From plain values, say of YAML. Raises ConfigError in one line: `origin`, the key at fault and what is wrong."""
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            first, count = error.errors()[0], error.error_count()
            where = "".join(f"{part}." for part in first["loc"])[:-1] or "the whole"
            more = f" (and {count - 1} more)" if count > 1 else ""
            raise ConfigError(f"{origin}: {where}: {first['msg']}{more}") from error


def read_yaml(path: Path, overrides: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
    """The mapping in a YAML file, with overrides by dotted key (`loop.steps`, `sources.0.share`).

    Raises ConfigError naming the file or the key at fault.
    """
    try:
        content = parse_yaml(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (ConfigError, ValueError) as error:
        raise ConfigError(f"{path} is {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds no mapping of keys to values")
    for key, value in overrides.items():
        _override(content, key, value)
    return content


def parse_overrides(texts: Iterable[str]) -> dict[str, Any]:
    """From `key=value` with YAML values. Raises ConfigError for another form."""
    parsed = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator:
            raise ConfigError(f"{text!r} is not key=value")
        try:
            parsed[key] = parse_yaml(value)
        except ConfigError as error:
            raise ConfigError(f"{text[:80]}: {error}") from error
    return parsed


def differences(first: Any, second: Any, key: str = "") -> list[str]:
    """The dotted keys where two plain recipes differ."""
    if isinstance(first, dict) and isinstance(second, dict):
        keys = list(first) + [k for k in second if k not in first]
        return [d for k in keys for d in differences(first.get(k), second.get(k), f"{key}.{k}" if key else k)]
    if isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        pairs = enumerate(zip(first, second, strict=True))
        return [d for i, (a, b) in pairs for d in differences(a, b, f"{key}.{i}")]
    return [] if first == second else [key]


def _override(content: Any, key: str, value: Any) -> None:
    *parents, last = key.split(".")
    at = content
    for part in parents:
        try:
            at = at[int(part)] if isinstance(at, list) else at.setdefault(part, {})
        except (ValueError, IndexError, AttributeError) as error:
            raise ConfigError(f"the recipe has no {key!r}: {part!r} is not there") from error
    try:
        at[int(last) if isinstance(at, list) else last] = value
    except (ValueError, IndexError, TypeError) as error:
        raise ConfigError(f"the recipe has no {key!r}") from error
