"""Is there odometry, and do images, nodes and this machine live in one time?"""

from __future__ import annotations

from vpr_ros.doctor import Finding, Level
from vpr_ros.ros.doctor.graph import LATE_S, Graph, Stream
from vpr_ros.ros.doctor.launch_line import launch_line
from vpr_ros.rotations import is_pose, pose_of


def odometry_finding(graph: Graph, transport: str = "raw", max_age_s: float = 0.2, wanted: bool = True) -> Finding:
    """Is there odometry, on the images' clock?"""
    if not wanted:
        return Finding("odom", Level.OK, "not used: node.use_odometry is false")
    streams = graph.of("Odometry")
    if not streams:
        found = "nobody publishes nav_msgs/Odometry; it is optional, and spaces keyframes and rules out closures"
        return Finding("odom", Level.SKIPPED, found, launch_line(graph, transport, "/your/odometry"))
    stream = streams[0]
    said = f"{stream.topic}: {stream.published}"
    if not stream.arrivals_s:
        return Finding("odom", Level.WARNING, f"{said}; nothing came", f"ros2 topic hz {stream.topic}")
    if why := _fault_of_pose(stream):
        found = f"{said}; its first pose is not one: {why}"
        return Finding(
            "odom", Level.WARNING, found, f"ros2 topic echo --once {stream.topic}    # and mend who publishes it"
        )
    image = graph.image(transport)
    of_image = None if image is None or image.stamp_ns() == 0 else image.lag_s()  # no stamp is another finding
    of_odometry = stream.lag_s()
    if of_image is not None and of_odometry is not None and (apart := abs(of_image - of_odometry)) > max_age_s:
        found = f"{said}; its stamps and the images' are {apart:.2f} s apart, and {max_age_s:g} s are allowed"
        fix = "chronyc tracking    # on both machines; or node.max_odometry_age_s"
        return Finding("odom", Level.WARNING, found, fix)
    return Finding("odom", Level.OK, f"{said}; {stream.rate}")


def _fault_of_pose(stream: Stream) -> str:
    """Why the first message holds no pose; empty if it does."""
    pose = stream.message().pose.pose
    try:
        found = pose_of(pose.position, pose.orientation)  # messages.pose_from_msg needs OpenCV, which may be broken
    except ValueError as error:
        return str(error)
    return "" if is_pose(found) else "its position is absurdly large"


def clock_finding(graph: Graph, transport: str = "raw") -> Finding:
    """Do images, nodes and this machine live in one time?"""
    for node in graph.vpr_nodes:
        if node.use_sim_time and not graph.has_clock:
            found = f"{node.name} has use_sim_time, and nobody publishes /clock: its time stands still"
            return Finding("clock", Level.ERROR, found, f"ros2 param set {node.name} use_sim_time false")
        if graph.has_clock and not node.use_sim_time:
            found = f"/clock is published, and {node.name} does not use it"
            return Finding("clock", Level.WARNING, found, f"ros2 param set {node.name} use_sim_time true")
    image = graph.image(transport)
    if image is not None and image.stamp_ns() == 0:
        found = f"images on {image.topic} carry no stamp: the time of reception stands in, and replay differs from the robot"
        fix = f"ros2 topic echo --once {image.topic} --field header    # and mend the driver"
        return Finding("clock", Level.WARNING, found, fix)
    if graph.has_clock:
        return Finding("clock", Level.OK, "simulated: /clock is published; start nodes with use_sim_time:=true")
    lag = None if image is None else image.lag_s()
    if image is not None and lag is not None and abs(lag) > LATE_S:
        apart = f"{abs(lag):.3g} s {'behind' if lag > 0 else 'ahead of'} this machine's clock"
        found = f"stamps of {image.topic} are {apart}: another clock's, or a bag's"
        fix = "chronyc tracking    # on the camera's machine; a bag: ros2 bag play BAG --clock, and use_sim_time:=true"
        return Finding("clock", Level.WARNING, found, fix)
    return Finding("clock", Level.OK, "system time")
