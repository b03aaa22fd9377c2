"""Which operators a precision harms, and by how much."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vpr_ros.engines.graphs.conversion import Conversion
from vpr_ros.engines.graphs.onnx_graph import run
from vpr_ros.model import PlaceModel

DELICATE = 1e-4
"""Loss of cosine by one operator: a tenth of what the bar of fp16 allows all of them (`parity.BARS`)."""
DELICATE_IMAGES = 4
"""Images that this is measured on."""


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What a kind of operator costs: the smallest cosine with fp32 over images where it alone has left fp32."""

    operator: str
    cosine: float

    def __str__(self) -> str:
        return f"{self.operator} (cosine {self.cosine:.4f})"


def sensitivity(
    model: PlaceModel, precision: str, images: NDArray[np.uint8], *, symmetric: bool = True
) -> list[Sensitivity]:
    """What each kind of operator costs in `fp16` or `int8`, the costliest first; none for the other precisions.

    Measured on `images` (N, H, W, 3), which calibrate too, with ONNX Runtime on the CPU. Raises as `graph_of` does.
    """
    if precision in ("fp32", "bf16"):
        return []
    graph = Conversion(model, precision, images, symmetric)
    reference = run(model.content, images)[0]
    costs = []
    for kind in sorted(set(graph.candidates.values())):
        alone = [name for name, k in graph.candidates.items() if k == kind]
        costs.append(Sensitivity(kind, _cosine(graph, alone, images, reference)))
    return sorted(costs, key=lambda cost: cost.cosine)


def delicate(graph: Conversion, images: NDArray[np.uint8]) -> frozenset[str]:
    """Those of the candidates that cost more than DELICATE where they alone leave fp32.

    Losses of operators add up, so of a group that loses less none is delicate; of others both halves are measured. Where
    no operator stands out one measurement of all of them is enough.
    """
    some = images[:: max(1, len(images) // DELICATE_IMAGES)][:DELICATE_IMAGES]
    reference = run(graph.content, some)[0]

    def within(names: list[str]) -> list[str]:
        if not names or 1.0 - _cosine(graph, names, some, reference) <= DELICATE:
            return []
        if len(names) == 1:
            return names
        half = len(names) // 2
        return within(names[:half]) + within(names[half:])

    return frozenset(within(list(graph.candidates)))


def _cosine(graph: Conversion, names: list[str], images: NDArray[np.uint8], reference: NDArray[np.float32]) -> float:
    """The smallest over images, where only these operators have left fp32."""
    found = run(graph.converted({name: graph.candidates[name] for name in names}), images)[0]
    return float(np.sum(reference * found, axis=1).min())
