"""From camera topics to frames: subscriptions, decoding, calibration, odometry, and where each camera sits."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from vpr_ros.calibration import Calibration, Calibrations, is_rectified
from vpr_ros.config import Config
from vpr_ros.errors import ImageError, VprError
from vpr_ros.extrinsics import StaticTransforms, configured_extrinsics
from vpr_ros.image_decoder import Decoder
from vpr_ros.images import BitDepth, is_black
from vpr_ros.recognition.drive_clock import stamp_or_received
from vpr_ros.ros.diagnostics import Diagnostics
from vpr_ros.ros.messages import pose_from_msg, stamp_ns
from vpr_ros.ros.topics import of_camera, topic_of
from vpr_ros.ros.watchdog import STOP_S
from vpr_ros.ros.worker import LatestWorker
from vpr_ros.stopwatch import Stopwatch
from vpr_ros.types import Camera, Frame, Pose
from vpr_ros.types import Image as Pixels

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks
try:
    from tf2_msgs.msg import TFMessage
except ImportError:  # where cameras sit is then known from the parameter alone
    TFMessage = None

ImageMsg: TypeAlias = Image | CompressedImage
Received: TypeAlias = tuple[ImageMsg, int, int]
"""An image, its stamp and when it came (time.monotonic_ns)."""
ODOMETRY_WINDOW = 1000


class Streams:
    """The node's subscriptions while it is active, and one worker thread that turns what they bring into frames.

    `answer` is called in that thread with at most one frame of each camera, the newest; `on_calibrated` when a camera's image
    has intrinsics for the first time. Images are ignored while not `is_enabled`.
    """

    def __init__(
        self,
        node: Node,
        config: Config,
        diagnostics: Diagnostics,
        stopwatch: Stopwatch,
        decoder: Decoder,
        answer: Callable[[list[Frame]], None],
        on_calibrated: Callable[[], object],
    ) -> None:
        self.is_enabled = True
        self.odometry_frame = ""
        """The frame in which odometry poses are; empty before the first."""
        self._node, self._config, self._diagnostics, self._stopwatch = node, config, diagnostics, stopwatch
        self._decoder, self._answer, self._on_calibrated = decoder, answer, on_calibrated
        self._odometry: deque[tuple[int, Pose, str]] = deque(maxlen=ODOMETRY_WINDOW)
        self._configured_extrinsics = configured_extrinsics(config)
        self._transforms = StaticTransforms()
        self._subscriptions: list[Any] = []
        transport = config.node.image_transport
        image, kind = ("image/compressed", CompressedImage) if transport == "compressed" else ("image", Image)
        topics = {camera: topic_of(camera, image) for camera in config.node.camera_names}
        resolved = {camera: node.resolve_topic_name(topic) for camera, topic in topics.items()}
        self._calibrations = {c: Calibrations(rectified=is_rectified(topic)) for c, topic in resolved.items()}
        self._bit_depths = {camera: BitDepth() for camera in topics}
        self._worker: LatestWorker[Received] = LatestWorker(self._on_batch, self._on_worker_error)
        diagnostics.watch(resolved, busy_s=lambda: self._worker.busy_s)
        try:
            self._subscribe_all(topics, image_type=kind)
        except Exception:
            self.stop()  # a QoS override that is none, say: activation can be tried again
            raise
        node.get_logger().info(f"subscribed to {', '.join(each.topic_name for each in self._subscriptions)}")

    def _subscribe_all(self, topics: Mapping[str, str], image_type: type) -> None:
        for camera, topic in topics.items():
            events = SubscriptionEventCallbacks(incompatible_qos=partial(self._diagnostics.on_incompatible_qos, camera))
            self._subscribe(image_type, topic, partial(self._on_image, camera), _sensor_data(1), events)
            on_info = partial(self._on_camera_info, camera)
            self._subscribe(CameraInfo, topic_of(camera, "camera_info"), on_info, _sensor_data(1))
        if self._config.node.use_odometry:
            self._subscribe(Odometry, "odom", self._on_odometry, _sensor_data(100))
            if TFMessage is not None:
                self._subscribe(TFMessage, "/tf_static", self._on_static_transforms, _latched(100))

    def stop(self) -> bool:
        """End the subscriptions, and the batch in work; whether that has ended within `STOP_S`."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()
        self._diagnostics.ignore()
        return self._worker.stop(STOP_S)

    def reconfigure(self, config: Config) -> None:
        """Of what may change while the node runs. Raises ConfigError."""
        self._configured_extrinsics, self._config = configured_extrinsics(config), config

    def _subscribe(
        self, kind: type, topic: str, callback: Callable[[Any], None], qos: QoSProfile, events: Any = None
    ) -> None:
        """With a QoS that is this subscription's own: rclpy writes the `qos_overrides` of the topic into it."""
        options = QoSOverridingOptions.with_default_policies()
        self._subscriptions.append(
            self._node.create_subscription(
                kind, topic, callback, qos, event_callbacks=events, qos_overriding_options=options
            )
        )

    # --- in the executor's thread ------------------------------------------------------------------------------------

    def _on_image(self, camera: str, message: ImageMsg) -> None:
        if not self.is_enabled:
            return
        stream, now_ns = self._diagnostics.streams[camera], time.monotonic_ns()
        stream.received += 1
        stream.last_image_s = now_ns * 1e-9
        if stamp_ns(message.header.stamp) == 0:
            stream.unstamped += 1
            if stream.unstamped == 1:
                self._node.get_logger().warning(
                    f"images on {stream.topic} have no stamp: the time of reception is used instead"
                )
        self._worker.offer(camera, (message, self._stamp(message.header), now_ns))
        stream.dropped = self._worker.dropped[camera]

    def _stamp(self, header: Header) -> int:
        return stamp_or_received(stamp_ns(header.stamp), self._node.get_clock().now().nanoseconds)

    def _on_camera_info(self, camera: str, message: CameraInfo) -> None:
        if change := self._calibrations[camera].update(Calibration.of_info(message)):
            self._node.get_logger().warning(of_camera(camera, change))

    def _on_odometry(self, message: Odometry) -> None:
        odometry = self._diagnostics.odometry
        odometry.counts["received"] += 1
        try:
            pose = pose_from_msg(message.pose.pose)
        except ValueError as error:
            odometry.counts["unusable"] += 1
            odometry.why = str(error)
            self._node.get_logger().warning(f"odometry is not used: {error}", throttle_duration_sec=5.0)
            return
        name = f"{message.header.frame_id}/{message.child_frame_id}"
        self._odometry.append((self._stamp(message.header), pose, name))
        self.odometry_frame = message.header.frame_id

    def _on_static_transforms(self, message: Any) -> None:
        for fault in self._transforms.update(message.transforms):
            self._node.get_logger().warning(fault)

    # --- in the worker's thread --------------------------------------------------------------------------------------

    def _on_batch(self, batch: Mapping[str, Received]) -> None:
        """At most one image of each camera in; frames out."""
        decoded = [self._frame(camera, *received) for camera, received in batch.items()]
        self._answer([frame for frame in decoded if frame is not None])

    def _frame(self, camera: str, message: ImageMsg, stamp: int, received_ns: int) -> Frame | None:
        """None for an image that cannot be read; it is counted."""
        try:
            with self._stopwatch("decode"):
                is_compressed = isinstance(message, CompressedImage)
                decode = self._decoder.compressed if is_compressed else self._decoder.raw
                image = decode(message, self._bit_depths[camera])
        except ImageError as error:
            self.skip(camera, error)
            return None
        if is_black(image):
            self._diagnostics.streams[camera].black += 1
        pose, odometry_frame = self._nearest_odometry(stamp)
        return Frame(
            stamp_ns=stamp,
            image=image,
            camera=self._camera_for(camera, image),
            odom_from_body=pose,
            frame_id=message.header.frame_id,
            camera_name=camera,
            odometry_frame=odometry_frame,
            received_ns=received_ns,
            body_from_camera=self._body_from_camera(camera, message.header.frame_id, odometry_frame),
        )

    def frame_of(self, message: ImageMsg, camera: str, info: CameraInfo) -> Frame:
        """A frame of no drive, of an image as one of the cameras takes them; `info` is its calibration, if it has one.

        May be called in any thread. Raises ImageError, and VprError where there is no such camera.
        """
        if camera not in self._calibrations:
            raise VprError(
                f"there is no camera {camera!r}; node.cameras names {', '.join(self._calibrations) or 'none'}"
            )
        decode = self._decoder.compressed if isinstance(message, CompressedImage) else self._decoder.raw
        image = decode(message, BitDepth())
        calibrations = self._calibrations[camera]
        if info.k[0]:
            calibrations = Calibrations()
            calibrations.update(Calibration.of_info(info))
        odometry_frame = self._odometry[-1][2] if self._odometry else ""
        return Frame(
            stamp_ns=stamp_ns(message.header.stamp),
            image=image,
            camera=calibrations.camera_for(width=image.shape[1], height=image.shape[0]).camera,
            frame_id=message.header.frame_id,
            camera_name=camera,
            body_from_camera=self._body_from_camera(camera, message.header.frame_id, odometry_frame),
        )

    def _body_from_camera(self, camera: str, frame_id: str, odometry_frame: str) -> Pose | None:
        if camera in self._configured_extrinsics:
            return self._configured_extrinsics[camera]
        return self._transforms.between(odometry_frame.rpartition("/")[2], frame_id)

    def _camera_for(self, camera: str, image: Pixels) -> Camera | None:
        """The intrinsics of an image of this camera; what is remarkable about it is logged when it changes."""
        stream, log = self._diagnostics.streams[camera], self._node.get_logger()
        judged = self._calibrations[camera].camera_for(width=image.shape[1], height=image.shape[0])
        if (remark := str(judged)) and remark != stream.calibration:
            (log.warning if judged.camera is None else log.info)(of_camera(camera, remark))
        if (depth := self._bit_depths[camera].remark) and depth != stream.bit_depth:
            log.info(of_camera(camera, depth))
        was_calibrated, stream.is_calibrated = stream.is_calibrated, judged.camera is not None
        stream.calibration, stream.bit_depth = remark, depth
        if stream.is_calibrated and not was_calibrated:
            self._on_calibrated()
        return judged.camera

    def _nearest_odometry(self, stamp: int) -> tuple[Pose | None, str]:
        """Pose and names of its frames; None where none is near."""
        recent = list(self._odometry)
        if not recent:
            return None, ""
        found, pose, name = min(recent, key=lambda entry: abs(entry[0] - stamp))
        if abs(found - stamp) <= self._config.node.max_odometry_age_s * 1e9:
            self._diagnostics.odometry.counts["near"] += 1
            return pose, name
        self._diagnostics.odometry.counts["far"] += 1
        return None, ""

    def skip(self, camera: str, error: Exception) -> None:
        """An image gets no answer, and why."""
        self._diagnostics.streams[camera].skip(str(error))
        self._node.get_logger().warning(of_camera(camera, str(error)), throttle_duration_sec=5.0)

    def _on_worker_error(self, batch: Mapping[str, Received], error: Exception) -> None:
        if not self._node.context.ok():
            return  # stopped by a signal: what failed was for want of ROS
        reason = f"a frame failed: {type(error).__name__}: {error}"
        for camera in batch:
            self._diagnostics.streams[camera].skip(reason)
        self._node.get_logger().error(reason, throttle_duration_sec=1.0)


def _sensor_data(depth: int) -> QoSProfile:
    """The QoS of sensors, best effort, with another depth."""
    return QoSProfile(
        reliability=qos_profile_sensor_data.reliability,
        durability=qos_profile_sensor_data.durability,
        history=qos_profile_sensor_data.history,
        depth=depth,
    )


def _latched(depth: int) -> QoSProfile:
    """What was published before the node started is delivered, too."""
    return QoSProfile(depth=depth, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
