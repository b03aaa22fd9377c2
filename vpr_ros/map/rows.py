"""The rows of a map file, as Python has them. Keys, session and camera numbers are the file's own and mean nothing elsewhere."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vpr_ros.map.schema import checksum
from vpr_ros.types import Camera, Keyframe, KeyframeRef, Pose, Thumbnail

DRIVE_MOMENTS = 10**12
"""Moments of different drives never lie near one another; a multiple of common gaps, so that all drives are rounded alike (`Links`)."""
POSE_BYTES = 128
"""Of 4 x 4 float64, row by row, little-endian."""


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
    """Two keyframes that an accepted loop closure found to be one place."""

    first: int
    second: int


class ReleasedRow(NamedTuple):
    """A moment that has no keyframe any more because another visit of its place has some (`pruning`)."""

    moment: int


class Removal(NamedTuple):
    """No row, but the end of one: the keyframe of that key, with all that refers to it."""

    key: int


Row: TypeAlias = SessionRow | CameraRow | KeyframeRow | DescriptorRow | ThumbnailRow | LinkRow | ReleasedRow
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
    """Raises ValueError for a pose or intrinsics that are none."""
    return Keyframe(
        KeyframeRef(session.robot, session.name, row.id, row.stamp_ns, camera.name, camera.frame_id),
        np.frombuffer(vector.vector, "<f4"),
        None if picture is None else Thumbnail(picture.jpeg, picture.scale),
        None if camera.intrinsics is None else _camera(camera.intrinsics),
        pose_of(camera.body_from_camera),
        pose_of(row.odom_from_body),
        row.travelled_m,
        row.elapsed_ns,
        row.odometry_segment,
    )


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
    return np.frombuffer(content, "<f8").reshape(4, 4).astype(np.float64)


def _camera(intrinsics: str) -> Camera:
    values: Any = json.loads(intrinsics)
    try:
        return Camera(**values | {"distortion": tuple(values["distortion"])})
    except (TypeError, KeyError) as error:
        raise ValueError(f"intrinsics that are none: {error}") from error
