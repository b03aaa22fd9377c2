"""Written closures come back as they were, and rotations agree with OpenCV's."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vpr_ros.errors import SourceError
from vpr_ros.evaluation.poses import (
    format_stamp,
    parse_stamp,
    read_g2o,
    read_pairs,
    write_g2o,
    write_pairs,
)
from vpr_ros.types import MatchStatus, PlaceMatch, Verification

VECTORS = st.tuples(*[st.floats(-4, 4)] * 3).map(np.array)


def pose(*vector: float) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = cv2.Rodrigues(np.array(vector[3:], dtype=np.float64))[0]
    matrix[:3, 3] = vector[:3]
    return matrix


def closure(stamp: int, verification: Verification | None, status: MatchStatus = MatchStatus.ACCEPTED) -> PlaceMatch:
    return PlaceMatch(stamp, status, match_stamp_ns=7, similarity=0.8125, verification=verification)


ROOT = np.eye(6) + np.tril(np.arange(36).reshape(6, 6) / 50.0)
COVARIANCE = ROOT @ ROOT.T
POSE = pose(0.6, 0.0, 0.8, 0.1, -0.2, 0.3)
FULL = closure(1_700_000_000_123_456_789, Verification(31, 0.5, 0.4, POSE, COVARIANCE))
BARE = closure(2_000_000_000, Verification(20, 0.5, 0.4))
UNVERIFIED = closure(3_000_000_000, None)
REJECTED = closure(4_000_000_000, FULL.verification, MatchStatus.ODOMETRY)
MATCHES = [FULL, BARE, UNVERIFIED, REJECTED]


def test_pairs_come_back(tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs.txt", MATCHES)
    first, second, third = read_pairs(tmp_path / "pairs.txt")
    assert (first.query_stamp_ns, first.match_stamp_ns) == (1_700_000_000_123_456_789, 7)
    assert (first.similarity, first.inliers) == (0.8125, 31)
    np.testing.assert_allclose(first.match_from_query, POSE, atol=1e-8)
    assert (second.inliers, second.match_from_query) == (20, None)
    assert (third.inliers, third.match_from_query) == (None, None)


def test_pairs_begin_with_a_comment_and_hold_eleven_columns(tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs.txt", MATCHES)
    header, first, second, _ = (tmp_path / "pairs.txt").read_text().splitlines()
    assert header.startswith("# query_stamp match_stamp")
    assert first.startswith("1700000000.123456789 0.000000007 0.812500 31 ")
    assert second.split()[4:] == ["nan"] * 7


def test_g2o_comes_back(tmp_path: Path) -> None:
    known = pose(1, 2, 3, 0.4, 0.5, 0.6)
    write_g2o(tmp_path / "graph.g2o", MATCHES, {7: known})
    graph = read_g2o(tmp_path / "graph.g2o")
    np.testing.assert_allclose(graph.vertices[0], known, atol=1e-8)
    np.testing.assert_array_equal(graph.vertices[1], np.eye(4))
    (edge,) = graph.edges
    assert (edge.from_, edge.to) == (0, 1)
    np.testing.assert_allclose(edge.measurement, POSE, atol=1e-8)
    np.testing.assert_allclose(edge.information @ COVARIANCE, np.eye(6), atol=1e-5)


def test_g2o_writes_information_in_upper_triangular_order(tmp_path: Path) -> None:
    covariance = np.diag(1.0 / np.arange(1.0, 7.0))
    write_g2o(tmp_path / "graph.g2o", [closure(8, Verification(9, 1.0, 1.0, POSE, covariance))])
    (line,) = [line for line in (tmp_path / "graph.g2o").read_text().splitlines() if line.startswith("EDGE")]
    numbers = [round(float(word), 6) for word in line.split()[10:]]
    assert numbers == [1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 5, 0, 6]


def test_g2o_says_what_it_leaves_out(tmp_path: Path) -> None:
    singular = closure(9, Verification(9, 1.0, 1.0, POSE, np.zeros((6, 6))))
    write_g2o(tmp_path / "graph.g2o", [*MATCHES, singular])
    text = (tmp_path / "graph.g2o").read_text()
    assert "# 1 loop closures; 3 left out" in text
    assert "# 2 vertices of unknown pose" in text
    assert "# vertex 1 stamp 1700000000.123456789" in text


def test_no_closures_make_files_of_comments(tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs.txt", [REJECTED])
    write_g2o(tmp_path / "graph.g2o", [])
    assert read_pairs(tmp_path / "pairs.txt") == []
    assert read_g2o(tmp_path / "graph.g2o").vertices == {}


@pytest.mark.parametrize("text", ["1.0 2.0\n", "1.000000000 2.000000000 0.5 9 0 0 0 0 0 0 0\n", "word\n"])
def test_other_text_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "file").write_text(text)
    with pytest.raises(SourceError, match="not a line"):
        read_pairs(tmp_path / "file")
    with pytest.raises(SourceError, match="not a line"):
        read_g2o(tmp_path / "file")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot read"):
        read_pairs(tmp_path / "none")


@settings(deadline=None)
@given(st.integers(0, 2**62))
def test_stamps_are_exact(stamp: int) -> None:
    assert parse_stamp(format_stamp(stamp)) == stamp


@pytest.mark.parametrize("text", ["1", "1.5", "-1.000000000", "1.0000000000", "nan"])
def test_inexact_stamps_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a stamp"):
        parse_stamp(text)
