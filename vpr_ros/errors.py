"""What can go wrong, as a user would name it. The library raises these; only the command line exits."""

import os
from pathlib import Path


def printable(text: str | Path) -> str:
    """What any terminal and file takes: a name's bytes that are not UTF-8, and control characters, as escapes."""
    whole = os.fspath(text).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in whole)


class VprError(Exception):
    """Base of every error this library raises on purpose; its text names the fix."""

    def __str__(self) -> str:
        return printable(super().__str__())


class ConfigError(VprError):
    """A parameter that is unknown, of the wrong type or out of range."""


class ModelError(VprError):
    """A model file that is missing, corrupt, foreign or does not keep its contract."""


class EngineError(VprError):
    """An engine that cannot be built, loaded or run: a library that is missing or fails, a file of another machine."""


class MapError(VprError):
    """A map file that is missing, corrupt, of another format version or made with another model."""


class ImageError(VprError):
    """An image that cannot be decoded: unknown encoding, zero size, too few bytes."""


class SourceError(VprError):
    """A data source (image folder, video, bag) that is missing or not laid out as expected."""


class FrameOrderError(VprError):
    """A frame that is not newer than the one before it."""


class TrainingError(VprError):
    """Training that cannot start, go on or be resumed: a loss that is not finite, a full disk, another recipe's checkpoint."""
