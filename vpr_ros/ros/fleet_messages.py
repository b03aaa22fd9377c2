"""Between what robots exchange (`vpr_ros.fleet.protocol`) and ROS messages, both ways."""

from __future__ import annotations

from array import array

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Pose as PoseMsg
from vpr_msgs.msg import (
    CompactKeyframe,
    KeyframeBatch,
    KeyframeCamera,
    KeyframeLink,
    KeyframeOffer,
    KeyframePicture,
    KeyframeRequest,
)

from vpr_ros.fleet.codes import from_half, to_half
from vpr_ros.fleet.protocol import NOTHING, Batch, Offer, Picture, Request, camera_of
from vpr_ros.ros.messages import pose_from_msg, pose_to_msg, stamp_ns, time_msg
from vpr_ros.types import Camera, Keyframe, KeyframeRef, Pose, Thumbnail

LARGEST_SEGMENT = 2**32 - 1


def offer_msg(offer: Offer) -> KeyframeOffer:
    return KeyframeOffer(
        sender=offer.sender,
        model_id=offer.model_id,
        robots=[robot for (robot, _), _ in offer.cursors],
        sessions=[session for (_, session), _ in offer.cursors],
        highest=[cursor for _, cursor in offer.cursors],
    )


def offer_from_msg(message: KeyframeOffer) -> Offer:
    """Raises ValueError where its arrays differ in length."""
    names = zip(message.robots, message.sessions, strict=True)
    cursors = zip(names, map(int, message.highest), strict=True)
    return Offer(message.sender, message.model_id, tuple(cursors))


def request_msg(request: Request) -> KeyframeRequest:
    robot, session = request.session
    return KeyframeRequest(
        sender=request.sender,
        receiver=request.receiver,
        robot=robot,
        session=session,
        from_start=request.after == NOTHING,
        after=max(request.after, 0),
        pictures=list(request.pictures),
    )


def request_from_msg(message: KeyframeRequest) -> Request:
    return Request(
        message.sender,
        message.receiver,
        (message.robot, message.session),
        NOTHING if message.from_start else int(message.after),
        tuple(map(int, message.pictures)),
    )


def batch_msg(batch: Batch) -> KeyframeBatch:
    robot, session = batch.session
    cameras: dict[tuple[object, ...], int] = {}
    keyframes = [_keyframe_msg(k, cameras.setdefault(camera_of(k), len(cameras))) for k in batch.keyframes]
    first_of = {camera_of(keyframe): keyframe for keyframe in reversed(batch.keyframes)}
    return KeyframeBatch(
        sender=batch.sender,
        model_id=batch.model_id,
        robot=robot,
        session=session,
        from_start=batch.after == NOTHING,
        after=max(batch.after, 0),
        up_to=batch.up_to,
        links=[
            KeyframeLink(id=ref.id, robot=match.robot, session=match.session, match=match.id)
            for ref, match in batch.links
        ],
        cameras=[_camera_msg(first_of[camera]) for camera in cameras],
        keyframes=keyframes,
    )


def batch_from_msg(message: KeyframeBatch) -> Batch:
    """Raises ValueError for a descriptor, a pose, a stamp or the number of a camera that cannot be."""
    cameras = [_camera_from_msg(camera) for camera in message.cameras]
    keyframes = tuple(_keyframe_from_msg(k, message.robot, message.session, cameras) for k in message.keyframes)
    return Batch(
        message.sender,
        message.model_id,
        (message.robot, message.session),
        NOTHING if message.from_start else int(message.after),
        int(message.up_to),
        keyframes,
        tuple(
            (
                KeyframeRef(message.robot, message.session, int(link.id)),
                KeyframeRef(link.robot, link.session, int(link.match)),
            )
            for link in message.links
        ),
    )


def picture_msg(picture: Picture) -> KeyframePicture:
    """Without a jpeg where there is no picture."""
    ref, thumbnail = picture.ref, picture.thumbnail
    return KeyframePicture(
        sender=picture.sender,
        robot=ref.robot,
        session=ref.session,
        id=ref.id,
        scale=0.0 if thumbnail is None else thumbnail.scale,
        jpeg=array("B", b"" if thumbnail is None else thumbnail.jpeg),
    )


def picture_from_msg(message: KeyframePicture) -> Picture:
    ref = KeyframeRef(message.robot, message.session, int(message.id))
    return Picture(message.sender, ref, Thumbnail(bytes(message.jpeg), message.scale) if len(message.jpeg) else None)


_Seat = tuple[KeyframeCamera, Camera | None, Pose | None]


def _keyframe_msg(keyframe: Keyframe, camera: int) -> CompactKeyframe:
    return CompactKeyframe(
        id=keyframe.ref.id,
        stamp=time_msg(keyframe.ref.stamp_ns),
        elapsed_ns=keyframe.elapsed_ns,
        camera=camera,
        descriptor=array("H", to_half(keyframe.descriptor).tobytes()),
        has_odometry=keyframe.odom_from_body is not None and keyframe.travelled_m is not None,
        odometry_segment=min(keyframe.odometry_segment, LARGEST_SEGMENT),
        travelled_m=keyframe.travelled_m or 0.0,
        odom_from_body=PoseMsg() if keyframe.odom_from_body is None else pose_to_msg(keyframe.odom_from_body),
    )


def _keyframe_from_msg(message: CompactKeyframe, robot: str, session: str, cameras: list[_Seat]) -> Keyframe:
    if message.camera >= len(cameras):
        raise ValueError(f"keyframe {message.id} of camera {message.camera}, where there are {len(cameras)}")
    of_camera, camera, body_from_camera = cameras[message.camera]
    return Keyframe(
        KeyframeRef(robot, session, int(message.id), _stamp_ns(message.stamp), of_camera.name, of_camera.frame_id),
        from_half(np.frombuffer(message.descriptor, np.uint16)),
        camera=camera,
        body_from_camera=body_from_camera,
        odom_from_body=pose_from_msg(message.odom_from_body) if message.has_odometry else None,
        travelled_m=float(message.travelled_m) if message.has_odometry else None,
        elapsed_ns=int(message.elapsed_ns),
        odometry_segment=int(message.odometry_segment),
    )


def _stamp_ns(time: Time) -> int:
    if time.nanosec >= 10**9:
        raise ValueError(f"a stamp of {time.nanosec} nanoseconds after its second")
    return stamp_ns(time)


def _camera_msg(keyframe: Keyframe) -> KeyframeCamera:
    camera, seat = keyframe.camera, keyframe.body_from_camera
    message = KeyframeCamera(
        name=keyframe.ref.camera_name,
        frame_id=keyframe.ref.frame_id,
        has_intrinsics=camera is not None,
        has_extrinsics=seat is not None,
        body_from_camera=PoseMsg() if seat is None else pose_to_msg(seat),
    )
    if camera is not None:
        message.width, message.height = camera.width, camera.height
        message.fx, message.fy, message.cx, message.cy = (
            float(v) for v in (camera.fx, camera.fy, camera.cx, camera.cy)
        )
        message.distortion = list(map(float, camera.distortion))
        message.fisheye = camera.fisheye
    return message


def _camera_from_msg(message: KeyframeCamera) -> _Seat:
    camera = None
    if message.has_intrinsics:
        camera = Camera(
            float(message.fx),
            float(message.fy),
            float(message.cx),
            float(message.cy),
            int(message.width),
            int(message.height),
            tuple(map(float, message.distortion)),
            bool(message.fisheye),
        )
    return message, camera, pose_from_msg(message.body_from_camera) if message.has_extrinsics else None
