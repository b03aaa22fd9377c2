"""Rows of text files, and the matrices in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from vpr_ros.errors import SourceError
from vpr_ros.sources.text import read_matrix


def test_a_matrix_is_read_by_rows() -> None:
    read = read_matrix(["1", "-2e1", ".5", "4", "5", "6"], (2, 3), Path("poses.txt"), 1)
    assert read.tolist() == [[1, -20, 0.5], [4, 5, 6]]


@pytest.mark.parametrize("text", ["", "1 2 3", "1 2 3 4 5", "1 2 3 x", "1 2 3 nan", "1 2 3 inf"])
def test_what_is_not_a_matrix_is_refused_by_line(text: str) -> None:
    with pytest.raises(SourceError, match=r"^poses\.txt:7: expected 4 numbers, a 2 x 2 matrix by rows$"):
        read_matrix(text.split(), (2, 2), Path("poses.txt"), 7)
