"""Loop closures as text files that other tools read: pairs in the style of TUM trajectories, and g2o."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vpr_ros.errors import SourceError
from vpr_ros.rotations import matrix_to_quaternion, quaternion_to_matrix
from vpr_ros.types import PlaceMatch, Pose

_PAIRS_HEADER = "# query_stamp match_stamp similarity inliers tx ty tz qx qy qz qw (match_from_query, unit translation)"
_UPPER = np.triu_indices(6)


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """One line of a pairs file; what was `nan` there is None."""

    query_stamp_ns: int
    match_stamp_ns: int
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


def write_pairs(path: str | Path, matches: Iterable[PlaceMatch]) -> None:
    """One accepted closure a line, stamps in exact seconds; whatever is not known is `nan`. See `_PAIRS_HEADER`."""
    lines = [_PAIRS_HEADER]
    for match in matches:
        if not match.accepted or match.match_stamp_ns is None:
            continue
        similarity = "nan" if match.similarity is None else f"{match.similarity:.6f}"
        inliers = "nan" if match.verification is None else str(match.verification.inliers)
        pose = None if match.verification is None else match.verification.match_from_query
        numbers = _numbers([np.nan] * 7 if pose is None else _seven(pose))
        stamps = f"{format_stamp(match.stamp_ns)} {format_stamp(match.match_stamp_ns)}"
        lines.append(f"{stamps} {similarity} {inliers} {numbers}")
    Path(path).write_text("\n".join(lines) + "\n")


def read_pairs(path: str | Path) -> list[Pair]:
    """What `write_pairs` wrote. Raises SourceError for a file that is missing or laid out otherwise."""
    pairs = []
    for words in _lines(path):
        try:
            query, match, similarity, inliers, *pose = words
            numbers = np.array(pose, dtype=np.float64)
            pairs.append(
                Pair(
                    parse_stamp(query),
                    parse_stamp(match),
                    None if similarity == "nan" else float(similarity),
                    None if inliers == "nan" else int(inliers),
                    None if np.isnan(numbers).all() else _pose(numbers),
                )
            )
        except ValueError as error:
            raise SourceError(f"{path}: not a line of pairs: {' '.join(words)}") from error
    return pairs


def write_g2o(
    path: str | Path, matches: Iterable[PlaceMatch], world_from_camera: Mapping[int, Pose] | None = None
) -> None:
    """The accepted closures as a pose graph: one EDGE_SE3:QUAT each, one VERTEX_SE3:QUAT for each frame that appears.

    `world_from_camera` gives the vertices' poses by stamp in ns; a vertex without one is put at the identity. Vertex
    ids count the frames by stamp, and comments name the stamp of each. An edge leads from the match to the query, in
    camera frames, with the unit translation of `match_from_query` and the inverse of its covariance. Rotations are in
    radians, as GTSAM and Ceres read them (g2o itself measures half of the angle). Closures without a pose or without a
    positive definite covariance are left out and counted in a comment.
    """
    poses = world_from_camera or {}
    accepted = [match for match in matches if match.accepted]
    closures = [closure for closure in map(_measured, accepted) if closure is not None]
    stamps = sorted({stamp for closure in closures for stamp in (closure.query_ns, closure.match_ns)})
    ids = {stamp: index for index, stamp in enumerate(stamps)}
    lines = [f"# {len(closures)} loop closures; {len(accepted) - len(closures)} left out for want of a pose"]
    lines.append(f"# {sum(stamp not in poses for stamp in stamps)} vertices of unknown pose are put at the identity")
    for stamp, vertex in ids.items():
        lines.append(f"# vertex {vertex} stamp {format_stamp(stamp)}")
        lines.append(f"VERTEX_SE3:QUAT {vertex} {_numbers(_seven(poses.get(stamp, np.eye(4))))}")
    for closure in closures:
        numbers = _numbers([*_seven(closure.match_from_query), *closure.information[_UPPER]])
        lines.append(f"EDGE_SE3:QUAT {ids[closure.match_ns]} {ids[closure.query_ns]} {numbers}")
    Path(path).write_text("\n".join(lines) + "\n")


def read_g2o(path: str | Path) -> Graph:
    """The vertices and edges of a g2o file. Raises SourceError for a file that is missing or holds other elements."""
    vertices: dict[int, Pose] = {}
    edges: list[Edge] = []
    for words in _lines(path):
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


def format_stamp(stamp_ns: int) -> str:
    """Seconds with all nine digits, without a detour through float: `12.000000034`. Stamps are not negative."""
    seconds, nanoseconds = divmod(stamp_ns, 10**9)
    return f"{seconds}.{nanoseconds:09d}"


def parse_stamp(text: str) -> int:
    """The stamp in ns of `format_stamp`. Raises ValueError for other text."""
    seconds, point, nanoseconds = text.partition(".")
    if not (point and seconds.isdecimal() and nanoseconds.isdecimal() and len(nanoseconds) == 9):
        raise ValueError(f"not a stamp in seconds with nine digits: {text}")
    return int(seconds) * 10**9 + int(nanoseconds)


@dataclass(frozen=True, slots=True, eq=False)
class _Closure:
    query_ns: int
    match_ns: int
    match_from_query: Pose
    information: NDArray[np.float64]


def _measured(match: PlaceMatch) -> _Closure | None:
    """An accepted match as a measurement, or None if its pose or a usable covariance is missing."""
    verification = match.verification
    if match.match_stamp_ns is None or verification is None:
        return None
    if verification.match_from_query is None or verification.covariance is None:
        return None
    try:
        root = np.linalg.inv(np.linalg.cholesky(verification.covariance))
    except np.linalg.LinAlgError:
        return None
    return _Closure(match.stamp_ns, match.match_stamp_ns, verification.match_from_query, root.T @ root)


def _seven(pose: Pose) -> NDArray[np.float64]:
    return np.concatenate([pose[:3, 3], matrix_to_quaternion(pose[:3, :3])])


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


def _numbers(values: Iterable[float]) -> str:
    return " ".join(f"{value:.9g}" for value in values)


def _lines(path: str | Path) -> list[list[str]]:
    """The words of each line that is not a comment."""
    try:
        text = Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"cannot read {path}: {error}") from error
    return [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]
