"""Our running nodes: are they active, and fed?"""

from __future__ import annotations

from rclpy.qos import ReliabilityPolicy

from vpr_ros.doctor import Finding, Level
from vpr_ros.ros.doctor.graph import Graph, VprNode
from vpr_ros.ros.doctor.launch_line import launch_line


def node_findings(graph: Graph, transport: str = "raw") -> list[Finding]:
    """Our running nodes and what they are fed with, or how to start one."""
    if not graph.vpr_nodes:
        return [Finding("vpr node", Level.SKIPPED, "none runs", launch_line(graph, transport))]
    names = [node.name for node in graph.vpr_nodes]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        found = f"{' and '.join(twice)} is there more than once: both answer, and services reach either"
        fix = "pgrep -af vpr_node    # stop one or give it a namespace; a crashed one is forgotten in 20 s"
        return [Finding("vpr node", Level.ERROR, found, fix)]
    return [_node_finding(node, graph, transport) for node in graph.vpr_nodes]


def _node_finding(node: VprNode, graph: Graph, transport: str) -> Finding:
    if node.state == "finalized":
        found = f"{node.name} was shut down for good (finalized): no image is used, and only a new process can start"
        return Finding(
            "vpr node", Level.ERROR, found, f"pgrep -af vpr_node    # end it, then: {launch_line(graph, transport)}"
        )
    if node.state and node.state != "active":
        found = f"{node.name} is {node.state}: no image is used"
        level, step = (Level.ERROR, "configure") if node.state == "unconfigured" else (Level.WARNING, "activate")
        return Finding("vpr node", level, found, f"ros2 lifecycle set {node.name} {step}")
    fed = [
        (stream, endpoint)
        for stream in graph.streams
        if stream.is_image
        for endpoint in stream.subscriptions
        if endpoint.node == node.name
    ]
    said = f"{node.name} is {node.state or 'there'}"
    if not fed:
        found = f"{said} and listens to no image topic"
        return Finding("vpr node", Level.ERROR, found, f"ros2 node info {node.name}    # and restart it")
    for stream, endpoint in fed:
        if not stream.publishers:
            found = f"{said} and listens to {stream.topic}, which nobody publishes"
            return Finding("vpr node", Level.ERROR, found, launch_line(graph, transport))
        if why := stream.mismatch(endpoint.qos):
            found = f"{said} and listens to {stream.topic}, but cannot hear it: {why}"
            fix = f"ros2 topic info -v {stream.topic}"
            if endpoint.qos.reliability == ReliabilityPolicy.RELIABLE:
                override = f"qos_overrides.{stream.topic}.subscription.reliability: best_effort"
                fix += f"    # and restart {node.name} with {override} in its params_file"
            return Finding("vpr node", Level.ERROR, found, fix)
    heard = ", ".join(f"{stream.topic} ({stream.rate if stream.arrivals_s else 'silent'})" for stream, _ in fed)
    return Finding("vpr node", Level.OK, f"{said}, listens to {heard}")
