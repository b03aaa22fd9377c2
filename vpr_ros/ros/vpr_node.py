"""The ROS 2 node: converts, calls, publishes. The algorithm is `vpr_ros.recognition.loop_detector`.

Frames come from `streams`, are answered by the `recogniser`, and leave through `publishing`; `map_services` and `place_services` are its services.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

import rclpy
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from std_srvs.srv import SetBool

from vpr_ros.config import Config
from vpr_ros.errors import ConfigError, VprError
from vpr_ros.extrinsics import configured_extrinsics
from vpr_ros.memory import release_memory, return_large_blocks
from vpr_ros.ros.diagnostics import Diagnostics
from vpr_ros.ros.fleet import Fleet
from vpr_ros.ros.map_services import MapServices, map_path
from vpr_ros.ros.open_decoder import open_decoder
from vpr_ros.ros.parameters import FIXED_STAGES, changed_config, declare_parameters, read_config
from vpr_ros.ros.place_services import PlaceServices
from vpr_ros.ros.publishing import Publishing
from vpr_ros.ros.recogniser import Recogniser
from vpr_ros.ros.streams import Streams
from vpr_ros.ros.watchdog import ends_with_ros, exit_now
from vpr_ros.types import Frame, Keyframe, PlaceMatch


class Configured:
    """What exists between configure and cleanup; `streams` while the node is active, too."""

    def __init__(self, node: LifecycleNode, config: Config, diagnostics: Diagnostics) -> None:
        """Raises VprError, and leaves nothing behind."""
        configured_extrinsics(config)  # a mistake in it is reported now
        config.fleet.check(config.node.robot)
        self.decoder = open_decoder(config.node)
        map_file = map_path(config.node.maps_directory, config.node.map) if config.node.map else None
        self.recogniser = Recogniser(config, map_file, diagnostics, node.get_logger(), self._on_keyframe)
        model = self.recogniser.model
        self.publishing = Publishing(node, config.node.camera_names, has_mask=model.mask_size is not None)
        self.streams: Streams | None = None
        self.is_initialpose_wanted = False
        """By ~/relocalize, once, when the robot is found."""
        self.fleet = Fleet(node, self.recogniser) if config.fleet.namespace else None
        diagnostics.image_decoder = self.decoder.description
        diagnostics.fleet = None if self.fleet is None else self.fleet.state

    def _on_keyframe(self, keyframe: Keyframe) -> None:
        """Those of other robots are announced by them."""
        if keyframe.ref.robot == self.recogniser.config.node.robot:
            self.publishing.publish_keyframe(keyframe, self.recogniser.model.id)

    def localize(self, answer: PlaceMatch) -> None:
        """Publish what an answer makes known of where the robot is in an older map. The caller holds the lock."""
        known = self.recogniser.localize(answer)
        if known is None:
            return
        config = self.recogniser.config.relocalization
        wants_pose = known.is_found and (config.initialpose or self.is_initialpose_wanted)
        self.publishing.publish_localization(known, config.frame, wants_pose)
        if wants_pose:
            self.is_initialpose_wanted = False

    def close(self) -> bool:
        """Whether all that ran has ended."""
        has_stopped = self.stop()
        if self.fleet is not None:
            self.fleet.close()
        is_closed = self.recogniser.close()
        self.publishing.close()
        return has_stopped and is_closed

    def stop(self) -> bool:
        """Whether the frame in work has ended."""
        streams, self.streams = self.streams, None
        has_ended = streams is None or streams.stop()
        self.recogniser.wake()
        return has_ended


class VprNode(LifecycleNode):
    """Recognises places in the images of one camera, or of a rig of cameras, and publishes loop closures.

    configure loads model and map, activate subscribes, deactivate stops the streams, cleanup forgets. Cameras are known by
    their names; a single one is "".
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("vpr", **kwargs)
        declare_parameters(self)
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self._configured: Configured | None = None
        self._is_enabled = True
        self._diagnostics = Diagnostics(self)
        self._map_services = MapServices(self, self._recogniser)
        self._place_services = PlaceServices(self, lambda: self._configured)
        self.create_service(SetBool, "~/set_enabled", self._on_set_enabled)
        # steady: silence must be noticed when simulated time stands still, too
        self.create_timer(1.0, self._diagnostics.publish, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def close(self) -> bool:
        """Stop the streams and join the threads, whatever state the node is in; False if one does not end."""
        has_ended = self._unconfigure()
        self._map_services.close()
        self._place_services.close()
        return has_ended

    def _recogniser(self) -> Recogniser | None:
        return None if self._configured is None else self._configured.recogniser

    def _unconfigure(self) -> bool:
        configured, self._configured = self._configured, None
        if configured is None:
            return True
        has_ended = configured.close()
        self._diagnostics.unconfigured()
        del configured
        release_memory()
        return has_ended

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            with ends_with_ros():
                self._configured = Configured(self, read_config(self), self._diagnostics)
        except VprError as error:
            self.get_logger().error(str(error))
            self._diagnostics.fail(str(error))
            return TransitionCallbackReturn.FAILURE
        self._is_enabled = self._diagnostics.is_enabled = True
        recogniser = self._configured.recogniser
        keyframes = f"{len(recogniser.detector.map)} keyframes in the map"
        self.get_logger().info(f"model {recogniser.model.name} ({recogniser.model.id[:12]}), {keyframes}")
        self.get_logger().info(f"images are decoded by {self._configured.decoder.description}")
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            self._subscribe()
        except Exception as error:  # rclpy's own, for a QoS override that is none
            if self.context.ok():  # else stopped by a signal meanwhile
                self.get_logger().error(f"cannot subscribe: {error}")
            return TransitionCallbackReturn.FAILURE
        done = super().on_activate(state)
        if self._configured is not None:
            recogniser = self._configured.recogniser
            self._configured.publishing.publish_localization(
                recogniser.relocalizer.now, recogniser.config.relocalization.frame
            )
        return done

    def _subscribe(self) -> None:
        if self._configured is not None:
            recogniser = self._configured.recogniser
            self._configured.streams = Streams(
                self,
                recogniser.config,
                self._diagnostics,
                recogniser.stopwatch,
                self._configured.decoder,
                answer=self._answer,
                on_calibrated=recogniser.check_map,
            )
            self._configured.streams.is_enabled = self._is_enabled

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        if self._configured is not None:
            self._configured.stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._unconfigure()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._unconfigure()
        return super().on_shutdown(state)

    def _answer(self, frames: list[Frame]) -> None:
        """In the worker's thread: at most one frame of each camera in, their answers out."""
        configured = self._configured
        if configured is None or configured.streams is None:
            return
        recogniser, publishing, streams = configured.recogniser, configured.publishing, configured.streams
        described = recogniser.describe(frames, with_mask=publishing.is_attention_watched)
        if configured.streams is not streams:
            return  # it took so long that the node has stopped meanwhile
        with recogniser.lock:
            answers = recogniser.detector.answer(frames, described)
            for answer in answers:
                if isinstance(answer, PlaceMatch):
                    publishing.publish(recogniser.detector, answer, streams.odometry_frame)
                    configured.localize(answer)
            recogniser.pruning.start_if_due(recogniser.detector)
        for frame, answer in zip(frames, answers, strict=True):
            if not isinstance(answer, PlaceMatch):
                streams.skip(frame.camera_name, answer)
                continue
            self._diagnostics.count(answer)
            self._diagnostics.streams[frame.camera_name].answered += 1
            if frame.received_ns is not None:
                recogniser.stopwatch.add("end to end", (time.monotonic_ns() - frame.received_ns) * 1e-9)
            if answer.mask is not None:
                with recogniser.stopwatch("attention"):
                    publishing.publish_attention(frame, answer)

    def _on_set_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        try:
            config = changed_config(self, changes)
            if self._configured is not None:
                fixed = [p.name for p in changes if p.name.partition(".")[0] in FIXED_STAGES]
                if fixed:
                    reason = f"{', '.join(fixed)} is read when the node is configured: deactivate and clean up first"
                    return SetParametersResult(successful=False, reason=reason)
                configured_extrinsics(config)
                self._configured.recogniser.reconfigure(config)
                if self._configured.streams is not None:
                    self._configured.streams.reconfigure(config)
        except VprError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _on_set_enabled(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._is_enabled = self._diagnostics.is_enabled = request.data
        if self._configured is not None and self._configured.streams is not None:
            self._configured.streams.is_enabled = request.data
        response.success, response.message = True, "enabled" if request.data else "disabled: images are ignored"
        return response


def main(args: list[str] | None = None) -> None:
    """Run the node until interrupted; exit status 1 if it cannot start, after one line with the reason."""
    return_large_blocks()
    # the terminal has gone, and the map is to be saved; not with nohup
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    try:
        rclpy.init(args=args)
    except Exception as error:  # a remapping, a parameter file, a log level that rcl cannot read
        print(f"vpr_node: {_without_source(error)}", file=sys.stderr)
        sys.exit(1)
    try:
        status = _run()
    except Exception:
        if rclpy.ok():
            raise
        status = 0  # stopped by a signal while it started: what failed was for want of ROS
    rclpy.try_shutdown()
    sys.exit(status)


def _run() -> int:
    """The exit status."""
    try:
        node = VprNode()
    except (ParameterException, ConfigError) as error:  # a parameter of a wrong type or out of range
        print(f"vpr_node: {error}", file=sys.stderr)
        return 1
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        if node.get_parameter("node.autostart").value:
            done = TransitionCallbackReturn.SUCCESS
            if node.trigger_configure() != done or node.trigger_activate() != done:
                if not rclpy.ok():  # a signal came meanwhile
                    return 0
                node.get_logger().fatal("autostart failed; the line above has the reason")
                return 1
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        # a second Ctrl-C must not cut short what is being saved
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        has_ended = node.close()
        executor.shutdown()
        if not has_ended:
            print("vpr_node: ends without waiting for what does not return", file=sys.stderr)
            exit_now(1)
        node.destroy_node()
    return 0


def _without_source(error: Exception) -> str:
    """The first line of an error of rcl, without the places in its source."""
    return str(error).splitlines()[0].partition(", at /")[0]


if __name__ == "__main__":
    main()
