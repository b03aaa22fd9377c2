"""How to start our node on what was found."""

from __future__ import annotations

import shutil
from pathlib import PurePosixPath

from vpr_ros.ros.doctor.graph import Graph


def launch_line(graph: Graph, transport: str = "raw", odometry_topic: str = "") -> str:
    """The command that starts our node on what was found; `odometry_topic` where none was."""
    image = graph.image(transport)
    topic = "/camera/image_raw" if image is None else image.base
    is_compressed = image is not None and image.kind == "CompressedImage"
    infos = [s.topic for s in graph.of("CameraInfo")]
    odometry = [s.topic for s in graph.of("Odometry")] or ([odometry_topic] if odometry_topic else [])
    beside = str(PurePosixPath(topic).with_name("camera_info"))
    info = infos[0] if infos and beside not in infos else beside
    if shutil.which("ros2") is None:
        words = ["vpr_node --ros-args", f"-r image:={topic}", f"-r camera_info:={info}"]
        if is_compressed:
            words += [f"-r image/compressed:={topic}/compressed", "-p node.image_transport:=compressed"]
        if odometry:
            words += [f"-r odom:={odometry[0]}"]
        if graph.has_clock:
            words += ["-p use_sim_time:=true"]
        return " ".join(words)
    words = ["ros2 launch vpr_ros vpr.launch.py", f"image_topic:={topic}"]
    if is_compressed:
        words += ["image_transport:=compressed"]
    if info != beside:
        words += [f"camera_info_topic:={info}"]
    if odometry and odometry[0] != "/odom":
        words += [f"odom_topic:={odometry[0]}"]
    if graph.has_clock:
        words += ["use_sim_time:=true"]
    return " ".join(words)
