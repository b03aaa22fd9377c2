"""What a recipe can say. Every component is an `Options` class: its fields are the YAML keys, its methods the work.

pydantic because it names the line of a recipe that is wrong (`loss.margin: Input should be a valid number`) and chooses
among components by their `kind`; we would have to write both.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from vpr_ros.errors import ConfigError


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


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises ConfigError naming the file."""
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds no mapping of keys to values")
    return content
