"""The rows of a map file, as Python has them. Keys, session and camera numbers are the file's own and mean nothing elsewhere."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vpr_ros.map.keyframe_headers import Header
from vpr_ros.map.schema import checksum
from vpr_ros.rotations import is_pose
from vpr_ros.types import Keyframe, Pose, Thumbnail, Verification

DRIVE_MOMENTS = 10**12
"""Moments of different drives never lie near one another; a multiple of common gaps, so that all drives are rounded alike (`Links`)."""
POSE_BYTES, COVARIANCE_BYTES = 128, 288
"""Of 4 x 4 and 6 x 6 float64, row by row, little-endian."""


class SessionRow(NamedTuple):
    session: int
    robot: str
    name: str


class CameraRow(NamedTuple):
    """A camera of a session as it was when some keyframes were made; another calibration is another row."""

    camera: int
    session: int
    name: str
    frame_id: str
    intrinsics: str | None
    body_from_camera: bytes | None


class KeyframeRow(NamedTuple):
    """Of a keyframe what every search may need; `thumbnail_bytes` is 0 where it has no picture."""

    key: int
    session: int
    id: int
    camera: int
    stamp_ns: int
    elapsed_ns: int
    moment: int
    odometry_segment: int
    travelled_m: float | None
    odom_from_body: bytes | None
    thumbnail_bytes: int


class DescriptorRow(NamedTuple):
    key: int
    vector: bytes


class ThumbnailRow(NamedTuple):
    key: int
    scale: float
    jpeg: bytes


class LinkRow(NamedTuple):
    """Two keyframes that an accepted loop closure found to be one place, and how their cameras stood to one another, if known."""

    first: int
    second: int
    first_from_second: bytes | None = None
    covariance: bytes | None = None
    scale_known: int = 0


class ReleasedRow(NamedTuple):
    """A moment that has no keyframe any more because another visit of its place has some (`pruning`)."""

    moment: int


class Removal(NamedTuple):
    """No row, but the end of one: the keyframe of that key, with all that refers to it."""

    key: int


class Update(NamedTuple):
    """No new row, but the present values of one that is there: the keyframe got its picture later."""

    row: KeyframeRow


Row: TypeAlias = SessionRow | CameraRow | KeyframeRow | DescriptorRow | ThumbnailRow | LinkRow | ReleasedRow
Change: TypeAlias = Row | Removal | Update
"""What is written to a map, in the order in which it happened."""
ROWS: dict[str, type[Row]] = {
    "session": SessionRow,
    "camera": CameraRow,
    "keyframe": KeyframeRow,
    "descriptor": DescriptorRow,
    "thumbnail": ThumbnailRow,
    "link": LinkRow,
    "released": ReleasedRow,
}
"""By table, in the order in which they refer to one another."""
_PLAIN = ("id", "stamp_ns", "travelled_m", "elapsed_ns", "odometry_segment")
TABLE_OF = {kind: table for table, kind in ROWS.items()}


def checked(row: Row, crc: int) -> Row:
    """The row. Raises ValueError where it is not what was written."""
    if checksum(*row) != crc:
        raise ValueError(f"a row of table {TABLE_OF[type(row)]} was changed: its checksum differs")
    return row


def camera_row(camera: int, session: int, keyframe: Keyframe) -> CameraRow:
    intrinsics = None if keyframe.camera is None else json.dumps(asdict(keyframe.camera))
    ref = keyframe.ref
    return CameraRow(camera, session, ref.camera_name, ref.frame_id, intrinsics, _bytes(keyframe.body_from_camera))


def keyframe_rows(key: int, session: int, camera: int, moment: int, keyframe: Keyframe) -> list[Row]:
    """What a keyframe is in the file."""
    ref, thumbnail = keyframe.ref, keyframe.thumbnail
    rows: list[Row] = [
        KeyframeRow(
            key,
            session,
            int(ref.id),
            camera,
            int(ref.stamp_ns),
            int(keyframe.elapsed_ns),
            moment,
            int(keyframe.odometry_segment),
            None if keyframe.travelled_m is None else float(keyframe.travelled_m),
            _bytes(keyframe.odom_from_body),
            0 if thumbnail is None else len(thumbnail.jpeg),
        ),
        DescriptorRow(key, np.ascontiguousarray(keyframe.descriptor, "<f4").tobytes()),
    ]
    if thumbnail is not None:
        rows.append(ThumbnailRow(key, float(thumbnail.scale), thumbnail.jpeg))
    return rows


def keyframe_of(
    session: SessionRow, camera: CameraRow, row: KeyframeRow, vector: DescriptorRow, picture: ThumbnailRow | None
) -> Keyframe:
    """Raises ValueError for values that cannot be, which a forged file may hold for all its checksums."""
    head = header_of(session, camera, row, None if picture is None else picture.scale)
    scale = head.scale
    return Keyframe(
        head.ref,
        np.frombuffer(vector.vector, "<f4"),
        None if picture is None or scale is None else Thumbnail(picture.jpeg, scale),
        head.camera,
        pose_of(camera.body_from_camera),
        pose_of(row.odom_from_body),
        head.travelled_m,
        head.integer("elapsed_ns", None, -(2**63), 2**63 - 1),
        head.integer("odometry_segment", None, 0, 2**63 - 1),
    )


def link_row(first: int, second: int, found: Verification | None) -> LinkRow:
    """What local geometry found of the second keyframe's frame, the query, and the first, its match."""
    if found is None or found.match_from_query is None or found.covariance is None:
        return LinkRow(first, second)
    covariance = np.ascontiguousarray(found.covariance, "<f8").tobytes()
    return LinkRow(first, second, _bytes(found.match_from_query), covariance, int(found.scale_known))


