"""From answers to topics: matches, loop closures, keyframes, where the robot is, markers, attention."""

from __future__ import annotations

from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray
from vpr_msgs.msg import Keyframe as KeyframeMsg
from vpr_msgs.msg import Localization as LocalizationMsg
from vpr_msgs.msg import LoopClosure, PlaceMatchArray

from vpr_ros.recognition.loop_detector import LoopDetector
from vpr_ros.recognition.relocalization import Localization, LocalizationState
from vpr_ros.ros.markers import map_markers
from vpr_ros.ros.messages import (
    attention_msg,
    keyframe_msg,
    localization_msg,
    loop_closure_msg,
    match_array_msg,
    match_msg,
    pose_stamped_msg,
)
from vpr_ros.ros.topics import attention_topic
from vpr_ros.types import Frame, Keyframe, PlaceMatch


class Publishing:
    """The node's publishers while it is configured."""

    def __init__(self, node: LifecycleNode, cameras: tuple[str, ...], has_mask: bool) -> None:
        """`has_mask`: the model tells what it attends to, so that each of the `cameras` gets an attention topic."""
        self._node = node
        self._matches = node.create_lifecycle_publisher(PlaceMatchArray, "~/matches", 10)
        self._loop_closures = node.create_lifecycle_publisher(LoopClosure, "~/loop_closures", 50)
        self._keyframes = node.create_lifecycle_publisher(KeyframeMsg, "~/keyframes", 100)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._markers = node.create_lifecycle_publisher(MarkerArray, "~/markers", latched)
        self._localization = node.create_lifecycle_publisher(LocalizationMsg, "~/localization", latched)
        self._pose = node.create_lifecycle_publisher(PoseWithCovarianceStamped, "~/relocalization_pose", 10)
        self._initialpose = node.create_lifecycle_publisher(PoseWithCovarianceStamped, "initialpose", 10)
        self._attention = {
            camera: node.create_lifecycle_publisher(CompressedImage, attention_topic(camera), 1)
            for camera in (cameras if has_mask else ())
        }

    def close(self) -> None:
        on_places = (self._localization, self._pose, self._initialpose)
        always = (self._matches, self._loop_closures, self._keyframes, self._markers)
        for publisher in (*always, *on_places, *self._attention.values()):
            self._node.destroy_lifecycle_publisher(publisher)

    @property
    def is_attention_watched(self) -> bool:
        """Whether anybody subscribes to any camera's attention."""
        return any(map(self._is_watched, self._attention))

    def publish(self, detector: LoopDetector, match: PlaceMatch, odometry_frame: str) -> None:
        """What came of one frame. The caller holds the detector's lock."""
        message = match_msg(match, detector.engine.model.id)
        if match.query is not None and odometry_frame and self._markers.get_subscription_count() > 0:
            header = Header(stamp=message.header.stamp, frame_id=odometry_frame)
            self._markers.publish(map_markers(detector.map, detector.robot, detector.session, header))
        if match.accepted and match.match is not None:
            there = detector.map[match.match].body_from_camera
            self._loop_closures.publish(loop_closure_msg(message, match.body_from_camera, there))
        self._matches.publish(match_array_msg(message))

    def publish_keyframe(self, keyframe: Keyframe, model_id: str) -> None:
        """Once the map's file has it: whoever knows of a keyframe can rely on it."""
        self._keyframes.publish(keyframe_msg(keyframe, model_id))

    def publish_localization(self, localization: Localization, frame: str, is_initialpose_wanted: bool = False) -> None:
        """Where the robot is in the map, which is called `frame`, and the same for a localisation that wants to begin there."""
        message = localization_msg(localization, frame)
        if localization.is_found or localization.state is not LocalizationState.LOCALIZED:
            self._localization.publish(message)
        if localization.pose is not None:
            self._pose.publish(pose_stamped_msg(message))
            if is_initialpose_wanted:
                self._initialpose.publish(pose_stamped_msg(message))

    def publish_attention(self, frame: Frame, match: PlaceMatch) -> None:
        """What the model attended to, where somebody subscribes."""
        if match.mask is not None and self._is_watched(frame.camera_name):
            self._attention[frame.camera_name].publish(attention_msg(frame, match.mask))

    def _is_watched(self, camera: str) -> bool:
        return self._attention[camera].get_subscription_count() > 0
