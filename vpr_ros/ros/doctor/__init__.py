"""Can the node be fed? What the ROS graph says of that, watched for seconds: topics, QoS, rates, clocks, our nodes.

Run by `vpr doctor`, as a process that may be ended at any time.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from rclpy.utilities import get_rmw_implementation_identifier

from vpr_ros.doctor import Finding, Level
from vpr_ros.imports import BUILD_MESSAGES
from vpr_ros.ros.doctor.camera import camera_info_finding, image_findings
from vpr_ros.ros.doctor.graph import Graph
from vpr_ros.ros.doctor.odometry_and_clock import clock_finding, odometry_finding
from vpr_ros.ros.doctor.vpr_nodes import node_findings


def findings(graph: Graph, transport: str, max_odometry_age_s: float, odometry: bool) -> list[Finding]:
    """Everything that can be said of what was seen."""
    return [
        graph_finding(graph),
        messages_finding(),
        *image_findings(graph, transport),
        *type_findings(graph),
        camera_info_finding(graph, transport),
        odometry_finding(graph, transport, max_odometry_age_s, odometry),
        clock_finding(graph, transport),
        *node_findings(graph, transport),
    ]


def graph_finding(graph: Graph) -> Finding:
    """Is anybody there?"""
    said = f"{get_rmw_implementation_identifier()}, {len(graph.nodes)} node{'' if len(graph.nodes) == 1 else 's'}"
    if not graph.nodes:
        found = f"{said}: nobody else is there, or in another domain"
        domain = "$ROS_DOMAIN_ID $ROS_AUTOMATIC_DISCOVERY_RANGE $RMW_IMPLEMENTATION"
        return Finding("ros graph", Level.WARNING, found, f"echo {domain}    # the same where the robot runs?")
    return Finding("ros graph", Level.OK, said)


_TYPED = {"Image": "image", "CompressedImage": "image", "CameraInfo": "camera_info", "Odometry": "odom"}
"""What findings about a type of message are called."""


def type_findings(graph: Graph) -> list[Finding]:
    """Whom do topics of two types keep apart?"""
    found = []
    for wanted in graph.streams:
        offered = [s for s in graph.streams if s.topic == wanted.topic and s.type != wanted.type and s.publishers]
        if wanted.publishers and offered and wanted.type < offered[0].type:
            said = f"{wanted.topic} is published as {wanted.kind} and as {offered[0].kind}: which of them a subscriber gets is undefined"
            found.append(
                Finding(_TYPED[wanted.kind], Level.WARNING, said, f"ros2 topic info -v {wanted.topic}    # rename one")
            )
        if offered and wanted.subscriptions and not wanted.publishers:
            who = " and ".join(sorted({endpoint.node for endpoint in wanted.subscriptions}))
            said = f"{who} wants {wanted.topic} as {wanted.kind}, and it is published as {offered[0].kind}: nothing arrives"
            found.append(
                Finding(
                    _TYPED[wanted.kind],
                    Level.WARNING,
                    said,
                    f"ros2 topic info -v {wanted.topic}    # another topic there",
                )
            )
    return found


def messages_finding() -> Finding:
    """Are our messages there?"""
    try:
        import vpr_msgs.msg
    except ImportError as error:
        return Finding("vpr_msgs", Level.ERROR, f"our messages do not import: {error}", BUILD_MESSAGES)
    return Finding("vpr_msgs", Level.OK, str(PurePosixPath(vpr_msgs.msg.__file__).parent))
