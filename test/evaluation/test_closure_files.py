"""Written closures come back as they were, and rotations agree with OpenCV's."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from closure_files import parse_stamp, read_g2o, read_pairs
from hypothesis import given, settings
from hypothesis import strategies as st

from vpr_ros.errors import SourceError
from vpr_ros.evaluation.closure_files import OdometryPath, format_stamp, write_g2o, write_pairs
from vpr_ros.types import FrameRef, KeyframeRef, MatchStatus, PlaceMatch, Verification

VECTORS = st.tuples(*[st.floats(-4, 4)] * 3).map(np.array)


def pose(*vector: float) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = cv2.Rodrigues(np.array(vector[3:], dtype=np.float64))[0]
    matrix[:3, 3] = vector[:3]
    return matrix


def closure(stamp: int, verification: Verification | None, status: MatchStatus = MatchStatus.ACCEPTED) -> PlaceMatch:
    return PlaceMatch(stamp, status, match=KeyframeRef("", "", 3, 7), similarity=0.8125, verification=verification)


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
    assert (first.query, first.match) == (FrameRef("", 1_700_000_000_123_456_789), FrameRef("", 7))
    assert (first.similarity, first.inliers) == (0.8125, 31)
    np.testing.assert_allclose(first.match_from_query, POSE, atol=1e-8)
    assert (second.inliers, second.match_from_query) == (20, None)
    assert (third.inliers, third.match_from_query) == (None, None)


def test_pairs_begin_with_comments_and_hold_thirteen_columns(tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs.txt", MATCHES)
    header, session, first, second, _ = (tmp_path / "pairs.txt").read_text().splitlines()
    assert header.startswith("# query_stamp match_stamp")
    assert session == "# session 0 "
    assert first.startswith("1700000000.123456789 0.000000007 0.812500 31 ")
    assert second.split()[4:] == ["nan"] * 7 + ["0", "0"]


# The clock restarts: stamp 7 is that of a frame of each drive.
TWO_DRIVES = [
    PlaceMatch(7, MatchStatus.NO_MAP, keyframe_id=0, session="my drive"),
    PlaceMatch(8, MatchStatus.LOW_SCORE, keyframe_id=1, session="my drive"),
    PlaceMatch(
        7,
        MatchStatus.ACCEPTED,
        keyframe_id=2,
        match=KeyframeRef("", "my drive", 1, 8),
        similarity=0.9,
        verification=FULL.verification,
        session="my drive+",
    ),
    PlaceMatch(
        9,
        MatchStatus.ACCEPTED,
        keyframe_id=3,
        match=KeyframeRef("", "my drive", 0, 7),
        similarity=0.9,
        verification=FULL.verification,
        session="my drive+",
    ),
]


def test_frames_of_two_sessions_with_one_stamp_stay_two(tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs.txt", TWO_DRIVES)
    assert [(pair.query, pair.match) for pair in read_pairs(tmp_path / "pairs.txt")] == [
        (FrameRef("my drive+", 7), FrameRef("my drive", 8)),
        (FrameRef("my drive+", 9), FrameRef("my drive", 7)),
    ]
    write_g2o(tmp_path / "graph.g2o", TWO_DRIVES)
    graph = read_g2o(tmp_path / "graph.g2o")
    assert len(graph.vertices) == 4
    assert [(edge.from_, edge.to) for edge in graph.edges] == [(1, 2), (0, 3)]
    text = (tmp_path / "graph.g2o").read_text()
    for line in ("# session 0 my drive", "# session 1 my drive+", "# vertex 2 stamp 0.000000007 session 1"):
        assert line in text.splitlines()


def drive(session: str, stamps: list[int], is_camera: bool = True) -> OdometryPath:
    return OdometryPath({FrameRef(session, s): pose(0.5 * s, 0, 0, 0, 0.1 * s, 0) for s in stamps}, is_camera)


def test_odometry_of_the_camera_joins_keyframes_within_its_path(tmp_path: Path) -> None:
    odometry = [drive("my drive", [6, 7, 8]), drive("my drive+", [7, 8, 9])]
    write_g2o(tmp_path / "graph.g2o", TWO_DRIVES, odometry, drift_per_m=0.1)
    graph = read_g2o(tmp_path / "graph.g2o")
    # those of frames that are neither keyframes nor matched are not there
    assert list(graph.vertices) == [0, 1, 2, 3]
    for vertex, (path, stamp) in enumerate([(0, 7), (0, 8), (1, 7), (1, 9)]):
        expected = odometry[path].poses[FrameRef(("my drive", "my drive+")[path], stamp)]
        np.testing.assert_allclose(graph.vertices[vertex], expected, atol=1e-8)
    steps = graph.edges[2:]
    assert [(edge.from_, edge.to) for edge in steps] == [(0, 1), (2, 3)]
    for edge in steps:
        relative = np.linalg.inv(graph.vertices[edge.from_]) @ graph.vertices[edge.to]
        np.testing.assert_allclose(edge.measurement, relative, atol=1e-8)
        assert (np.linalg.eigvalsh(edge.information) > 0).all()
    np.testing.assert_allclose(np.diag(steps[0].information)[:3], (0.02 + 0.1 * 0.5) ** -2)
    assert "0 vertices of unknown pose" in (tmp_path / "graph.g2o").read_text()


def test_odometry_of_a_body_places_vertices_but_joins_nothing(tmp_path: Path) -> None:
    write_g2o(tmp_path / "graph.g2o", TWO_DRIVES, [drive("my drive", [7, 8], is_camera=False)])
    graph = read_g2o(tmp_path / "graph.g2o")
    assert len(graph.edges) == 2
    np.testing.assert_allclose(graph.vertices[1][0, 3], 4.0)
    np.testing.assert_array_equal(graph.vertices[3], np.eye(4))
    text = (tmp_path / "graph.g2o").read_text()
    assert "2 vertices of unknown pose" in text
    assert "# vertices are poses of the odometry's body, but edges lead from camera to camera" in text


def test_g2o_comes_back(tmp_path: Path) -> None:
    known = pose(1, 2, 3, 0.4, 0.5, 0.6)
    write_g2o(tmp_path / "graph.g2o", MATCHES, [OdometryPath({FrameRef("", 7): known})])
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


@pytest.mark.parametrize("text", ["1.0 2.0\n", "1.000000000 2.000000000 0.5 9 0 0 0 0 0 0 0 0 0\n", "word\n"])
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
