"""What RViz draws: the keyframes where odometry saw them, and a line for every loop closure."""

from __future__ import annotations

from collections.abc import Iterable

from geometry_msgs.msg import Point
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from vpr_ros.map.place_map import PlaceMap
from vpr_ros.types import Pose

KEYFRAMES, CLOSURES = 0, 1


def map_markers(place_map: PlaceMap, robot: str, session: str, header: Header) -> MarkerArray:
    """Keyframes of the running session that have odometry, and the closures between them, in the odometry's frame."""
    here = place_map.odometry_of(robot, session)
    linked = [here[ref] for pair in place_map.links if here.keys() >= set(pair) for ref in pair]
    dots = _marker(header, KEYFRAMES, Marker.POINTS, here.values(), ColorRGBA(r=0.2, g=0.5, b=0.9, a=1.0), width=0.15)
    lines = _marker(header, CLOSURES, Marker.LINE_LIST, linked, ColorRGBA(r=0.1, g=0.8, b=0.3, a=1.0), width=0.05)
    return MarkerArray(markers=[dots, lines])


def _marker(header: Header, number: int, kind: int, poses: Iterable[Pose], color: ColorRGBA, width: float) -> Marker:
    marker = Marker(header=header, ns="vpr", id=number, type=kind, action=Marker.ADD, color=color)
    marker.scale.x = marker.scale.y = width
    marker.pose.orientation.w = 1.0
    marker.points = [_point(pose) for pose in poses]
    return marker


def _point(pose: Pose) -> Point:
    x, y, z = (float(v) for v in pose[:3, 3])
    return Point(x=x, y=y, z=z)
