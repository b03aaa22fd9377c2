"""What another robot sent, checked before it becomes a part of the map, as what a map file holds is. Raises ValueError."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from vpr_ros.encoded_images import is_cut_jpeg
from vpr_ros.fleet.codes import LENGTH_ERROR
from vpr_ros.fleet.protocol import LARGEST_ID, NOTHING, Batch, SessionName
from vpr_ros.images import decode_grey
from vpr_ros.map.keyframe_headers import Header
from vpr_ros.rotations import is_pose
from vpr_ros.types import Keyframe, Thumbnail

MOST_PICTURE_BYTES = 2**18
LARGEST_IMAGE_PX = 2**16
JPEG = b"\xff\xd8\xff"


def check_session(session: SessionName) -> None:
    """Robots of a fleet have names."""
    if not all(session):
        raise ValueError(f"a session without the name of its robot, or without one of its own: {session}")
    _ = Header({"robot": session[0], "session": session[1], "stamp_ns": 0, "frame_id": ""}, 0).ref


def check_id(id: int) -> None:
    if not 0 <= id <= LARGEST_ID:
        raise ValueError(f"{id} is no id of a keyframe")


def check_batch(batch: Batch, dim: int) -> None:
    """That it holds keyframes of descriptors with `dim` numbers, of its session, in order, and within its bounds."""
    check_session(batch.session)
    if not NOTHING <= batch.after < batch.up_to <= LARGEST_ID:
        raise ValueError(f"a batch of the keyframes after {batch.after} up to {batch.up_to}")
    previous = batch.after
    for keyframe in batch.keyframes:
        if not previous < keyframe.ref.id <= batch.up_to:
            raise ValueError(f"keyframe {keyframe.ref.id} after {previous} in a batch up to {batch.up_to}")
        if (keyframe.ref.robot, keyframe.ref.session) != batch.session:
            raise ValueError("a keyframe of another session than its batch")
        previous = keyframe.ref.id
        check_keyframe(keyframe, dim)
    made = {keyframe.ref for keyframe in batch.keyframes}
    for ref, match in batch.links:
        check_session((match.robot, match.session))
        check_id(match.id)
        if ref not in made or match == ref:
            raise ValueError(f"keyframe {ref.id} of a batch without it is linked, or one with itself")


def check_keyframe(keyframe: Keyframe, dim: int) -> None:
    """That a map may hold it."""
    if keyframe.descriptor.shape != (dim,):
        raise ValueError(f"a descriptor of {len(keyframe.descriptor)} numbers, where the model's has {dim}")
    if not abs(float(np.linalg.norm(keyframe.descriptor)) - 1.0) <= LENGTH_ERROR:
        raise ValueError("a descriptor that is not of unit length")
    camera = None
    if keyframe.camera is not None:
        camera = asdict(keyframe.camera) | {"distortion": list(keyframe.camera.distortion)}
    head = Header(
        asdict(keyframe.ref)
        | {
            "camera": camera,
            "travelled_m": keyframe.travelled_m,
            "elapsed_ns": keyframe.elapsed_ns,
            "odometry_segment": keyframe.odometry_segment,
        },
        keyframe.ref.id,
    )
    _ = head.ref, head.camera, head.travelled_m
    head.integer("elapsed_ns", None, -(2**63), 2**63 - 1)
    head.integer("odometry_segment", None, 0, 2**63 - 1)
    for name, pose in (("odom_from_body", keyframe.odom_from_body), ("body_from_camera", keyframe.body_from_camera)):
        if pose is not None and not is_pose(pose):
            raise ValueError(f"a keyframe whose {name} is no pose")


def check_picture(thumbnail: Thumbnail) -> None:
    """That local features can be found in it."""
    jpeg, scale = thumbnail.jpeg, thumbnail.scale
    if len(jpeg) > MOST_PICTURE_BYTES:
        raise ValueError(f"a picture of {len(jpeg)} bytes, where {MOST_PICTURE_BYTES} are allowed")
    grey = decode_grey(jpeg) if jpeg.startswith(JPEG) and not is_cut_jpeg(jpeg) else None
    if grey is None:
        raise ValueError("a picture that is no jpeg, or not whole")
    if not (0.0 < scale <= 1.0 and max(grey.shape) / scale < LARGEST_IMAGE_PX):
        raise ValueError(f"a picture of {scale:g} times the size of its image")
