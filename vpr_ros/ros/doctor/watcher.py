"""Listens to the ROS graph for seconds."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.srv import GetState
from rcl_interfaces.srv import GetParameters
from rclpy._rclpy_pybind11 import RCLError
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, qos_profile_sensor_data

from vpr_ros.ros.doctor.graph import KINDS, Complaint, Endpoint, Graph, Stream, VprNode, is_special

MATCHES = "vpr_msgs/msg/PlaceMatchArray"
"""Who publishes it is our node."""
MOST_IMAGE_TOPICS = 6
"""How many are subscribed to: a rig's every topic in Python would slow down the robot that is being looked at."""
DISCOVERY_S = 3.3
"""DDS processes announce themselves every 3 s; who started before us may be unknown for so long."""
ANSWER_S = 5.0
"""For which a busy node is waited for."""
HARDWARE_ID = "vpr_ros"
"""Of the statuses of our nodes, which are called `NODE: PART`, without the first slash of the node's full name."""


class Watcher(Node):
    """Subscribes, as our node does, to every topic that our node could use."""

    def __init__(self) -> None:
        name = f"vpr_doctor_{os.getpid()}"
        super().__init__(name, start_parameter_services=False, enable_rosout=False, use_global_arguments=False)
        self._streams: dict[tuple[str, str], Stream] = {}
        self._statuses: dict[str, DiagnosticStatus] = {}
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 100)
        # as our node's, but a queue: a rate is measured here
        self._qos = QoSProfile(
            depth=20, reliability=qos_profile_sensor_data.reliability, durability=qos_profile_sensor_data.durability
        )
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self)

    def watch(self, seconds: float) -> Graph:
        """Until nobody new can be expected, and each topic that was found has been listened to for `seconds`."""
        found_by = time.monotonic() + DISCOVERY_S
        end = found_by
        while (now := time.monotonic()) < end:
            if now < found_by and self._look():
                end = max(found_by, now + seconds)
            until = min(end, now + 0.2)
            while (wait := until - time.monotonic()) > 0:
                self._executor.spin_once(timeout_sec=wait)
        self._add_other_types()
        for stream in self._streams.values():
            stream.publishers = self._endpoints(self.get_publishers_info_by_topic(stream.topic), stream.type)
            stream.subscriptions = self._endpoints(self.get_subscriptions_info_by_topic(stream.topic), stream.type)
        nodes = [_full_name(name, space) for name, space in self.get_node_names_and_namespaces()]
        others = sorted(node for node in nodes if node != self.get_fully_qualified_name())
        has_clock = self.count_publishers("/clock") > 0
        return Graph(seconds, list(self._streams.values()), others, self._vpr_nodes(others), has_clock)

    def close(self) -> None:
        self._executor.shutdown()
        self.destroy_node()

    def _look(self) -> bool:
        """Subscribe to what is new, and say whether anything was."""
        is_new = False
        watched_images = sum(s.is_watched for s in self._streams.values() if s.is_image)
        topics = sorted(self.get_topic_names_and_types(), key=lambda topic: (is_special(topic[0]), topic[0]))
        for topic, types in topics:
            for kind in types:
                if kind not in KINDS or topic.endswith("/compressedDepth"):
                    continue
                stream = self._streams.setdefault((topic, kind), Stream(topic, kind))
                # of this type: DDS refuses a second type of a topic within one process
                if (
                    stream.is_watched
                    or stream.is_refused
                    or not self._endpoints(self.get_publishers_info_by_topic(topic), kind)
                ):
                    continue
                if stream.is_image:
                    if watched_images == MOST_IMAGE_TOPICS:
                        continue
                    watched_images += 1
                try:
                    self.create_subscription(KINDS[kind], topic, stream.on_message, self._qos, raw=True)
                except RCLError:  # it is published as two types, and the other one is watched
                    stream.is_refused = True
                    continue
                stream.is_watched = is_new = True
        return is_new

    def _add_other_types(self) -> None:
        """Types that our node cannot use, of the topics where it could use another."""
        ours = {topic for topic, _ in self._streams}
        for topic, types in self.get_topic_names_and_types():
            for kind in types if topic in ours else ():
                self._streams.setdefault((topic, kind), Stream(topic, kind))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self._statuses |= {status.name: status for status in message.status if status.hardware_id == HARDWARE_ID}

    def _complaints(self, node: str) -> tuple[Complaint, ...] | None:
        """Of a node by its full name; None if nothing was heard of it."""
        start = f"{node.lstrip('/')}: "
        heard = {name.removeprefix(start): s for name, s in self._statuses.items() if name.startswith(start)}
        if not heard:
            return None
        return tuple(
            Complaint(part, status.level >= DiagnosticStatus.ERROR, status.message)
            for part, status in sorted(heard.items())
            if status.level != DiagnosticStatus.OK
        )

    def _endpoints(self, found: Sequence[Any], kind: str) -> list[Endpoint]:
        own = self.get_name()
        return [
            Endpoint(_full_name(e.node_name, e.node_namespace), e.qos_profile)
            for e in found
            if e.node_name != own and e.topic_type == kind
        ]

    def _vpr_nodes(self, nodes: Sequence[str]) -> list[VprNode]:
        """Nodes that publish matches, or are called vpr: one that is not configured publishes nothing yet."""
        topics = [topic for topic, types in self.get_topic_names_and_types() if MATCHES in types]
        names = [
            _full_name(e.node_name, e.node_namespace) for t in topics for e in self.get_publishers_info_by_topic(t)
        ]
        called = [node for node in nodes if node in names or PurePosixPath(node).name == "vpr"]
        # two of one name may publish both, or one may not be configured
        return [self._vpr_node(name) for name in sorted((Counter(names) | Counter(called)).elements())]

    def _vpr_node(self, name: str) -> VprNode:
        state = self._call(GetState, f"{name}/get_state", GetState.Request())
        request = GetParameters.Request(names=["use_sim_time", "node.image_transport"])
        answer = self._call(GetParameters, f"{name}/get_parameters", request)
        sim_time, transport = answer.values if answer is not None and len(answer.values) == 2 else (None, None)
        return VprNode(
            name,
            "" if state is None else state.current_state.label,
            sim_time is not None and sim_time.bool_value,
            "" if transport is None else transport.string_value,
            self._complaints(name),
        )

    def _call(self, kind: type, service: str, request: Any) -> Any:
        """The answer of a service, None if there is none in time."""
        client: Any = self.create_client(kind, service)
        end = time.monotonic() + ANSWER_S
        future = None
        while time.monotonic() < end and not (future is not None and future.done()):
            if future is None and client.service_is_ready():
                future = client.call_async(request)
            self._executor.spin_once(timeout_sec=0.05)
        self.destroy_client(client)
        return future.result() if future is not None and future.done() else None


def _full_name(node: str, namespace: str) -> str:
    return f"{namespace.rstrip('/')}/{node}"
