"""What the ids in a label map mean: class, cluster (StructVPR's regrouping) and category (de-attention's masks)."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from training.options import Options, read_yaml
from vpr_ros.errors import ConfigError, ImageError, SourceError

TABLES = Path(__file__).with_name("class_tables")
VOID = "void"
"""The cluster of classes that say nothing: unlabelled, other, the camera's own vehicle."""
IDS = 256
"""A label map has 8 bits."""
NO_CLUSTER = 255
"""Where `ClassTable.cluster_indices` has a void class."""
UNKNOWN_ID = 254
"""Where `ClassTable.cluster_indices` has an id that the table lacks."""

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_DEPTH, _PNG_COLOUR = 24, 25
"""Bytes of a PNG header that say how many bits a sample has, and what it means."""
_GREY, _PALETTE = 0, 3


class SemanticClass(Options):
    """`category` groups classes where a data set does so (Cityscapes: human, vehicle, ...); "" is none."""

    name: str
    cluster: str
    category: str = ""


class ClassTable(Options):
    classes: dict[Annotated[int, Field(ge=0, lt=IDS)], SemanticClass] = Field(min_length=1)
    """By id."""

    def cluster_indices(self, clusters: Sequence[str]) -> NDArray[np.uint8]:
        """(256,): for each class id the index of its cluster in `clusters`, `NO_CLUSTER` or `UNKNOWN_ID`.

        Raises ConfigError naming the class whose cluster is neither void nor among `clusters`.
        """
        indices = np.full(IDS, UNKNOWN_ID, np.uint8)
        for number, semantic in self.classes.items():
            if semantic.cluster != VOID and semantic.cluster not in clusters:
                raise ConfigError(
                    f"class {number} ({semantic.name}) is of cluster {semantic.cluster!r}, which is none of "
                    f"{', '.join(clusters)}: add it there, or make the class {VOID} in the table"
                )
            indices[number] = NO_CLUSTER if semantic.cluster == VOID else clusters.index(semantic.cluster)
        return indices

    def named(self, names: Sequence[str]) -> NDArray[np.bool_]:
        """(256,): the ids whose class or category is one of `names`. Raises ConfigError for a name the table lacks."""
        chosen = np.zeros(IDS, np.bool_)
        for name in names:
            ids = [number for number, semantic in self.classes.items() if name in (semantic.name, semantic.category)]
            if not ids:
                raise ConfigError(f"the table has no class or category {name!r}; it has {', '.join(self._names())}")
            chosen[ids] = True
        return chosen

    def check_ids(self, labels: NDArray[np.uint8], path: Path) -> None:
        """Raises SourceError naming the file of a label map with an id that the table lacks."""
        for number in np.flatnonzero(np.bincount(labels.ravel(), minlength=IDS)):
            if number not in self.classes:
                known = ", ".join(str(one) for one in sorted(self.classes))
                raise SourceError(f"{path} holds class id {number}, which the table has not; it has {known}")

    def _names(self) -> list[str]:
        categories = {semantic.category for semantic in self.classes.values() if semantic.category}
        return sorted(categories | {semantic.name for semantic in self.classes.values()})


def read_table(name: str | Path) -> ClassTable:
    """A table that comes with the project, by name, or a YAML file of the same form. Raises ConfigError."""
    path = TABLES / f"{name}.yaml"
    if not path.exists():
        path = Path(name)
    if path.suffix != ".yaml":
        known = ", ".join(sorted(table.stem for table in TABLES.glob("*.yaml")))
        raise ConfigError(f"no table of classes is called {str(name)!r}; there are {known}, or name a .yaml file")
    return ClassTable.checked(read_yaml(path), str(path))


def read_label_map(path: Path) -> NDArray[np.uint8]:
    """(H, W) class ids in a grey PNG of 8 bits, or the indices in a palette PNG. Raises ImageError."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror}") from error
    if not content.startswith(_PNG_SIGNATURE) or len(content) <= _PNG_COLOUR:
        raise ImageError(f"{path} is no PNG: class ids survive in no lossy format")
    depth, colour = content[_PNG_DEPTH], content[_PNG_COLOUR]
    if colour != _PALETTE and (colour, depth) != (_GREY, 8):
        raise ImageError(f"{path} is no label map: it must be a PNG of one channel of 8 bits, grey or palette")
    try:
        return np.array(Image.open(io.BytesIO(content)), np.uint8)
    except (OSError, SyntaxError, ValueError) as error:
        raise ImageError(f"{path} does not decode as a PNG: {error}") from error