def relative_pose_of(row: LinkRow) -> tuple[Pose, NDArray[np.float64]] | None:
    """`first_from_second` and its covariance (6, 6). Raises ValueError for what is none."""
    pose = pose_of(row.first_from_second)
    if pose is None or row.covariance is None:
        return None
    if len(row.covariance) != COVARIANCE_BYTES:
        raise ValueError("a covariance that is not of 6 x 6 numbers")
    covariance: NDArray[np.float64] = np.frombuffer(row.covariance, "<f8").reshape(6, 6).astype(np.float64)
    if not np.isfinite(covariance).all():
        raise ValueError("a covariance that is not finite")
    return pose, covariance


def header_of(session: SessionRow, camera: CameraRow, row: KeyframeRow, scale: float | None = None) -> Header:
    """The plain values of a keyframe. Raises ValueError where its intrinsics are no JSON."""
    values = {
        "robot": session.robot,
        "session": session.name,
        "camera_name": camera.name,
        "frame_id": camera.frame_id,
        "camera": None if camera.intrinsics is None else json.loads(camera.intrinsics),
        "scale": scale,
    }
    return Header(values | {name: getattr(row, name) for name in _PLAIN}, row.id)


def descriptors_of(rows: list[DescriptorRow], dim: int) -> NDArray[np.float32]:
    """(N, dim). Raises ValueError for any that is not of that size and unit length."""
    if any(len(row.vector) != 4 * dim for row in rows):
        raise ValueError(f"a descriptor that has not {dim} numbers")
    descriptors = np.frombuffer(b"".join(row.vector for row in rows), "<f4").reshape(-1, dim)
    if not np.allclose(np.linalg.norm(descriptors, axis=1), 1.0, atol=1e-3):
        raise ValueError("a descriptor that is not of unit length")
    return descriptors


def _bytes(pose: Pose | None) -> bytes | None:
    return None if pose is None else np.ascontiguousarray(pose, "<f8").tobytes()


def pose_of(content: bytes | None) -> Pose | None:
    """Raises ValueError for what is none."""
    if content is None:
        return None
    if len(content) != POSE_BYTES:
        raise ValueError("a pose that is not of 4 x 4 numbers")
    pose: Pose = np.frombuffer(content, "<f8").reshape(4, 4).astype(np.float64)
    if not is_pose(pose):
        raise ValueError("16 numbers that are no pose")
    return pose
