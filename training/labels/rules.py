"""What a recipe can choose as psi of two images of a set. `LabelRule` is any of them, told apart by `kind`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from scipy.sparse import csr_array

from training.data.image_set import ImageSet
from training.data.planar import within_gate
from training.labels.field_of_view import FieldOfView
from training.labels.pairs import Pairs, pairs_within, require, symmetric_matrix
from training.labels.surface_overlap import SurfaceOverlap
from training.options import Options


class Distance(Options):
    """psi is 1 up to `positive_m`, unknown (NaN) up to `negative_m`, 0 beyond: the binary labels of the benchmarks.

    10 and 25 m are those of deep-visual-geo-localization-benchmark. With `max_heading_deg` psi is 0 also for cameras that
    look further apart.
    """

    kind: Literal["distance"] = "distance"
    positive_m: float = Field(default=10.0, gt=0)
    negative_m: float = Field(default=25.0, gt=0)
    max_heading_deg: float | None = Field(default=None, ge=0, le=180)

    @model_validator(mode="after")
    def _in_order(self) -> Distance:
        if self.negative_m < self.positive_m:
            raise ValueError(f"negative_m ({self.negative_m:g}) must not be below positive_m ({self.positive_m:g})")
        return self

    def similarity(self, images: ImageSet) -> csr_array:
        """psi of all pairs (see `Source.similarity`). Raises SourceError for an unknown position, or heading if asked."""
        require(np.isfinite(images.positions_m).all(axis=1), "position", images.name)
        if self.max_heading_deg is not None:
            require(np.isfinite(images.headings_rad), "heading", images.name)

        def near() -> Iterator[Pairs]:
            for i, j in pairs_within(images.positions_m, self.negative_m):
                alike = within_gate(images.headings_rad[i], images.headings_rad[j], self.max_heading_deg)
                i, j = i[alike], j[alike]
                distance = np.linalg.norm(images.positions_m[i] - images.positions_m[j], axis=1)
                yield i, j, np.where(distance <= self.positive_m, 1, np.nan).astype(np.float32)

        return symmetric_matrix(len(images), near())


class SamePlace(Options):
    """psi is 1 for images of one named place, 0 for two (GSV-Cities, sessions over the same places)."""

    kind: Literal["same_place"] = "same_place"

    def similarity(self, images: ImageSet) -> csr_array:
        """psi of all pairs (see `Source.similarity`). Raises SourceError for an image without a place."""
        require(images.places >= 0, "place", images.name)
        return _together(images.places)


class Clips(Options):
    """For images without poses: psi is unknown (NaN) within a sequence, 0 across.

    Every pair of a sequence is stored: meant for clips of up to some thousand frames.
    """

    kind: Literal["clips"] = "clips"

    def similarity(self, images: ImageSet) -> csr_array:
        """psi of all pairs (see `Source.similarity`)."""
        matrix = _together(images.sequences)
        matrix.data[:] = np.nan
        return matrix


LabelRule = Annotated[FieldOfView | SurfaceOverlap | Distance | SamePlace | Clips, Field(discriminator="kind")]


def _together(groups: NDArray[np.int64] | NDArray[np.str_]) -> csr_array:
    """(N, N) float32, 1 where two different images are of one group."""
    names, group = np.unique(groups, return_inverse=True)
    member = csr_array((np.ones(len(group), np.float32), (np.arange(len(group)), group)), (len(group), len(names)))
    matrix = csr_array(member @ member.T)
    matrix.setdiag(0)
    matrix.eliminate_zeros()
    matrix.sort_indices()
    return matrix
