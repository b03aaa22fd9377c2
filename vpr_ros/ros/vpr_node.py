"""The ROS 2 node: converts, calls, publishes. The algorithm is `vpr_ros.recognition.loop_detector`."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import rclpy
from nav_msgs.msg import Odometry
from numpy.typing import NDArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from std_srvs.srv import SetBool, Trigger
from visualization_msgs.msg import MarkerArray
from vpr_msgs.msg import Keyframe as KeyframeMsg
from vpr_msgs.msg import LoopClosure, PlaceMatchArray
from vpr_msgs.srv import LoadMap, SaveMap

from vpr_ros.calibration import Calibration, Calibrations, is_rectified
from vpr_ros.engines.backend import Engine, Progress
from vpr_ros.engines.open import build_options, is_reference, open_engine, open_reference
from vpr_ros.errors import ImageError, MapError, VprError
from vpr_ros.images import BitDepth, decode_compressed, decode_image
from vpr_ros.map.place_map import PlaceMap
from vpr_ros.model import PlaceModel, shipped_model
from vpr_ros.recognition.drive_clock import stamp_or_received
from vpr_ros.recognition.loop_detector import LoopDetector
from vpr_ros.ros.diagnostics import Diagnostics
from vpr_ros.ros.engine_build import EngineBuild
from vpr_ros.ros.markers import map_markers
from vpr_ros.ros.messages import (
    attention_msg,
    keyframe_msg,
    loop_closure_msg,
    match_array_msg,
    match_msg,
    pose_from_msg,
    stamp_ns,
)
from vpr_ros.ros.parameters import FIXED_STAGES, changed_config, declare_parameters, read_config
from vpr_ros.ros.worker import LatestWorker
from vpr_ros.sources.sample import images_of
from vpr_ros.stopwatch import Stopwatch
from vpr_ros.types import Camera, Frame, PlaceMatch, Pose

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

ImageMsg: TypeAlias = Image | CompressedImage
Received: TypeAlias = tuple[ImageMsg, int, int]
"""An image, its stamp and when it came (time.monotonic_ns)."""
LATENCY_WINDOW = 1000
ODOMETRY_WINDOW = 1000


class VprNode(LifecycleNode):
    """Recognises places in the images of one camera, or of a rig of cameras, and publishes loop closures.

    configure loads model and map, activate subscribes, deactivate stops the streams, cleanup forgets. Cameras are known by
    their names; a single one is "".
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("vpr", **kwargs)
        declare_parameters(self)
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self._detector: LoopDetector | None = None
        self._lock = threading.Lock()  # the worker and the services share the detector
        self._worker: LatestWorker[Received] | None = None
        self._engine_build: EngineBuild | None = None
        self._subscriptions_of_streams: list[Any] = []
        self._diagnostics = Diagnostics(self)
        # steady: silence must be noticed when simulated time stands still, too
        self.create_timer(1.0, self._diagnostics.publish, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def close(self) -> None:
        """Stop the streams and join the threads, whatever state the node is in."""
        self._stop_streams()
        self._stop_engine_build()

    # --- lifecycle -----------------------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            self._config = read_config(self)
            self._cameras = self._config.node.camera_names
            model = PlaceModel.open(self._config.model.path or shipped_model())
            build_options(self._config.engine)  # a mistake in it is said now
            self._stopwatch = Stopwatch(keep=LATENCY_WINDOW)
            reference = open_reference(model, self._config.engine.threads)
            self._detector = self._new_detector(reference, self._map_at_start(model))
        except VprError as error:
            self.get_logger().error(str(error))
            self._diagnostics.fail(str(error))
            return TransitionCallbackReturn.FAILURE
        self._create_publishers(model)
        self._create_services()
        self._diagnostics.configured(self._config, self._detector, self._stopwatch)
        self.get_logger().info(f"model {model.name} ({model.id[:12]}), {len(self._detector.map)} keyframes in the map")
        self._check_map()
        self._diagnostics.engine_fault = ""
        if not is_reference(self._config.engine):
            self._start_engine_build(model)
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._odometry: deque[tuple[int, Pose, str]] = deque(maxlen=ODOMETRY_WINDOW)
        self._odometry_frame = ""
        self._worker = LatestWorker(self._on_batch, self._on_worker_error)
        self._create_subscriptions()
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._stop_streams()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._stop_streams()
        self._release()
        return super().on_shutdown(state)

    def _start_engine_build(self, model: PlaceModel) -> None:
        """Open the engine that was asked for beside the running node; until it is there the reference describes."""
        config, log = self._config.engine, self.get_logger()

        def warn(text: str) -> None:
            self._diagnostics.engine_fault = text
            log.warning(text)

        def use(engine: Engine) -> None:
            with self._lock:
                if self._detector is not None:
                    self._detector.engine, engine = engine, self._detector.engine
                    log.info(f"engine {self._detector.engine.name} describes from now on")
            engine.close()

        def opened(progress: Progress) -> Engine:
            return open_engine(model, config, images_of(config), progress, warn)

        self._engine_build = EngineBuild(opened, use, warn, lambda text: log.info(text))
        self._diagnostics.engine_build = self._engine_build

    def _stop_engine_build(self) -> None:
        if self._engine_build is not None:
            self._engine_build.cancel()
            self._engine_build = self._diagnostics.engine_build = None

    def _map_at_start(self, model: PlaceModel) -> PlaceMap:
        if not self._config.node.map:
            return PlaceMap(model.dim)
        return PlaceMap.load(self._map_path(self._config.node.map), model.id)

    def _new_detector(self, engine: Any, place_map: PlaceMap) -> LoopDetector:
        session = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S.%f")
        return LoopDetector(
            self._config, engine, place_map, session=session, stage=self._stopwatch, report=self._on_event
        )

    def _create_publishers(self, model: PlaceModel) -> None:
        self._matches = self.create_lifecycle_publisher(PlaceMatchArray, "~/matches", 10)
        self._loop_closures = self.create_lifecycle_publisher(LoopClosure, "~/loop_closures", 50)
        self._keyframes = self.create_lifecycle_publisher(KeyframeMsg, "~/keyframes", 100)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._markers = self.create_lifecycle_publisher(MarkerArray, "~/markers", latched)
        self._attention = {
            camera: self.create_lifecycle_publisher(CompressedImage, _attention_topic(camera), 1)
            for camera in self._cameras
            if model.mask_size is not None
        }

    def _create_services(self) -> None:
        self._services_of_node = [
            self.create_service(Trigger, "~/reset", self._on_reset),
            self.create_service(SetBool, "~/set_enabled", self._on_set_enabled),
            self.create_service(SaveMap, "~/save_map", self._on_save_map),
            self.create_service(LoadMap, "~/load_map", self._on_load_map),
        ]
        self._is_enabled = True

    def _create_subscriptions(self) -> None:
        compressed = self._config.node.image_transport == "compressed"
        image, kind = ("image/compressed", CompressedImage) if compressed else ("image", Image)
        topics = {camera: _topic_of(camera, image) for camera in self._cameras}
        resolved = {camera: self.resolve_topic_name(topic) for camera, topic in topics.items()}
        self._diagnostics.watch(resolved)
        self._calibrations = {c: Calibrations(rectified=is_rectified(topic)) for c, topic in resolved.items()}
        self._bit_depths = {camera: BitDepth() for camera in topics}
        for camera, topic in topics.items():
            events = SubscriptionEventCallbacks(incompatible_qos=partial(self._diagnostics.on_incompatible_qos, camera))
            self._subscribe(kind, topic, partial(self._on_image, camera), 1, events)
            self._subscribe(CameraInfo, _topic_of(camera, "camera_info"), partial(self._on_camera_info, camera), 1)
        if self._config.node.use_odometry:
            self._subscribe(Odometry, "odom", self._on_odometry, 100)

    def _subscribe(
        self, kind: type, topic: str, callback: Callable[[Any], None], depth: int, events: Any = None
    ) -> None:
        """With the QoS of sensors, which `qos_overrides` of this topic may change."""
        qos = _sensor_data(depth)  # one of its own: rclpy writes the overrides into it
        options = QoSOverridingOptions.with_default_policies()
        self._subscriptions_of_streams.append(
            self.create_subscription(kind, topic, callback, qos, event_callbacks=events, qos_overriding_options=options)
        )

    def _stop_streams(self) -> None:
        for subscription in self._subscriptions_of_streams:
            self.destroy_subscription(subscription)
        self._subscriptions_of_streams.clear()
        self._diagnostics.ignore()
        if self._worker is not None:
            self._worker.stop()
            self._worker = None

    def _release(self) -> None:
        self._stop_engine_build()
        with self._lock:
            detector, self._detector = self._detector, None
        if detector is None:
            return
        detector.engine.close()
        always = (self._matches, self._loop_closures, self._keyframes, self._markers)
        for publisher in (*always, *self._attention.values()):
            self.destroy_lifecycle_publisher(publisher)
        for service in self._services_of_node:
            self.destroy_service(service)

    # --- streams -------------------------------------------------------------------------------------------------

    def _on_image(self, camera: str, message: ImageMsg) -> None:
        if self._worker is not None and self._is_enabled:
            stream, now_ns = self._diagnostics.streams[camera], time.monotonic_ns()
            stream.received += 1
            stream.last_image_s = now_ns * 1e-9
            if stamp_ns(message.header.stamp) == 0:
                stream.unstamped += 1
                if stream.unstamped == 1:
                    self.get_logger().warning(
                        f"images on {stream.topic} carry no stamp: the time of reception stands in"
                    )
            self._worker.offer(camera, (message, self._stamp(message.header), now_ns))
            stream.dropped = self._worker.dropped[camera]

    def _stamp(self, header: Header) -> int:
        return stamp_or_received(stamp_ns(header.stamp), self.get_clock().now().nanoseconds)

    def _on_camera_info(self, camera: str, message: CameraInfo) -> None:
        if change := self._calibrations[camera].update(Calibration.of_info(message)):
            self.get_logger().warning(_of_camera(camera, change))

    def _on_odometry(self, message: Odometry) -> None:
        try:
            pose = pose_from_msg(message.pose.pose)
        except ValueError as error:
            self.get_logger().warning(f"odometry is not used: {error}", throttle_duration_sec=5.0)
            return
        name = f"{message.header.frame_id}/{message.child_frame_id}"
        self._odometry.append((self._stamp(message.header), pose, name))
        self._odometry_frame = message.header.frame_id

    def _on_batch(self, batch: Mapping[str, Received]) -> None:
        """In the worker's thread: at most one image of each camera in, their answers out."""
        decoded = [self._frame(camera, *received) for camera, received in batch.items()]
        frames = [frame for frame in decoded if frame is not None]
        with self._lock:
            detector = self._detector
            if detector is None:
                return
            answers = detector.process_batch(frames, with_mask=any(map(self._is_attention_watched, self._attention)))
            for answer in answers:
                if isinstance(answer, PlaceMatch):
                    self._publish(detector, answer)
        for frame, answer in zip(frames, answers, strict=True):
            if not isinstance(answer, PlaceMatch):
                self._skip(frame.camera_name, answer)
                continue
            self._diagnostics.count(answer)
            self._diagnostics.streams[frame.camera_name].answered += 1
            self._stopwatch.add("end to end", (time.monotonic_ns() - batch[frame.camera_name][2]) * 1e-9)
            if answer.mask is not None and self._is_attention_watched(frame.camera_name):
                with self._stopwatch("attention"):
                    self._attention[frame.camera_name].publish(attention_msg(frame, answer.mask))

    def _frame(self, camera: str, message: ImageMsg, stamp: int, received_ns: int) -> Frame | None:
        """None for an image that cannot be read; it is counted."""
        try:
            with self._stopwatch("decode"):
                is_compressed = isinstance(message, CompressedImage)
                decode = decode_compressed if is_compressed else decode_image
                image = decode(message, self._bit_depths[camera])
        except ImageError as error:
            self._skip(camera, error)
            return None
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
        )

    def _camera_for(self, camera: str, image: NDArray[np.uint8]) -> Camera | None:
        """The intrinsics of an image of this camera; what is remarkable about it is logged when it changes."""
        stream, log = self._diagnostics.streams[camera], self.get_logger()
        judged = self._calibrations[camera].camera_for(width=image.shape[1], height=image.shape[0])
        if (remark := str(judged)) and remark != stream.calibration:
            (log.warning if judged.camera is None else log.info)(_of_camera(camera, remark))
        if (depth := self._bit_depths[camera].remark) and depth != stream.bit_depth:
            log.info(_of_camera(camera, depth))
        was_calibrated, stream.is_calibrated = stream.is_calibrated, judged.camera is not None
        stream.calibration, stream.bit_depth = remark, depth
        if stream.is_calibrated and not was_calibrated:
            with self._lock:
                self._check_map()
        return judged.camera

    def _check_map(self) -> str:
        """What the map cannot do that is asked of it; logged when it changes. Called with the lock held."""
        if self._detector is None:
            return ""
        calibrated = [camera for camera, stream in self._diagnostics.streams.items() if stream.is_calibrated]
        fault = "; ".join(self._detector.map_faults(calibrated))
        if fault and fault != self._diagnostics.map_fault:
            self.get_logger().warning(fault)
        self._diagnostics.map_fault = fault
        return fault

    def _skip(self, camera: str, error: VprError) -> None:
        self._diagnostics.streams[camera].skip(str(error))
        self.get_logger().warning(_of_camera(camera, str(error)), throttle_duration_sec=5.0)

    def _nearest_odometry(self, stamp: int) -> tuple[Pose | None, str]:
        """Pose and names of its frames; None where none is near."""
        recent = list(self._odometry)
        if not recent:
            return None, ""
        found, pose, name = min(recent, key=lambda entry: abs(entry[0] - stamp))
        return (pose, name) if abs(found - stamp) <= self._config.node.max_odometry_age_s * 1e9 else (None, "")

    def _on_event(self, kind: str, text: str) -> None:
        """In the worker's thread: the detector noticed something odd. Every session is logged, the rest ever more rarely."""
        times = self._diagnostics.count_event(kind, text)
        if kind == "session" or times.bit_count() == 1:  # the 1st, 2nd, 4th, 8th time
            self.get_logger().warning(text if times == 1 else f"{text} ({times} times by now)")

    def _is_attention_watched(self, camera: str) -> bool:
        return self._attention[camera].get_subscription_count() > 0

    def _publish(self, detector: LoopDetector, match: PlaceMatch) -> None:
        model_id = detector.engine.model.id
        matched = None if match.match_id is None else detector.map.keyframes[match.match_id]
        message = match_msg(match, matched, model_id)
        if match.keyframe_id is not None:
            self._keyframes.publish(keyframe_msg(detector.map.keyframes[match.keyframe_id], model_id))
            if self._odometry_frame and self._markers.get_subscription_count() > 0:
                header = Header(stamp=message.header.stamp, frame_id=self._odometry_frame)
                self._markers.publish(map_markers(detector.map, detector.session, header))
        if match.accepted:
            self._loop_closures.publish(loop_closure_msg(message))
        self._matches.publish(match_array_msg(message))

    def _on_worker_error(self, batch: Mapping[str, Received], error: Exception) -> None:
        reason = f"a frame failed: {type(error).__name__}: {error}"
        for camera in batch:
            self._diagnostics.streams[camera].skip(reason)
        self.get_logger().error(reason, throttle_duration_sec=1.0)

    # --- parameters and services ---------------------------------------------------------------------------------

    def _on_set_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        try:
            config = changed_config(self, changes)
        except VprError as error:
            return SetParametersResult(successful=False, reason=str(error))
        if self._detector is not None:
            fixed = [p.name for p in changes if p.name.partition(".")[0] in FIXED_STAGES]
            if fixed:
                reason = f"{', '.join(fixed)} is read when the node is configured: deactivate and clean up first"
                return SetParametersResult(successful=False, reason=reason)
            try:
                with self._lock:
                    self._detector.reconfigure(config)
                    self._config = config
                    self._check_map()
            except VprError as error:
                return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        with self._lock:
            forgotten = len(self._require_detector().map)
            engine = self._require_detector().engine
            self._detector = self._new_detector(engine, PlaceMap(engine.model.dim))
            self._diagnostics.configured(self._config, self._detector, self._stopwatch)
            self._check_map()
        response.success, response.message = True, f"forgot {forgotten} keyframes"
        return response

    def _on_set_enabled(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._is_enabled = request.data
        response.success, response.message = True, "enabled" if request.data else "disabled: images are ignored"
        return response

    def _on_save_map(self, request: SaveMap.Request, response: SaveMap.Response) -> SaveMap.Response:
        try:
            path = self._map_path(request.name)
            with self._lock:
                detector = self._require_detector()
                detector.map.save(path, detector.engine.model.id)
                response.message = f"saved {len(detector.map)} keyframes to {path}"
            response.success = True
        except VprError as error:
            response.success, response.message = False, str(error)
        return response

    def _on_load_map(self, request: LoadMap.Request, response: LoadMap.Response) -> LoadMap.Response:
        try:
            path = self._map_path(request.name)
            with self._lock:
                engine = self._require_detector().engine
                place_map = PlaceMap.load(path, engine.model.id)
                self._detector = self._new_detector(engine, place_map)
                self._diagnostics.configured(self._config, self._detector, self._stopwatch)
                fault = self._check_map()
            response.success, response.message = True, f"loaded {len(place_map)} keyframes from {path}"
            if fault:
                response.message += f"; {fault}"
        except VprError as error:
            response.success, response.message = False, str(error)
        return response

    def _require_detector(self) -> LoopDetector:
        if self._detector is None:
            raise VprError("the node is not configured")
        return self._detector

    def _map_path(self, name: str) -> Path:
        """The file of a map. Raises MapError for a name that is a path: a service never leaves the maps directory."""
        if not name or name != Path(name).name or name.startswith("."):
            raise MapError(f"{name!r} is no map name: it must be one word, not a path")
        return Path(self._config.node.maps_directory).expanduser() / f"{name.removesuffix('.vprmap')}.vprmap"


def _of_camera(camera: str, text: str) -> str:
    """`front: text`; of a single camera the text alone."""
    return f"{camera}: {text}" if camera else text


def _topic_of(camera: str, topic: str) -> str:
    """`front/image`; a single camera's is `image`."""
    return f"{camera}/{topic}" if camera else topic


def _attention_topic(camera: str) -> str:
    """Named as image_transport names the jpegs of `~/attention`."""
    return f"~/attention/{_topic_of(camera, 'compressed')}"


def _sensor_data(depth: int) -> QoSProfile:
    """The QoS of sensors, best effort, with another depth."""
    return QoSProfile(
        reliability=qos_profile_sensor_data.reliability,
        durability=qos_profile_sensor_data.durability,
        history=qos_profile_sensor_data.history,
        depth=depth,
    )


def main(args: list[str] | None = None) -> None:
    """Run the node until interrupted; exit status 1 if it cannot start, after one line that says why."""
    rclpy.init(args=args)
    try:
        node = VprNode()
    except ParameterException as error:  # an override of a wrong type or out of range
        print(f"vpr_node: {error}", file=sys.stderr)
        rclpy.try_shutdown()
        sys.exit(1)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    status = 0
    try:
        if node.get_parameter("node.autostart").value:
            done = TransitionCallbackReturn.SUCCESS
            if node.trigger_configure() != done or node.trigger_activate() != done:
                raise VprError("autostart failed; the line above says why")
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except VprError as error:
        node.get_logger().fatal(str(error))
        status = 1
    finally:
        node.close()
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()
    sys.exit(status)


if __name__ == "__main__":
    main()
