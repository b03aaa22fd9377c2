"""Between the types of vpr_ros and ROS messages, both ways."""

from __future__ import annotations

import math
from array import array

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Pose as PoseMsg
from geometry_msgs.msg import PoseWithCovariance, PoseWithCovarianceStamped, Quaternion
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header
from vpr_msgs.msg import Keyframe as KeyframeMsg
from vpr_msgs.msg import KeyframeRef as KeyframeRefMsg
from vpr_msgs.msg import Localization as LocalizationMsg
from vpr_msgs.msg import LoopClosure, PlaceMatchArray
from vpr_msgs.msg import Place as PlaceMsg
from vpr_msgs.msg import PlaceMatch as PlaceMatchMsg

from vpr_ros.images import overlay
from vpr_ros.recognition.relocalization import Localization, MapPose, Place
from vpr_ros.rotations import matrix_to_quaternion, pose_of
from vpr_ros.types import Candidate, Frame, Keyframe, KeyframeRef, Mask, MatchStatus, PlaceMatch, Pose, Verification


def time_msg(stamp_ns: int) -> Time:
    return Time(sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)


def stamp_ns(time: Time) -> int:
    return int(time.sec) * 10**9 + int(time.nanosec)


def pose_from_msg(pose: PoseMsg) -> Pose:
    """(4, 4) of a geometry_msgs/Pose. Raises ValueError where a number is not finite or the quaternion is zero."""
    return pose_of(pose.position, pose.orientation)


def pose_to_msg(pose: Pose) -> PoseMsg:
    message = PoseMsg()
    message.position.x, message.position.y, message.position.z = (float(v) for v in pose[:3, 3])
    x, y, z, w = (float(v) for v in matrix_to_quaternion(pose[:3, :3]))
    message.orientation = Quaternion(x=x, y=y, z=z, w=w)
    return message


def keyframe_msg(keyframe: Keyframe, model_id: str) -> KeyframeMsg:
    ref = keyframe.ref
    return KeyframeMsg(
        header=Header(stamp=time_msg(ref.stamp_ns), frame_id=ref.frame_id),
        ref=ref_msg(ref),
        has_extrinsics=keyframe.body_from_camera is not None,
        body_from_camera=_pose_or_identity(keyframe.body_from_camera),
        model_id=model_id,
        descriptor=keyframe.descriptor.tolist(),
    )


def match_msg(match: PlaceMatch, model_id: str) -> PlaceMatchMsg:
    """The answer to one query."""
    message = PlaceMatchMsg(
        header=Header(stamp=time_msg(match.stamp_ns), frame_id=match.frame_id),
        status=int(match.status),
        reason=match.status.reason,
        query_is_keyframe=match.keyframe_id is not None,
        query=KeyframeRefMsg(
            robot=match.robot,
            session=match.session,
            id=KeyframeRefMsg.NO_ID if match.keyframe_id is None else match.keyframe_id,
            stamp=time_msg(match.stamp_ns),
            camera=match.camera_name,
            camera_frame=match.frame_id,
        ),
        has_match=match.match is not None,
        match=KeyframeRefMsg(id=KeyframeRefMsg.NO_ID) if match.match is None else ref_msg(match.match),
        similarity=_or_nan(match.similarity),
        runner_up=_or_nan(match.runner_up),
        probability=_or_nan(match.probability),
        consistent_count=match.consistent_count,
        model_id=model_id,
        candidates=[ref_msg(candidate.keyframe) for candidate in match.candidates],
        candidate_similarities=[float(candidate.similarity) for candidate in match.candidates],
    )
    verification = match.verification
    if verification is not None:
        message.inliers = verification.inliers
        message.inlier_ratio = float(verification.inlier_ratio)
        message.coverage = float(verification.coverage)
        message.has_pose = verification.match_from_query is not None
        message.scale_known = verification.scale_known
        message.match_from_query = _pose_with_covariance(verification)
    return message


def match_from_msg(message: PlaceMatchMsg) -> PlaceMatch:
    """The inverse of `match_msg`."""
    return PlaceMatch(
        stamp_ns=stamp_ns(message.header.stamp),
        status=MatchStatus(message.status),
        frame_id=message.header.frame_id,
        camera_name=message.query.camera,
        session=message.query.session,
        robot=message.query.robot,
        keyframe_id=int(message.query.id) if message.query_is_keyframe else None,
        match=ref_from_msg(message.match) if message.has_match else None,
        similarity=_or_none(message.similarity),
        runner_up=_or_none(message.runner_up),
        probability=_or_none(message.probability),
        consistent_count=int(message.consistent_count),
        verification=_verification(message) if message.inliers or message.has_pose else None,
        candidates=tuple(
            Candidate(ref_from_msg(ref), float(similarity))
            for ref, similarity in zip(message.candidates, message.candidate_similarities, strict=True)
        ),
    )


