"""The sharpened triplet margin loss, sTML, of de-attention (Pattern Recognition 141, 2023; docs/methods.md 2.5)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from training.losses.triplet import TripletLoss


class SharpenedTriplet(TripletLoss):
    """The negative is pushed away from the positive too, not from the anchor only.

    - `version` 1: max(d(a,p) + margin - d(a,n) + pn_margin - d(p,n), 0);
    - `version` 2: max(pn_margin - d(p,n), 0), which asks nothing of the anchor and does not use `margin`.

    d is Euclidean, not squared: unit descriptors at random are about sqrt(2) apart, so a `pn_margin` of 1.4 asks positive
    and negative to be orthogonal. Version 1 still learns from negatives that a triplet loss is done with: mine them with
    sampling.margin = margin + pn_margin (docs/methods.md 2.6).
    """

    kind: Literal["sharpened_triplet"] = "sharpened_triplet"
    version: Literal[1, 2] = 1
    margin: float = Field(default=0.1, gt=0, le=2)
    pn_margin: float = Field(default=1.4, gt=0, le=2)

    def violation(self, ap: Tensor, an: Tensor, pn: Tensor) -> Tensor:
        sharpening = self.pn_margin - pn
        return sharpening if self.version == 2 else ap - an + self.margin + sharpening
