"""Places that recall is judged on: the options `--places` and `--sequence`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from vpr_ros.config import Config
from vpr_ros.engines.backend import Engine
from vpr_ros.errors import SourceError
from vpr_ros.evaluation.ground_truth import RevisitProtocol
from vpr_ros.replay import recall_at_1
from vpr_ros.sources import open_source


@dataclass(frozen=True, slots=True)
class Places:
    """A recording with poses, and how it is judged. It can be sent to another process."""

    name: str
    path: Path
    sequence: str | None
    config: Config
    protocol: RevisitProtocol = field(default_factory=RevisitProtocol)

    @classmethod
    def open(cls, path: Path, sequence: str | None, config: Config) -> Places:
        """Raises SourceError for a recording without poses."""
        source = open_source(path, sequence)
        if not source.has_truth:
            raise SourceError(f"{source.name} has no poses: recall cannot be judged")
        return cls(source.name, path, sequence, config)

    def recall_of(self, engine: Engine) -> float:
        """Recall@1. Raises SourceError for places that never come back."""
        return recall_at_1(open_source(self.path, self.sequence), engine, self.config, self.protocol)
