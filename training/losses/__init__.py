"""Losses on descriptors, each a component of a recipe: `loss(descriptors, targets)` is a scalar, never NaN by itself.

Descriptors are float32 also in mixed precision: the three digits of half precision do not tell neighbours apart.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from training.losses.contrastive import Contrastive
from training.losses.graded_contrastive import GradedContrastive
from training.losses.multi_similarity import MultiSimilarity
from training.losses.sharpened_triplet import SharpenedTriplet
from training.losses.triplet import Triplet

AnyLoss = Annotated[
    GradedContrastive | Contrastive | Triplet | SharpenedTriplet | MultiSimilarity, Field(discriminator="kind")
]

__all__ = ["AnyLoss", "Contrastive", "GradedContrastive", "MultiSimilarity", "SharpenedTriplet", "Triplet"]
