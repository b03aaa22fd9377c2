"""Between the types of vpr_ros and ROS messages, both ways."""

from __future__ import annotations

import math
from array import array

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Pose as PoseMsg
from geometry_msgs.msg import PoseWithCovariance, Quaternion
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header
from vpr_msgs.msg import Keyframe as KeyframeMsg
from vpr_msgs.msg import KeyframeRef, LoopClosure, PlaceMatchArray
from vpr_msgs.msg import PlaceMatch as PlaceMatchMsg

from vpr_ros.images import overlay
from vpr_ros.rotations import matrix_to_quaternion, pose_from_quaternion
from vpr_ros.types import Candidate, Frame, Keyframe, Mask, MatchStatus, PlaceMatch, Pose, Verification


def time_msg(stamp_ns: int) -> Time:
    return Time(sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)


def stamp_ns(time: Time) -> int:
    return int(time.sec) * 10**9 + int(time.nanosec)


def pose_from_msg(pose: PoseMsg) -> Pose:
    """(4, 4) of a geometry_msgs/Pose. Raises ValueError where a number is not finite or the quaternion is zero."""
    q, p = pose.orientation, pose.position
    return pose_from_quaternion(np.array([p.x, p.y, p.z]), np.array([q.x, q.y, q.z, q.w]))


def pose_to_msg(pose: Pose) -> PoseMsg:
    message = PoseMsg()
    message.position.x, message.position.y, message.position.z = (float(v) for v in pose[:3, 3])
    x, y, z, w = (float(v) for v in matrix_to_quaternion(pose[:3, :3]))
    message.orientation = Quaternion(x=x, y=y, z=z, w=w)
    return message


def keyframe_msg(keyframe: Keyframe, model_id: str) -> KeyframeMsg:
    return KeyframeMsg(
        header=Header(stamp=time_msg(keyframe.stamp_ns), frame_id=keyframe.frame_id),
        ref=_ref(keyframe),
        model_id=model_id,
        descriptor=keyframe.descriptor.tolist(),
    )


def match_msg(match: PlaceMatch, matched: Keyframe | None, model_id: str) -> PlaceMatchMsg:
    """The answer to one query; `matched` is the keyframe with the id `match.match_id`."""
    message = PlaceMatchMsg(
        header=Header(stamp=time_msg(match.stamp_ns), frame_id=match.frame_id),
        status=int(match.status),
        reason=match.status.reason,
        query_is_keyframe=match.keyframe_id is not None,
        query=KeyframeRef(
            stamp=time_msg(match.stamp_ns),
            id=KeyframeRef.NO_ID if match.keyframe_id is None else match.keyframe_id,
            session=match.session,
            camera=match.camera_name,
            camera_frame=match.frame_id,
        ),
        has_match=matched is not None,
        match=KeyframeRef(id=KeyframeRef.NO_ID) if matched is None else _ref(matched),
        similarity=_or_nan(match.similarity),
        runner_up=_or_nan(match.runner_up),
        probability=math.nan,
        consistent_count=match.consistent_count,
        model_id=model_id,
        candidate_ids=[c.keyframe_id for c in match.candidates],
        candidate_similarities=[float(c.similarity) for c in match.candidates],
    )
    verification = match.verification
    if verification is not None:
        message.inliers = verification.inliers
        message.inlier_ratio = float(verification.inlier_ratio)
        message.coverage = float(verification.coverage)
        message.has_pose = verification.match_from_query is not None
        message.match_from_query = _pose_with_covariance(verification)
    return message


def match_from_msg(message: PlaceMatchMsg) -> PlaceMatch:
    """The inverse of `match_msg`."""
    has_match = bool(message.has_match)
    return PlaceMatch(
        stamp_ns=stamp_ns(message.header.stamp),
        status=MatchStatus(message.status),
        frame_id=message.header.frame_id,
        camera_name=message.query.camera,
        session=message.query.session,
        keyframe_id=int(message.query.id) if message.query_is_keyframe else None,
        match_id=int(message.match.id) if has_match else None,
        match_stamp_ns=stamp_ns(message.match.stamp) if has_match else None,
        match_session=message.match.session if has_match else None,
        match_camera_name=message.match.camera if has_match else None,
        similarity=_or_none(message.similarity),
        runner_up=_or_none(message.runner_up),
        consistent_count=int(message.consistent_count),
        verification=_verification(message) if message.inliers or message.has_pose else None,
        candidates=tuple(
            Candidate(int(i), float(s))
            for i, s in zip(message.candidate_ids, message.candidate_similarities, strict=True)
        ),
    )


def match_array_msg(match: PlaceMatchMsg) -> PlaceMatchArray:
    return PlaceMatchArray(header=match.header, matches=[match])


def loop_closure_msg(match: PlaceMatchMsg) -> LoopClosure:
    """The constraint of an accepted match."""
    return LoopClosure(
        header=match.header,
        query_is_keyframe=match.query_is_keyframe,
        query=match.query,
        match=match.match,
        has_pose=match.has_pose,
        scale_known=match.scale_known,
        match_from_query=match.match_from_query,
        similarity=match.similarity,
        probability=match.probability,
        inliers=match.inliers,
        model_id=match.model_id,
    )


def attention_msg(frame: Frame, mask: Mask) -> CompressedImage:
    """The image as a jpeg, red where the mask ignores it."""
    _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(overlay(frame.image, mask), cv2.COLOR_RGB2BGR))
    return CompressedImage(
        header=Header(stamp=time_msg(frame.stamp_ns), frame_id=frame.frame_id),
        format="rgb8; jpeg compressed bgr8",  # as compressed_image_transport says it
        data=array("B", jpeg.tobytes()),  # bytes would be checked one by one
    )


def _ref(keyframe: Keyframe) -> KeyframeRef:
    return KeyframeRef(
        stamp=time_msg(keyframe.stamp_ns),
        id=keyframe.id,
        session=keyframe.session,
        camera=keyframe.camera_name,
        camera_frame=keyframe.frame_id,
    )


def _pose_with_covariance(verification: Verification) -> PoseWithCovariance:
    message = PoseWithCovariance()
    if verification.match_from_query is not None:
        message.pose = pose_to_msg(verification.match_from_query)
    if verification.covariance is not None:
        message.covariance = verification.covariance.ravel()
    return message


def _verification(message: PlaceMatchMsg) -> Verification:
    return Verification(
        inliers=int(message.inliers),
        inlier_ratio=float(message.inlier_ratio),
        coverage=float(message.coverage),
        match_from_query=pose_from_msg(message.match_from_query.pose) if message.has_pose else None,
        covariance=np.array(message.match_from_query.covariance).reshape(6, 6) if message.has_pose else None,
    )


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
