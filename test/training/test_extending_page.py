"""The components that docs/extending.md shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from page_code import run_code
from small_worlds import touch

from training.data.batch import Targets
from vpr_ros.errors import SourceError


def test_the_loss() -> None:
    loss = run_code("extending.md", "A loss")["SoftTriplet"](temperature=0.5)
    descriptors = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], requires_grad=True)
    value = loss(descriptors, Targets(torch.eye(3), torch.tensor([[0, 1, 2]])))
    expected = np.log1p(np.exp((np.sqrt(2) - 2) / 0.5))
    assert value.item() == pytest.approx(expected, rel=1e-5)
    value.backward()
    assert descriptors.grad is not None
    assert torch.isfinite(descriptors.grad).all()


def test_the_pooling() -> None:
    pooling = run_code("extending.md", "A pooling")["MeanMax"]().build(2, (2, 2))
    x = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]], [[0.0, 0.0], [0.0, 4.0]]]])
    assert pooling.dim == 4
    assert pooling(x).tolist() == [[3.0, 1.0, 6.0, 4.0]]


def test_the_reader(tmp_path: Path) -> None:
    reader = run_code("extending.md", "A reader of a data set")["PosedCsv"](path="walk")
    touch(tmp_path / "walk", "a.jpg", "b.png")
    table = tmp_path / "walk" / "poses.csv"
    table.write_text("file,x_m,y_m,compass_deg\na.jpg,1,2,90\nb.jpg,3,4,0\n")
    (images,) = reader.read(tmp_path)
    assert [path.name for path in images.paths] == ["a.jpg", "b.png"]
    assert images.positions_m.tolist() == [[1, 2], [3, 4]]
    np.testing.assert_allclose(images.headings_rad, [0, np.pi / 2])
    table.write_text("file,x_m,y_m,compass_deg\na.jpg,1,2,east\n")
    with pytest.raises(SourceError, match=r"poses.csv:2: compass_deg is 'east'"):
        reader.read(tmp_path)
