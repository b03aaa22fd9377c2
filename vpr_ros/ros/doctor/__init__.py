"""Can the node be fed? What the ROS graph says of that, watched for seconds: topics, QoS, rates, clocks, our nodes.

Run by `vpr doctor`, as a process that may be ended at any time.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePosixPath

from rclpy.utilities import get_rmw_implementation_identifier

from vpr_ros.doctor import Finding, Level, guarded
from vpr_ros.imports import BUILD_MESSAGES
from vpr_ros.ros.doctor.camera import camera_info_finding, image_findings
from vpr_ros.ros.doctor.graph import Graph
from vpr_ros.ros.doctor.odometry_and_clock import clock_finding, odometry_finding
from vpr_ros.ros.doctor.vpr_nodes import node_findings


def findings(graph: Graph, transport: str, max_odometry_age_s: float, odometry: bool) -> list[Finding]:
    """Everything that can be said of what was seen. `transport` is that of a node that does not run yet."""
    transport = next((node.transport for node in graph.vpr_nodes if node.transport), transport)
    checks: dict[str, Callable[[], list[Finding]]] = {
        "ros graph": lambda: [graph_finding(graph)],
        "vpr_msgs": lambda: [messages_finding()],
        "image": lambda: image_findings(graph, transport),
        "types": lambda: type_findings(graph),
        "camera_info": lambda: [camera_info_finding(graph, transport)],
        "odom": lambda: [odometry_finding(graph, transport, max_odometry_age_s, odometry)],
        "clock": lambda: [clock_finding(graph, transport)],
        "vpr node": lambda: node_findings(graph, transport),
    }
    return [finding for name, check in checks.items() for finding in guarded(name, check)]


def graph_finding(graph: Graph) -> Finding:
    """Is anybody there, each under a name of its own?"""
    said = f"{get_rmw_implementation_identifier()}, {len(graph.nodes)} node{'' if len(graph.nodes) == 1 else 's'}"
    if not graph.nodes:
        found = f"{said}: nobody else is there, or in another domain"
        domain = "$ROS_DOMAIN_ID $ROS_AUTOMATIC_DISCOVERY_RANGE $RMW_IMPLEMENTATION"
        return Finding("ros graph", Level.WARNING, found, f"echo {domain}    # the same where the robot runs?")
    ours = {node.name for node in graph.vpr_nodes}  # theirs is another finding
    if twice := sorted({name for name in graph.nodes if graph.nodes.count(name) > 1} - ours):
        found = f"{said}; more than one is called {' and '.join(twice)}: parameters and services reach either"
        fix = f"ros2 node info {twice[0]}    # start one with another name: -r __node:=NAME; a crashed one is forgotten in 20 s"
        return Finding("ros graph", Level.WARNING, found, fix)
    return Finding("ros graph", Level.OK, said)


_TYPED = {"Image": "image", "CompressedImage": "image", "CameraInfo": "camera_info", "Odometry": "odom"}
"""What findings about a type of message are called."""


def type_findings(graph: Graph) -> list[Finding]:
    """Whom do topics of two types keep apart?"""
    found = []
    for topic in sorted({stream.topic for stream in graph.streams}):
        of_topic = sorted((s for s in graph.streams if s.topic == topic), key=lambda stream: stream.type)
        published = [stream for stream in of_topic if stream.publishers]
        name = next(_TYPED[stream.kind] for stream in of_topic if stream.kind in _TYPED)
        if len(published) > 1:
            said = " and ".join(f"as {stream.kind} by {stream.publisher_names}" for stream in published)
            said = f"{topic} is published {said}: which of them a subscriber gets is undefined"
            found.append(Finding(name, Level.WARNING, said, f"ros2 topic info -v {topic}    # rename one"))
        for wanted in of_topic:
            if published and wanted.subscriptions and not wanted.publishers:
                who = " and ".join(sorted({endpoint.node for endpoint in wanted.subscriptions}))
                said = f"{who} wants {topic} as {wanted.kind}, and {published[0].as_published}: nothing arrives"
                fix = f"ros2 topic info -v {topic}    # another topic there"
                found.append(Finding(name, Level.WARNING, said, fix))
    return found


def messages_finding() -> Finding:
    """Are our messages there?"""
    try:
        import vpr_msgs.msg
    except ImportError as error:
        return Finding("vpr_msgs", Level.ERROR, f"our messages do not import: {error}", BUILD_MESSAGES)
    return Finding("vpr_msgs", Level.OK, str(PurePosixPath(vpr_msgs.msg.__file__).parent))
