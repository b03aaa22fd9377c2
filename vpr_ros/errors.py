"""What can go wrong, as a user would name it. The library raises these; only the command line exits."""

from collections.abc import Mapping
from types import MappingProxyType

from vpr_ros.printable import printable


class Keyword(str):
    """A keyword of our Python interface that an error names: the command line has an option in its place."""

    __slots__ = ()


class VprError(Exception):
    """Base of every error this library raises on purpose; its text names the fix, and may be shown on a terminal.

    The text may be given in parts, so that those that are a `Keyword` can be told from the rest.
    """

    def __str__(self) -> str:
        return self.typed()

    def typed(self, options: Mapping[str, str] = MappingProxyType({})) -> str:
        """The text with the options (`--image-topic`) of those keywords that `options` has."""
        return printable("".join(options.get(p, p) if isinstance(p, Keyword) else str(p) for p in self.args))


class OutputError(VprError):
    """A result that cannot be written: a full or read-only disk, a folder of somebody else, a file where a folder should be."""


class ConfigError(VprError):
    """A parameter that is unknown, of the wrong type or out of range."""


class ModelError(VprError):
    """A model file that is missing, corrupt, foreign or does not keep its contract."""


class EngineError(VprError):
    """An engine that cannot be built, loaded or run: a library that is missing or fails, a file of another machine."""


class LibraryError(VprError):
    """A library that everything needs is missing, too old, or built for another NumPy."""


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
