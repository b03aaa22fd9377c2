"""What every reader of a data set is."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path

from training.data.image_set import ImageSet
from training.options import Options


class Reader(Options):
    """A data set as it lies on disk. A subclass adds `kind: Literal["..."] = "..."` and its own choices."""

    path: Path = Path()
    """Folder of the data set, relative to the recipe's `data_root`."""

    @abstractmethod
    def read(self, data_root: Path) -> list[ImageSet]:
        """One set per city, drive or world: places are never compared across sets.

        Images are listed, not decoded. Raises SourceError, naming the file and the line at fault.
        """
