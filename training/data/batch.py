"""What a loss sees of a batch besides its descriptors."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """Labels of a batch of B images.

    `similarity` (B, B) float32, symmetric: psi of each pair in [0, 1], NaN where it is not known or not asked for; the
    diagonal is 1. `triplets` (T, 3) int64: anchor, positive and negative that a miner chose, T = 0 if none did.
    """

    similarity: Tensor
    triplets: Tensor

    def to(self, device: object) -> Targets:
        return Targets(self.similarity.to(device), self.triplets.to(device))  # type: ignore[call-overload]
