"""What robots send one another, as the exchange knows it; `vpr_ros.ros.fleet_messages` has it as ROS messages.

Of a session's keyframes, ordered by their ids, a robot holds all up to one id, its cursor, or none (`NOTHING`). Offers publish cursors; who
lacks something requests what comes after his own cursor, and whoever hears the batch that answers takes it if it continues his.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from vpr_ros.types import Keyframe, KeyframeRef, Thumbnail

SessionName: TypeAlias = tuple[str, str]
"""(robot, session)."""
NOTHING = -1
"""The cursor of a session of which there is no keyframe yet."""
LARGEST_ID = 2**63 - 1
MOST_OFFERED = 64
"""Sessions in an offer."""
MOST_KEYFRAMES = 64
"""In a batch."""
MOST_PICTURES = 16
"""In a request."""
BATCH_BYTES = 32_000
"""That a batch is filled up to, in about 25 fragments on a usual network."""
KEYFRAME_BYTES, LINK_BYTES, CAMERA_BYTES, NAMES_BYTES = 112, 100, 300, 200
"""Of a keyframe on the wire beside its descriptor, of a link, a camera, and the head of a message; CDR with its padding, and some slack."""


@dataclass(frozen=True, slots=True)
class Offer:
    sender: str
    model_id: str
    cursors: tuple[tuple[SessionName, int], ...]


@dataclass(frozen=True, slots=True)
class Request:
    """Keyframes of a session after a cursor, as many as fit a batch; or, where there are `pictures`, those of the ids."""

    sender: str
    receiver: str
    session: SessionName
    after: int = NOTHING
    pictures: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """All keyframes of a session that the sender has with after < id <= up_to, in the order of their ids, without pictures.

    `links`: of those that were matched when they were made, the keyframe and its match. Where several robots saw a place, it is
    these that make it one place: without them a robot that comes there would find it ambiguous.
    """

    sender: str
    model_id: str
    session: SessionName
    after: int
    up_to: int
    keyframes: tuple[Keyframe, ...]
    links: tuple[tuple[KeyframeRef, KeyframeRef], ...] = ()


@dataclass(frozen=True, slots=True)
class Picture:
    """The picture of a keyframe; None where the sender has none either."""

    sender: str
    ref: KeyframeRef
    thumbnail: Thumbnail | None


Message: TypeAlias = Offer | Request | Batch | Picture


def fitting(keyframes: Sequence[Keyframe], most_bytes: float = BATCH_BYTES) -> tuple[Keyframe, ...]:
    """The first of them that fit a batch, at least one if there is any."""
    size, cameras, fit = NAMES_BYTES, set(), 0
    for keyframe in keyframes[:MOST_KEYFRAMES]:
        size += KEYFRAME_BYTES + LINK_BYTES + 2 * len(keyframe.descriptor)
        camera = camera_of(keyframe)
        if camera not in cameras:
            cameras.add(camera)
            size += CAMERA_BYTES
        if fit and size > most_bytes:
            break
        fit += 1
    return tuple(keyframes[:fit])


def size_bytes(message: Batch | Picture) -> int:
    """About what it takes on the wire, never less than a tenth less."""
    if isinstance(message, Picture):
        return NAMES_BYTES + (0 if message.thumbnail is None else len(message.thumbnail.jpeg))
    cameras = {camera_of(keyframe) for keyframe in message.keyframes}
    each = sum(KEYFRAME_BYTES + 2 * len(keyframe.descriptor) for keyframe in message.keyframes)
    return NAMES_BYTES + CAMERA_BYTES * len(cameras) + LINK_BYTES * len(message.links) + each


def camera_of(keyframe: Keyframe) -> tuple[object, ...]:
    """What is sent once of all keyframes of a batch that have it in common; hashable."""
    ref, seat = keyframe.ref, keyframe.body_from_camera
    return ref.camera_name, ref.frame_id, keyframe.camera, None if seat is None else seat.tobytes()
