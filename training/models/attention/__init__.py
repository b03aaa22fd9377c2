"""Attention: what of a feature map counts. Between the backbone and the pooling of a place network."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from training.models.attention.attended import Attended
from training.models.attention.bam import Bam
from training.models.attention.cbam import Cbam
from training.models.attention.crn import Crn
from training.models.attention.deattention import DeAttention
from training.models.attention.squeeze_excitation import SqueezeExcitation

AnyAttention = Annotated[SqueezeExcitation | Bam | Cbam | Crn | DeAttention, Field(discriminator="kind")]

__all__ = ["AnyAttention", "Attended"]
