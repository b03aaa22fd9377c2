"""The page of a GPU is written from results, on a machine without one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")


def test_a_page_holds_every_row(tmp_path: Path) -> None:
    import gpu

    results = gpu.Results(tmp_path / "gpu.json")
    results.add("machine", GPU="NVIDIA GeForce RTX 4070, 12282 MiB, 580.1", capability="sm_89")
    results.add("speed", size="320x240", engine="tensorrt_rtx fp16", ms=0.5)
    results.add("speed", size="320x240", engine="torch fp16", ms=0.7, cosine_min=0.99)
    results.add("failed", engine="tensorrt", reason="no GPU | none")
    page = gpu.write_page(tmp_path / "gpu.json", tmp_path / "hardware")
    assert page.name == "nvidia_geforce_rtx_4070.md"
    text = page.read_text()
    assert "| 320x240 | tensorrt_rtx fp16 | 0.5 |  |" in text
    assert "| 320x240 | torch fp16 | 0.7 | 0.99 |" in text
    assert "no GPU \\| none" in text
    assert json.loads((tmp_path / "gpu.json").read_text())["speed"][1]["ms"] == 0.7
