"""The table of benchmarks/engine_faults.py on a model of milliseconds: every frame is answered, whatever breaks."""

from __future__ import annotations

from pathlib import Path

import pytest
from engine_faults import FAULTS, Outcome, table
from small_worlds import texture

UNANSWERED = {"model file cut short"}
"""There is no model then: the node says so and does not start."""
SILENT = {"model file replaced while the node runs"}


@pytest.fixture(scope="module")
def rows(grid_model_path: Path) -> dict[str, Outcome]:
    return {row.fault: row for row in table(grid_model_path, [texture(i, 64, 48) for i in range(4)])}


@pytest.mark.parametrize("fault", FAULTS)
def test_frames_are_answered_as_the_reference_would(rows: dict[str, Outcome], fault: str) -> None:
    row = rows[fault]
    assert (row.answered, row.is_reference) == ((0, False) if fault in UNANSWERED else (4, True))
    assert bool(row.said) == (fault not in SILENT)
    assert not any("\n" in text for text in row.said)
