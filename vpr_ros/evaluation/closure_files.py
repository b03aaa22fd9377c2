"""Loop closures as text files that other tools read: pairs in the style of TUM trajectories, and g2o.

Frames are named by stamp and the number of their session; comments tell the names of the sessions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vpr_ros.rotations import matrix_to_quaternion, rotation_angle_deg
from vpr_ros.types import FrameRef, PlaceMatch, Pose

_PAIRS_HEADER = (
    "# query_stamp match_stamp similarity inliers tx ty tz qx qy qz qw (match_from_query; translation of length 1 or 0) "
    "query_session match_session"
)
_SESSION = "# session "
_UPPER = np.triu_indices(6)
_ODOMETRY_SIGMA_M, _ODOMETRY_SIGMA_RAD = 0.02, 0.01
"""What a step of odometry is never better than; its drift comes on top."""


@dataclass(frozen=True, slots=True, eq=False)
class OdometryPath:
    """Poses of frames that compare with each other, in the order of time: `odom_from_body` of a session.

    `is_camera`: the body is the camera itself, as far as is known.
    """

    poses: Mapping[FrameRef, Pose]
    is_camera: bool = False


def write_pairs(path: str | Path, matches: Sequence[PlaceMatch]) -> None:
    """One accepted closure a line, stamps in exact seconds; whatever is not known is `nan`. See `_PAIRS_HEADER`."""
    numbers = _session_numbers(matches)
    lines = [_PAIRS_HEADER, *_session_lines(numbers)]
    for match in matches:
        if not match.accepted or match.match_frame is None:
            continue
        query, other = match.frame, match.match_frame
        similarity = "nan" if match.similarity is None else f"{match.similarity:.6f}"
        inliers = "nan" if match.verification is None else str(match.verification.inliers)
        pose = None if match.verification is None else match.verification.match_from_query
        seven = _numbers([np.nan] * 7 if pose is None else _seven(pose))
        stamps = f"{format_stamp(query.stamp_ns)} {format_stamp(other.stamp_ns)}"
        lines.append(f"{stamps} {similarity} {inliers} {seven} {numbers[query.session]} {numbers[other.session]}")
    Path(path).write_text("\n".join(lines) + "\n")


def write_g2o(
    path: str | Path,
    matches: Sequence[PlaceMatch],
    odometry: Sequence[OdometryPath] = (),
    drift_per_m: float = 0.1,
) -> None:
    """The accepted closures as a pose graph: one EDGE_SE3:QUAT each, and a VERTEX_SE3:QUAT for each frame that appears.

    A vertex has the pose of the frame's odometry, which begins anew with every path; without one it is put at the
    identity. Where the odometry is the camera's own, keyframes are vertices too, and consecutive ones of a path are
    joined by its steps, so that a back end can optimise the graph as it is. Otherwise vertices are poses of the body
    and the closures are between cameras: a back end has to be told where the camera sits.

    Vertex ids count the frames by session and stamp, and comments name both. An edge of a closure leads from the match to the
    query, in camera frames, with the translation of `match_from_query`, of length 1 or 0, and the inverse of its covariance, about the query's axes; one of
    odometry errs by `drift_per_m` of its length (and by as much of its angle). Rotations are in radians, as GTSAM and
    Ceres read them (g2o itself measures half of the angle). Closures without a pose or without a positive definite
    covariance are left out and counted in a comment.
    """
    accepted = [match for match in matches if match.accepted]
    closures = [closure for closure in map(_measured, accepted) if closure is not None]
    ends = {frame for closure in closures for frame in (closure.query, closure.match)}
    keyframes = {match.frame for match in matches if match.keyframe_id is not None}
    steps = [
        step
        for each in odometry
        if each.is_camera
        for step in pairwise((frame, pose) for frame, pose in each.poses.items() if frame in ends | keyframes)
    ]
    frames = ends | {frame for step in steps for frame, _ in step}
    numbers = _session_numbers(matches)
    poses = {frame: pose for each in odometry for frame, pose in each.poses.items()}
    ids = {f: k for k, f in enumerate(sorted(frames, key=lambda frame: (numbers[frame.session], frame.stamp_ns)))}
    lines = [f"# {len(closures)} loop closures; {len(accepted) - len(closures)} left out for want of a pose"]
    lines.append(f"# {sum(frame not in poses for frame in ids)} vertices of unknown pose are put at the identity")
    if any(not each.is_camera and ends & each.poses.keys() for each in odometry):
        lines.append("# vertices are poses of the odometry's body, but edges lead from camera to camera")
    lines += _session_lines(numbers)
    for frame, vertex in ids.items():
        lines.append(f"# vertex {vertex} stamp {format_stamp(frame.stamp_ns)} session {numbers[frame.session]}")
        lines.append(f"VERTEX_SE3:QUAT {vertex} {_numbers(_seven(poses.get(frame, np.eye(4))))}")
    for closure in closures:
        lines.append(_edge(ids[closure.match], ids[closure.query], closure.match_from_query, closure.information))
    for (before, a), (after, b) in steps:
        step = np.linalg.inv(a) @ b
        lines.append(_edge(ids[before], ids[after], step, _information_of_step(step, drift_per_m)))
    Path(path).write_text("\n".join(lines) + "\n")


def format_stamp(stamp_ns: int) -> str:
    """Seconds with all nine digits, without a detour through float: `12.000000034`. Stamps are not negative."""
    seconds, nanoseconds = divmod(stamp_ns, 10**9)
    return f"{seconds}.{nanoseconds:09d}"


@dataclass(frozen=True, slots=True, eq=False)
class _Closure:
    query: FrameRef
    match: FrameRef
    match_from_query: Pose
    information: NDArray[np.float64]


def _measured(match: PlaceMatch) -> _Closure | None:
    """An accepted match as a measurement, or None if its pose or a usable covariance is missing.

    The covariance is about the axes of the match, and g2o takes the information of an edge about those of the vertex that it leads
    to, the query: its error is of inverse(measured) * found.
    """
    verification = match.verification
    if match.match_frame is None or verification is None:
        return None
    if verification.match_from_query is None or verification.covariance is None:
        return None
    try:
        root = np.linalg.inv(np.linalg.cholesky(verification.covariance))
    except np.linalg.LinAlgError:
        return None
    query_from_match = np.kron(np.eye(2), verification.match_from_query[:3, :3].T)
    information = query_from_match @ root.T @ root @ query_from_match.T
    return _Closure(match.frame, match.match_frame, verification.match_from_query, information)


def _information_of_step(step: Pose, drift_per_m: float) -> NDArray[np.float64]:
    sigma_m = _ODOMETRY_SIGMA_M + drift_per_m * float(np.linalg.norm(step[:3, 3]))
    sigma_rad = _ODOMETRY_SIGMA_RAD + drift_per_m * math.radians(rotation_angle_deg(step))
    return np.diag([sigma_m**-2] * 3 + [sigma_rad**-2] * 3)


def _edge(from_: int, to: int, from_to: Pose, information: NDArray[np.float64]) -> str:
    return f"EDGE_SE3:QUAT {from_} {to} {_numbers([*_seven(from_to), *information[_UPPER]])}"


def _session_numbers(matches: Iterable[PlaceMatch]) -> dict[str, int]:
    """Sessions in the order in which they were driven: those of the map first."""
    own = dict.fromkeys(match.session for match in matches)
    loaded = dict.fromkeys(match.match_frame.session for match in matches if match.match_frame)
    return {session: number for number, session in enumerate([*(name for name in loaded if name not in own), *own])}


def _session_lines(numbers: Mapping[str, int]) -> Iterator[str]:
    return (f"{_SESSION}{number} {session}" for session, number in numbers.items())


def _seven(pose: Pose) -> NDArray[np.float64]:
    return np.concatenate([pose[:3, 3], matrix_to_quaternion(pose[:3, :3])])


def _numbers(values: Iterable[float]) -> str:
    return " ".join(f"{value:.9g}" for value in values)