def match_array_msg(match: PlaceMatchMsg) -> PlaceMatchArray:
    return PlaceMatchArray(header=match.header, matches=[match])


def loop_closure_msg(
    match: PlaceMatchMsg, query_body_from_camera: Pose | None = None, match_body_from_camera: Pose | None = None
) -> LoopClosure:
    """The constraint of an accepted match, with where the two cameras sit, if that is known."""
    return LoopClosure(
        header=match.header,
        query_is_keyframe=match.query_is_keyframe,
        query=match.query,
        match=match.match,
        has_pose=match.has_pose,
        scale_known=match.scale_known,
        match_from_query=match.match_from_query,
        has_extrinsics=query_body_from_camera is not None and match_body_from_camera is not None,
        query_body_from_camera=_pose_or_identity(query_body_from_camera),
        match_body_from_camera=_pose_or_identity(match_body_from_camera),
        similarity=match.similarity,
        probability=match.probability,
        inliers=match.inliers,
        model_id=match.model_id,
    )


def place_msg(place: Place) -> PlaceMsg:
    message = PlaceMsg(
        keyframe=ref_msg(place.nearest.keyframe),
        similarity=float(place.nearest.similarity),
        is_verified=place.is_verified,
        has_pose=place.pose is not None,
        map_from_body=_map_pose(place.pose),
    )
    if place.verification is not None:
        message.inliers = place.verification.inliers
        message.inlier_ratio = float(place.verification.inlier_ratio)
        message.coverage = float(place.verification.coverage)
    return message


def localization_msg(localization: Localization, frame: str) -> LocalizationMsg:
    """`frame`: the frame_id of the map."""
    match = localization.match
    return LocalizationMsg(
        header=Header(stamp=time_msg(localization.stamp_ns), frame_id=frame),
        state=int(localization.state),
        reason=localization.reason,
        has_match=match is not None,
        match=KeyframeRefMsg(id=KeyframeRefMsg.NO_ID) if match is None else ref_msg(match),
        has_pose=localization.pose is not None,
        map_from_body=_map_pose(localization.pose),
    )


def pose_stamped_msg(localization: LocalizationMsg) -> PoseWithCovarianceStamped:
    """As Nav2, robot_localization and RTAB-Map take it."""
    return PoseWithCovarianceStamped(header=localization.header, pose=localization.map_from_body)


def attention_msg(frame: Frame, mask: Mask) -> CompressedImage:
    """The image as a jpeg, red where the mask ignores it."""
    _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(overlay(frame.image, mask), cv2.COLOR_RGB2BGR))
    return CompressedImage(
        header=Header(stamp=time_msg(frame.stamp_ns), frame_id=frame.frame_id),
        format="rgb8; jpeg compressed bgr8",  # as compressed_image_transport says it
        data=array("B", jpeg.tobytes()),  # bytes would be checked one by one
    )


def ref_msg(ref: KeyframeRef) -> KeyframeRefMsg:
    return KeyframeRefMsg(
        robot=ref.robot,
        session=ref.session,
        id=ref.id,
        stamp=time_msg(ref.stamp_ns),
        camera=ref.camera_name,
        camera_frame=ref.frame_id,
    )


def ref_from_msg(message: KeyframeRefMsg) -> KeyframeRef:
    return KeyframeRef(
        robot=message.robot,
        session=message.session,
        id=int(message.id),
        stamp_ns=stamp_ns(message.stamp),
        camera_name=message.camera,
        frame_id=message.camera_frame,
    )


def _pose_or_identity(pose: Pose | None) -> PoseMsg:
    return pose_to_msg(np.eye(4) if pose is None else pose)


def _pose_with_covariance(verification: Verification) -> PoseWithCovariance:
    message = PoseWithCovariance()
    if verification.match_from_query is not None:
        message.pose = pose_to_msg(verification.match_from_query)
    if verification.covariance is not None:
        message.covariance = verification.covariance.ravel()
    return message


def _map_pose(pose: MapPose | None) -> PoseWithCovariance:
    if pose is None:
        return PoseWithCovariance()
    return PoseWithCovariance(pose=pose_to_msg(pose.map_from_body), covariance=pose.covariance.ravel())


def _verification(message: PlaceMatchMsg) -> Verification:
    return Verification(
        inliers=int(message.inliers),
        inlier_ratio=float(message.inlier_ratio),
        coverage=float(message.coverage),
        match_from_query=pose_from_msg(message.match_from_query.pose) if message.has_pose else None,
        covariance=np.array(message.match_from_query.covariance).reshape(6, 6) if message.has_pose else None,
        scale_known=bool(message.scale_known),
    )


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
