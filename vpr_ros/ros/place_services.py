"""Services on places: where an image was taken, and where the robot is. They have a thread of their own, since ~/relocalize waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from rclpy.node import Node
from vpr_msgs.srv import QueryPlaces, Relocalize

from vpr_ros.errors import VprError
from vpr_ros.recognition.relocalization import LocalizationState, query_places
from vpr_ros.ros.messages import localization_msg, place_msg
from vpr_ros.ros.service_thread import Service, ServiceThread
from vpr_ros.types import drive_of

if TYPE_CHECKING:
    from vpr_ros.ros.vpr_node import Configured

PLACES = 5
"""That ~/query answers with where the request leaves it open."""
MOST_PLACES = 100
LONGEST_WAIT_S = 600.0


class PlaceServices:
    """The node's services on places, as long as it lives."""

    def __init__(self, node: Node, configured: Callable[[], Configured | None]) -> None:
        """`configured` returns what the node has while it is configured, else None."""
        self._find_configured = configured
        services = (
            Service(QueryPlaces, "~/query", self._query),
            Service(Relocalize, "~/relocalize", self._relocalize),
        )
        self._thread = ServiceThread(node, "place_services", services)

    def close(self) -> None:
        """Waits for the request in work."""
        self._thread.close()

    def _active(self) -> Configured:
        configured = self._find_configured()
        if configured is None or configured.streams is None:
            raise VprError("the node is not active: activate it first")
        return configured

    def _query(self, request: QueryPlaces.Request, response: QueryPlaces.Response) -> str:
        configured = self._active()
        recogniser, streams = configured.recogniser, configured.streams
        assert streams is not None
        message = request.compressed if len(request.compressed.data) else request.image
        if not len(message.data):
            raise VprError("the request has no image: neither image nor compressed has data")
        frame = streams.frame_of(message, request.camera, request.camera_info)
        ((descriptor, _),) = recogniser.describe([frame], with_mask=False)
        count = min(request.max_places or PLACES, MOST_PLACES)
        places = query_places(recogniser.detector, recogniser.relocalizer, frame, descriptor, count, recogniser.lock)
        if not places:
            raise VprError("the map holds no keyframes yet")
        response.places = [place_msg(place) for place in places]
        return f"{len(places)} places, {sum(place.is_verified for place in places)} of them verified"

    def _relocalize(self, request: Relocalize.Request, response: Relocalize.Response) -> str:
        configured = self._active()
        recogniser = configured.recogniser
        if not 0.0 <= request.timeout_s <= LONGEST_WAIT_S:
            raise VprError(f"timeout_s must be in [0, {LONGEST_WAIT_S:g}] s, not {request.timeout_s:g}")
        with recogniser.lock:
            detector = recogniser.detector
            here = drive_of(detector.robot, detector.session)
            if all(drive_of(*session) == here for session in detector.map.sessions):
                raise VprError("the map holds no keyframes of an earlier drive, in which the robot could be found")
            recogniser.relocalize()
            relocalizer = recogniser.relocalizer
            configured.publishing.publish_localization(relocalizer.now, recogniser.config.relocalization.frame)
            configured.is_initialpose_wanted = request.publish_initialpose
            recogniser.localization_changed.wait_for(
                lambda: (
                    relocalizer.now.state is LocalizationState.LOCALIZED
                    or configured.streams is None
                    or recogniser.relocalizer is not relocalizer
                ),
                timeout=request.timeout_s,
            )
            known = relocalizer.now
        response.localization = localization_msg(known, recogniser.config.relocalization.frame)
        if known.state is LocalizationState.LOCALIZED and known.match is not None:
            return f"found at keyframe {known.match.id} of session {known.match.session}: {known.reason}"
        if configured.streams is None:
            raise VprError("the node was deactivated meanwhile")
        if recogniser.relocalizer is not relocalizer:
            raise VprError("another map came meanwhile")
        if request.timeout_s == 0.0:
            return "the search has begun: ~/localization tells when the robot is found"
        raise VprError(f"not found within {request.timeout_s:g} s: {known.reason}")
