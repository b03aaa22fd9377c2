"""What a network sees of an image: its colours, or what its pixels show (docs/methods.md 3.1: the two branches of StructVPR)."""

from __future__ import annotations

from typing import Annotated, Literal, Protocol

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from pydantic import Field

from training.data.augment import Crop, random_label_view, random_view
from training.data.classes import NO_CLUSTER, UNKNOWN_ID
from training.data.image_set import ImageSet
from training.options import Options
from vpr_ros.images import read_image, resize

Pixels = NDArray[np.uint8]
"""(H, W, 3) colours or (H, W) cluster numbers."""


class Rgb(Options):
    """Colours: what a robot's camera gives."""

    kind: Literal["rgb"] = "rgb"

    def read(self, images: ImageSet, index: int) -> Pixels:
        """(H, W, 3) RGB. Raises ImageError."""
        return read_image(images.paths[index])

    def resize(self, pixels: Pixels, width: int, height: int) -> Pixels:
        return resize(pixels, width, height)

    def view(self, rng: Generator, pixels: Pixels, crop: Crop, width: int, height: int) -> Pixels:
        """The crop at network size, seen another time."""
        return random_view(rng, pixels, crop, width, height)

    def blank(self, width: int, height: int) -> Pixels:
        """Stands where an image cannot be read."""
        return np.zeros((height, width, 3), np.uint8)


class Semantic(Options):
    """The cluster of each pixel's class, from the label maps of a source; a network encodes it as a weighted one-hot map.

    `weights` has one entry per cluster, in the order of the channels: how much of it the network sees. The defaults are
    docs/methods.md 3.5's: static structure counts, what moves does not.
    """

    kind: Literal["semantic"] = "semantic"
    weights: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default={"building": 1.0, "static": 1.0, "vegetation": 0.7, "ground": 0.5, "sky": 0.5, "dynamic": 0.1},
        min_length=1,
        max_length=UNKNOWN_ID,
    )

    def read(self, images: ImageSet, index: int) -> Pixels:
        """(H, W) numbers of clusters, 255 where there is none.

        Raises ImageError for a label map that cannot be read, SourceError for one with a class that its table lacks,
        ConfigError for a source without label maps or a table with other clusters.
        """
        labels, table = images.label_map(index)
        return table.cluster_indices(tuple(self.weights))[labels]

    def resize(self, pixels: Pixels, width: int, height: int) -> Pixels:
        return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_NEAREST).astype(np.uint8, copy=False)

    def view(self, rng: Generator, pixels: Pixels, crop: Crop, width: int, height: int) -> Pixels:
        """The crop at network size, from another camera."""
        return random_label_view(rng, pixels, crop, width, height, outside=NO_CLUSTER)

    def blank(self, width: int, height: int) -> Pixels:
        """Stands where a label map cannot be read."""
        return np.full((height, width), NO_CLUSTER, np.uint8)


AnyInput = Annotated[Rgb | Semantic, Field(discriminator="kind")]


class InputFormat(Protocol):
    """What a network takes: `input` at `width` x `height` px. `NetworkOptions` say so."""

    @property
    def input(self) -> Rgb | Semantic: ...

    @property
    def width(self) -> int: ...

    @property
    def height(self) -> int: ...
