"""Attention: what of a feature map counts. Between the backbone and the pooling of a place network."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from training.attention.attended import Attended
from training.attention.bam import Bam
from training.attention.cbam import Cbam
from training.attention.crn import Crn
from training.attention.deattention import DeAttention
from training.attention.squeeze_excitation import SqueezeExcitation

AnyAttention = Annotated[SqueezeExcitation | Bam | Cbam | Crn | DeAttention, Field(discriminator="kind")]

__all__ = ["AnyAttention", "Attended"]
