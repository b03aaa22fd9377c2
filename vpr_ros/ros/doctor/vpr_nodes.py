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
    found = []
    if twice:
        said = f"{' and '.join(twice)} is there more than once: both answer, and services reach either"
        fix = "pgrep -af vpr_node    # stop one or give it a namespace; a crashed one is forgotten in 20 s"
        found = [Finding("vpr node", Level.ERROR, said, fix)]
    return found + [_node_finding(node, graph, transport) for node in graph.vpr_nodes if node.name not in twice]


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
        if other := next((s for s in graph.streams if s.topic == stream.topic and s.publishers), None):
            if not stream.publishers:
                found = f"{said} and listens to {stream.topic} as {stream.kind}, but {other.as_published}"
                return Finding("vpr node", Level.ERROR, found, launch_line(graph, transport))
        else:
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
    said = f"{said}, listens to {heard}"
    if node.complaints is None:
        found = f"{said}, and says nothing on /diagnostics: it hangs, or has just started"
        fix = "pgrep -af vpr_node    # after a minute: end it (kill -9 if it stays), and start it again"
        return Finding("vpr node", Level.WARNING, found, fix)
    if node.complaints:
        found = f"{said}; " + "; ".join(f"{complaint.part}: {complaint.text}" for complaint in node.complaints)
        level = Level.ERROR if any(complaint.is_error for complaint in node.complaints) else Level.WARNING
        return Finding("vpr node", level, found, _fix_of(node))
    return Finding("vpr node", Level.OK, said)


def _fix_of(node: VprNode) -> str:
    if any("set_enabled" in complaint.text for complaint in node.complaints or ()):
        return f"ros2 service call {node.name}/set_enabled std_srvs/srv/SetBool '{{data: true}}'"
    return "ros2 topic echo /diagnostics    # the node's counts beside it"
