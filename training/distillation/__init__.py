"""Structural knowledge of a teacher that sees label maps, distilled into a student that sees colours (docs/methods.md 3).

StructVPR-style: the partition of samples is the paper's, the thresholds and the weight function are ours (docs/methods.md 3.5).
"""

from training.distillation.distiller import Distillation, Distiller
from training.distillation.samples import Audit, Samples

__all__ = ["Audit", "Distillation", "Distiller", "Samples"]
