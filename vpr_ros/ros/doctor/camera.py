"""Do images come that our node can use, with intrinsics beside them?"""

from __future__ import annotations

from contextlib import suppress
from pathlib import PurePosixPath
from typing import Any

from rclpy.qos import ReliabilityPolicy

from vpr_ros.doctor import Finding, Level
from vpr_ros.doctor.dds import fast_dds_profile
from vpr_ros.errors import ImageError
from vpr_ros.ros.doctor.graph import LATE_S, Graph, Stream
from vpr_ros.ros.doctor.launch_line import launch_line
from vpr_ros.ros.doctor.watcher import MOST_IMAGE_TOPICS


def image_findings(graph: Graph, transport: str = "raw") -> list[Finding]:
    """Each image topic: what comes, and whether our node can use it."""
    streams = graph.of("Image", "CompressedImage")
    if not streams:
        fix = "ros2 topic list -t    # after starting the camera's driver"
        return [Finding("image", Level.WARNING, "nobody publishes images", fix)]
    findings = [_image_finding(stream, graph.seconds) for stream in streams]
    wanted = "CompressedImage" if transport == "compressed" else "Image"
    is_fed = any(e.node == node.name for node in graph.vpr_nodes for s in streams for e in s.subscriptions)
    if not graph.of(wanted) and not is_fed:
        only = "raw" if transport == "compressed" else "compressed"
        found = f"node.image_transport is {transport}, and there are only {only} images"
        findings.append(Finding("transport", Level.WARNING, found, launch_line(graph, transport)))
    return findings


def _image_finding(stream: Stream, seconds: float) -> Finding:
    said = f"{stream.topic} ({stream.kind}): {stream.published}"
    if why := stream.mismatch():
        fix = f"ros2 topic info -v {stream.topic}    # set qos_overrides.{stream.topic}.subscription.* to it"
        return Finding("image", Level.WARNING, f"{said}; the node cannot hear it: {why}", fix)
    if stream.is_refused:
        return Finding("image", Level.OK, f"{said}; not measured: it is listened to as another type")
    if not stream.is_watched:
        return Finding("image", Level.OK, f"{said}; not measured: only {MOST_IMAGE_TOPICS} image topics are")
    if not stream.arrivals_s:
        why = f"the QoS fits, but nothing came in {seconds:g} s: a camera that stands still, or too large for DDS"
        return Finding("image", Level.WARNING, f"{said}; {why}", _fix_of_silence(stream))
    said += f"; {stream.rate}"
    try:
        picture, is_all_black = _picture(stream)
        said += f", {picture}"
    except ImageError as error:
        fix = "ros2 topic list -t | grep -i image    # another topic of that camera"
        return Finding("image", Level.WARNING, f"{said}; cannot be used: {error}", fix)
    if is_all_black:
        fix = f"ros2 run rqt_image_view rqt_image_view {stream.topic}    # a covered lens, or the exposure?"
        return Finding("image", Level.WARNING, f"{said}; the first image is black", fix)
    lag = stream.lag_s() or 0.0
    if abs(lag) < LATE_S:
        said += f", stamped {lag * 1e3:.0f} ms ago"
    return Finding("image", Level.OK, said)


def _fix_of_silence(stream: Stream) -> str:
    if stream.kind == "Image" and any(e.qos.reliability == ReliabilityPolicy.BEST_EFFORT for e in stream.publishers):
        nodes = ", ".join(sorted({e.node for e in stream.publishers}))
        set_profile = f"export FASTDDS_DEFAULT_PROFILES_FILE={fast_dds_profile()}"
        return f"{set_profile}    # where {nodes} is started, and start it again"
    return f"ros2 topic hz {stream.topic}"


def _picture(stream: Stream) -> tuple[str, bool]:
    """`640x480 rgb8`, of the first message, and whether it is black. Raises ImageError for what our node cannot decode."""
    from vpr_ros.images import BitDepth, is_black  # OpenCV may be what is broken

    depth = BitDepth()
    image = _first_image(stream, depth)
    message = stream.message()
    said = f"{image.shape[1]}x{image.shape[0]} {message.encoding if stream.kind == 'Image' else message.format}"
    return f"{said} ({depth.remark})" if depth.remark else said, is_black(image)


def _first_image(stream: Stream, depth: Any = None) -> Any:
    """(H, W, 3) RGB uint8 of the first message. Raises ImageError for what our node cannot decode."""
    from vpr_ros.images import decode_compressed, decode_image

    decode = decode_image if stream.kind == "Image" else decode_compressed
    return decode(stream.message(), depth)


def camera_info_finding(graph: Graph, transport: str = "raw") -> Finding:
    """Are there intrinsics beside the images?"""
    image = graph.image(transport)
    infos = graph.of("CameraInfo")
    beside = "" if image is None else str(PurePosixPath(image.base).with_name("camera_info"))
    topic = "/image" if image is None else image.base
    calibrate = f"ros2 run camera_calibration cameracalibrator --size 8x6 --square 0.025 --ros-args -r image:={topic}"
    found = next((s for s in infos if s.topic == beside), None)
    if found is None:
        if not infos:
            why = "nobody publishes it: closures will have no relative pose"
            return Finding("camera_info", Level.WARNING, why, calibrate + "    # then start the driver with its result")
        topics = ", ".join(s.topic for s in infos)
        why = f"none at {beside or 'an image topic'}; there is {topics}"
        return Finding("camera_info", Level.WARNING, why, launch_line(graph, transport))
    said = f"{found.topic}: {found.published}"
    message = found.message()
    if message is None:
        return Finding("camera_info", Level.WARNING, f"{said}; nothing came", f"ros2 topic echo --once {found.topic}")
    from vpr_ros.calibration import Calibration, camera_for_image, is_rectified

    calibration = Calibration.of_info(message)
    size, of_image = calibration.announced_size, ""
    if image is not None and image.first:
        with suppress(ImageError):  # that it cannot be decoded is another finding
            height, width = _first_image(image).shape[:2]
            size, of_image = (width, height), f" for {image.topic}"
    judged = camera_for_image(calibration, *size, rectified=image is not None and is_rectified(image.topic))
    if judged.camera is None:
        return Finding("camera_info", Level.WARNING, f"{said}{of_image}; {judged}", calibrate)
    remark = f" ({judged})" if judged.why else ""
    camera = judged.camera
    return Finding(
        "camera_info", Level.OK, f"{said}; {found.rate}, {camera.width}x{camera.height}, calibrated{of_image}{remark}"
    )
