"""The node in its own process, and everything that it says heard in this one."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter
from rclpy.qos import QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from vpr_msgs.msg import Keyframe, LoopClosure, PlaceMatchArray

from vpr_ros.ros.messages import match_from_msg, time_msg
from vpr_ros.types import Camera, PlaceMatch

RELIABLE = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)


def wait_until(condition: Callable[[], Any], timeout_s: float = 120.0, what: str = "") -> Any:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {timeout_s} s: {what or condition}")


class NodeUnderTest:
    """A `vpr_node` process with its parameters; a context manager that always ends it."""

    def __init__(
        self,
        parameters: dict[str, object],
        remaps: dict[str, str] | None = None,
        command: Sequence[str] = (sys.executable, "-m", "vpr_ros.ros.vpr_node"),
        before: str = "",
        namespace: str = "",
    ) -> None:
        """`before`: code that the process runs first, to break something; `namespace`: of the node and its topics, such as /r1."""
        if before:
            command = (sys.executable, "-c", f"{before}\nfrom vpr_ros.ros.vpr_node import main\nmain()")
        arguments = [word for name, value in parameters.items() for word in ("-p", f"{name}:={_yaml(value)}")]
        arguments += [word for name, topic in (remaps or {}).items() for word in ("-r", f"{name}:={topic}")]
        arguments += ["-r", f"__ns:={namespace}"] if namespace else []
        command = [*command, "--ros-args", *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self._is_active_at_start = parameters.get("node.autostart", True)
        self.log: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.ears = Ears(namespace)

    def __enter__(self) -> NodeUnderTest:
        """Waits until the node is active and both sides know each other: DDS drops what is said before."""
        if self.process.poll() is None and self._is_active_at_start:
            heard = [s.topic_name for s in self.ears.subscriptions if "/vpr/" in s.topic_name]
            wait_until(
                lambda: self.process.poll() is not None or all(map(self.ears.count_publishers, heard)),
                what=f"the node's topics:\n{self.text}",
            )
            time.sleep(0.5)
        return self

    def __exit__(self, *_: object) -> None:
        self.ears.close()
        self.process.terminate()
        try:
            self.process.wait(timeout=120)
        finally:
            self.process.kill()
            self._reader.join()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.log.extend(self.process.stdout)

    @property
    def text(self) -> str:
        return "".join(self.log)


class Ears(Node):
    """Hears what the node publishes, calls its services and, if asked, feeds it images."""

    def __init__(self, namespace: str = "") -> None:
        super().__init__("ears", namespace=namespace)
        self._space = namespace
        self.matches: list[PlaceMatch] = []
        self.raw: list[Any] = []
        self.keyframes: list[Any] = []
        self.loop_closures: list[Any] = []
        self.diagnostics: dict[str, DiagnosticStatus] = {}
        self.create_subscription(PlaceMatchArray, f"{namespace}/vpr/matches", self._on_matches, RELIABLE)
        self.create_subscription(Keyframe, f"{namespace}/vpr/keyframes", self.keyframes.append, RELIABLE)
        self.create_subscription(LoopClosure, f"{namespace}/vpr/loop_closures", self.loop_closures.append, RELIABLE)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._outlets: dict[str, Any] = {}
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self)
        self._thread = threading.Thread(target=self._executor.spin)
        self._thread.start()

    def close(self) -> None:
        self._executor.shutdown()
        self._thread.join()
        self.destroy_node()

    def _on_matches(self, message: Any) -> None:
        self.raw.extend(message.matches)
        self.matches.extend(match_from_msg(match) for match in message.matches)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.diagnostics[status.name] = status

    def status_of(self, name: str) -> str:
        status = self._status(name)
        return "" if status is None else status.message

    def value_of(self, name: str, key: str) -> str | None:
        status = self._status(name)
        return None if status is None else next((v.value for v in status.values if v.key == key), None)

    def _status(self, name: str) -> DiagnosticStatus | None:
        return self.diagnostics.get(f"{self._space.lstrip('/')}/vpr: {name}".lstrip("/"))

    def outlet(self, kind: type, topic: str, qos: Any = qos_profile_sensor_data, wait: bool = True) -> Any:
        """A publisher that somebody listens to."""
        if topic not in self._outlets:
            self._outlets[topic] = self.create_publisher(kind, topic, qos)
            if wait:
                wait_until(lambda: self._outlets[topic].get_subscription_count() > 0, what=f"a subscriber of {topic}")
                time.sleep(0.3)  # until the subscriber knows, too
        return self._outlets[topic]

    def send(self, image: np.ndarray, stamp_ns: int, camera: str = "") -> None:
        """From the camera of this name in a rig, which is its frame_id, too."""
        topic = f"{self._space}/{camera}/image" if camera else f"{self._space}/image"
        self.outlet(Image, topic).publish(image_msg(image, stamp_ns, camera or "camera"))

    def send_and_wait(self, image: np.ndarray, stamp_ns: int, camera: str = "") -> PlaceMatch:
        """In lockstep: the answer to this very image.

        On a busy machine the node may know of this publisher late, and DDS drops what came before: the image is sent again
        then. The node drops a copy of what it has.
        """
        for _ in range(30):
            self.send(image, stamp_ns, camera)
            with suppress(AssertionError):
                return self.wait_for(stamp_ns, camera, timeout_s=10.0)
        return self.wait_for(stamp_ns, camera)

    def wait_for(self, stamp_ns: int, camera: str = "", timeout_s: float = 120.0) -> PlaceMatch:
        """The answer to the image of this stamp and camera."""
        return wait_until(
            lambda: next((m for m in self.matches if (m.stamp_ns, m.camera_name) == (stamp_ns, camera)), None),
            timeout_s,
            what=f"answer {stamp_ns} {camera}",
        )

    def call(self, kind: type, service: str, **fields: Any) -> Any:
        client = self.create_client(kind, service)
        assert client.wait_for_service(timeout_sec=120), service
        future = client.call_async(kind.Request(**fields))
        wait_until(future.done, what=f"service {service}")
        self.destroy_client(client)
        return future.result()

    def set_parameter(self, name: str, value: Any) -> Any:
        typed = RosParameter(name, value=value).to_parameter_msg()
        assert isinstance(typed.value, ParameterValue)
        assert isinstance(typed, Parameter)
        return self.call(SetParameters, f"{self._space}/vpr/set_parameters", parameters=[typed]).results[0]


def image_msg(image: np.ndarray, stamp_ns: int, frame_id: str = "camera") -> Image:
    height, width = image.shape[:2]
    return Image(
        header=Header(stamp=time_msg(stamp_ns), frame_id=frame_id),
        height=height,
        width=width,
        encoding="rgb8",
        step=3 * width,
        data=image.tobytes(),
    )


def compressed_msg(image: np.ndarray, stamp_ns: int, form: str = "png") -> CompressedImage:
    import cv2

    data = cv2.imencode(f".{form}", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()
    return CompressedImage(header=Header(stamp=time_msg(stamp_ns), frame_id="camera"), format=form, data=data)


def camera_info_msg(camera: Camera) -> CameraInfo:
    message = CameraInfo(width=camera.width, height=camera.height, distortion_model="plumb_bob", d=[0.0] * 5)
    message.k = camera.matrix.ravel()
    return message


def _yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else f'"{value}"' if isinstance(value, str) else str(value)


def lines_with(text: str, words: Sequence[str]) -> list[str]:
    return [line for line in text.splitlines() if all(word in line for word in words)]
