from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from small_benchmarks import measured, row, table

from vpr_ros.engines.benchmark.plot import write_plot


@pytest.mark.filterwarnings("error::UserWarning")  # matplotlib warns where it finds no room
@pytest.mark.parametrize("count", [1, 40])
def test_plot(count: int, tmp_path: Path) -> None:
    rows = [
        row(
            f"engine{i // 4}",
            ("fp32", "int8")[i % 2],
            1 + i % 4,
            measured=measured(speed=1 + i, speed_quartiles=(0.5 + i, 1.2 + i), cosine_min=1 - i / 50),
        )
        for i in range(count)
    ]
    write_plot(table(*rows, row(reason="no GPU")), tmp_path / "plot.png")
    picture = cv2.imread(str(tmp_path / "plot.png"))
    assert picture.shape[0] > 20 * count
    blue = np.array([0xD8, 0x7D, 0x3B])  # of the bar in fp32
    assert (np.abs(picture.astype(int) - blue).max(axis=2) < 3).any()
