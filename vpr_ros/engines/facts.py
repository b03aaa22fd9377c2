"""What was measured of an engine when it was built."""

from __future__ import annotations

from dataclasses import dataclass

from vpr_ros.engines.cache import Entry
from vpr_ros.engines.parity import Parity
from vpr_ros.errors import EngineError

RECALL_LOSS = 0.01
"""Most that an engine's recall@1 may be below the reference's."""


@dataclass(frozen=True, slots=True)
class Recall:
    """Recall@1 of an engine and of the reference on one set of places."""

    places: str
    engine: float
    reference: float

    @property
    def holds(self) -> bool:
        return self.engine >= self.reference - RECALL_LOSS - 1e-9  # rounding is no loss

    def __str__(self) -> str:
        return f"recall@1 {self.engine:.3f}, the reference's {self.reference:.3f} on {self.places}"


@dataclass(frozen=True, slots=True)
class Facts:
    """What was measured of an engine when it was built.

    `speed` is the reference's time for an image over the engine's. An engine below the bar has no times; `harmed` says which
    operators its precision harms most, and by how much.
    """

    parity: Parity
    milliseconds: float | None = None
    speed: float | None = None
    harmed: str = ""
    recall: Recall | None = None

    def __str__(self) -> str:
        fast = "" if self.speed is None else f"{self.speed:.2f} x as fast as the reference ({self.milliseconds:.1f} ms)"
        return "; ".join(str(part) for part in (fast, self.parity, self.recall, self.harmed) if part)

    def holds(self, bar: float) -> bool:
        """Whether the engine may be used: near enough to the reference, and no worse at what it is for."""
        return self.parity.cosine_min >= bar and (self.recall is None or self.recall.holds)

    @classmethod
    def of(cls, entry: Entry) -> Facts:
        """Raises EngineError where the cache's file does not have them."""
        try:
            facts = dict(entry.facts)
            recall = facts.pop("recall", None)
            return cls(Parity(**facts.pop("parity")), recall=None if recall is None else Recall(**recall), **facts)
        except (KeyError, TypeError) as error:
            raise EngineError("what was measured of the engine is damaged") from error
