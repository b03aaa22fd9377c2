"""Readers of the files that `vpr_ros.evaluation.closure_files` writes: what was written can be compared with what was meant."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vpr_ros.errors import SourceError
from vpr_ros.rotations import quaternion_to_matrix
from vpr_ros.types import FrameRef, Pose

_SESSION = "# session "
_UPPER = np.triu_indices(6)


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """One line of a pairs file; what was `nan` there is None."""

    query: FrameRef
    match: FrameRef
    similarity: float | None
    inliers: int | None
    match_from_query: Pose | None


@dataclass(frozen=True, slots=True, eq=False)
class Edge:
    """An EDGE_SE3:QUAT: `measurement` is `from_to`, which takes points of vertex `to` to vertex `from_`.

    `information` is (6, 6), translation in 1/m^2, then rotation in 1/rad^2.
    """

    from_: int
    to: int
    measurement: Pose
    information: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """A g2o file: poses of the vertices by id, and edges."""

    vertices: dict[int, Pose]
    edges: tuple[Edge, ...]


def read_pairs(path: str | Path) -> list[Pair]:
    """What `write_pairs` wrote. Raises SourceError for a file that is laid out otherwise."""
    lines, pairs = _text(path), []
    sessions = dict(line.removeprefix(_SESSION).split(" ", 1) for line in lines if line.startswith(_SESSION))
    for words in _rows(lines):
        try:
            query, match, similarity, inliers, *pose, query_session, match_session = words
            numbers = np.array(pose, dtype=np.float64)
            pairs.append(
                Pair(
                    FrameRef(sessions[query_session], parse_stamp(query)),
                    FrameRef(sessions[match_session], parse_stamp(match)),
                    None if similarity == "nan" else float(similarity),
                    None if inliers == "nan" else int(inliers),
                    None if np.isnan(numbers).all() else _pose(numbers),
                )
            )
        except (ValueError, KeyError) as error:
            raise SourceError(f"{path}: not a line of pairs: {' '.join(words)}") from error
    return pairs


def read_g2o(path: str | Path) -> Graph:
    """The vertices and edges of a g2o file. Raises SourceError for a file that is missing or holds other elements."""
    vertices: dict[int, Pose] = {}
    edges: list[Edge] = []
    for words in _rows(_text(path)):
        try:
            if words[0] == "VERTEX_SE3:QUAT":
                vertices[int(words[1])] = _pose(np.array(words[2:], dtype=np.float64))
            elif words[0] == "EDGE_SE3:QUAT":
                numbers = np.array(words[3:], dtype=np.float64)
                edges.append(Edge(int(words[1]), int(words[2]), _pose(numbers[:7]), _symmetric(numbers[7:])))
            else:
                raise ValueError("unknown element")
        except (ValueError, IndexError) as error:
            raise SourceError(f"{path}: not a line of g2o: {' '.join(words)}") from error
    return Graph(vertices, tuple(edges))


def parse_stamp(text: str) -> int:
    """The stamp in ns of `format_stamp`. Raises ValueError for other text."""
    seconds, point, nanoseconds = text.partition(".")
    if not (point and seconds.isdecimal() and nanoseconds.isdecimal() and len(nanoseconds) == 9):
        raise ValueError(f"not a stamp in seconds with nine digits: {text}")
    return int(seconds) * 10**9 + int(nanoseconds)


def _pose(seven: NDArray[np.float64]) -> Pose:
    if seven.shape != (7,):
        raise ValueError("a pose has seven numbers")
    pose = np.eye(4)
    pose[:3, 3] = seven[:3]
    pose[:3, :3] = quaternion_to_matrix(seven[3:])
    return pose


def _symmetric(upper: NDArray[np.float64]) -> NDArray[np.float64]:
    matrix = np.zeros((6, 6))
    matrix[_UPPER] = upper
    return matrix + np.triu(matrix, 1).T


def _text(path: str | Path) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"cannot read {path}: {error}") from error


def _rows(lines: Iterable[str]) -> list[list[str]]:
    """The words of each line that is not a comment."""
    return [line.split() for line in lines if line.strip() and not line.startswith("#")]
