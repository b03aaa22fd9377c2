"""Where the robot is in a map that was made before: from single matches to a pose that several of them agree on.

Single matches are wrong now and then, and one view does not show how far the keyframe is. A robot that knows its motion by
odometry can hold matches of different places against one another: `map_from_odom` is the same for all that are right.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from vpr_ros.config import Config
from vpr_ros.map.place_map import PlaceMap
from vpr_ros.recognition.decision import rigid_status
from vpr_ros.recognition.loop_detector import LoopDetector
from vpr_ros.recognition.relative_pose import cross_matrix
from vpr_ros.rotations import rotation_angle_deg
from vpr_ros.types import (
    Candidate,
    Descriptor,
    Frame,
    Keyframe,
    KeyframeRef,
    MatchStatus,
    OdometryFix,
    PlaceMatch,
    Pose,
    Verification,
)

COARSE_DEG = 20.0
"""Standard deviation of the robot's heading where a place is known, but no relative pose: views that match look the same way, about."""
EVIDENCE = (MatchStatus.ACCEPTED, MatchStatus.COOLDOWN)


@dataclass(frozen=True, slots=True, eq=False)
class MapPose:
    """The robot's pose in the map's frame.

    `covariance` (6, 6): x y z in m, then rotation about x y z in rad, about the axes of the map's frame.
    """

    map_from_body: Pose
    covariance: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """A place of the map where an image may have been taken: its nearest view, and the evidence."""

    nearest: Candidate
    is_verified: bool
    verification: Verification | None = None
    pose: MapPose | None = None


class LocalizationState(IntEnum):
    """The values are those of `vpr_msgs/msg/Localization`."""

    UNKNOWN = 0
    LOCALIZED = 1
    LOST = 2


@dataclass(frozen=True, slots=True, eq=False)
class Localization:
    """Whether the robot knows where it is in the map, why, and where.

    `is_found` where that was not known the moment before: at the start, after it was lost or carried. `pose` is None where the
    map has no pose in its frame for the place of `match`.
    """

    state: LocalizationState = LocalizationState.UNKNOWN
    reason: str = "no match yet"
    stamp_ns: int = 0
    match: KeyframeRef | None = None
    pose: MapPose | None = None
    is_found: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class _Sighting:
    """One match with an older drive: where in the map, and what odometry knew then."""

    match: KeyframeRef
    moment: int
    pose: MapPose | None
    odometry: OdometryFix | None
    stamp_ns: int


class _Motion(NamedTuple):
    """Of the body by odometry, from one sighting to another, and the length of its path."""

    before_from_now: Pose
    travelled_m: float


class Relocalizer:
    """Follows the answers of a drive, until the robot is found, and until it is lost again."""

    def __init__(self, config: Config, place_map: PlaceMap) -> None:
        self._config, self._map = config, place_map
        self._origin = place_map.origin(config.node.robot)
        self._drive: tuple[str, str] | None = None
        self.restart()

    def restart(self) -> None:
        """Forget where the robot was thought to be."""
        self.now = Localization()
        self._sightings: deque[_Sighting] = deque(maxlen=2 * self._config.relocalization.min_matches)
        self._confirmed: _Sighting | None = None

    def reconfigure(self, config: Config) -> None:
        """What is known stays."""
        self._config = config
        self._sightings = deque(self._sightings, 2 * config.relocalization.min_matches)

    def follow(self, answer: PlaceMatch) -> Localization | None:
        """What became known by the answer to one frame: a pose, that the robot was found, or that it is lost; None: nothing new."""
        sighting = self._sighting(answer)
        agreeing = [] if sighting is None else [each for each in self._sightings if self._agree(each, sighting)]
        if sighting is not None:
            self._sightings.append(sighting)
        needed = self._config.relocalization.min_matches
        if sighting is None or len(agreeing) + 1 < needed:
            if sighting is not None and self.now.state is not LocalizationState.LOCALIZED:
                self.now = replace(self.now, reason=f"of the last matches {len(agreeing) + 1} agree, and {needed} must")
            return self._unconfirmed(answer)
        confirmed = self._fused(agreeing, sighting)
        jump_m = self._jump_m(confirmed)
        is_found = self.now.state is not LocalizationState.LOCALIZED or jump_m is not None
        reason = f"{len(agreeing) + 1} matches agree"
        if jump_m is not None:
            reason += f", {jump_m:.1f} m from where odometry has the robot: was it carried?"
        self._confirmed = confirmed
        self.now = Localization(
            LocalizationState.LOCALIZED, reason, answer.stamp_ns, sighting.match, confirmed.pose, is_found
        )
        return self.now

    def pose_of(
        self, match: KeyframeRef, found: Verification | None, body_from_camera: Pose | None, camera_name: str
    ) -> MapPose | None:
        """Where the robot is if the match is right; None where the map has no pose in its frame for that keyframe."""
        there = self._map[match]
        if not self._is_in_frame(there):
            return None
        sigma_m = self._config.verification.unknown_scale_sigma_m
        return pose_by_match(there, found, body_from_camera, camera_name, sigma_m)

    def _is_in_frame(self, keyframe: Keyframe) -> bool:
        if self._config.relocalization.shared_frame:
            return True
        origin = self._origin
        return (
            origin is not None
            and keyframe.ref.drive == origin.ref.drive
            and keyframe.odometry_segment == origin.odometry_segment
        )

    def _sighting(self, answer: PlaceMatch) -> _Sighting | None:
        """None for an answer that is no evidence of where in the older map the robot is."""
        if answer.match is None or answer.status not in EVIDENCE or answer.match.drive == answer.drive:
            return None
        pose = self.pose_of(answer.match, answer.verification, answer.body_from_camera, answer.camera_name)
        return _Sighting(answer.match, self._map.moment(answer.match), pose, answer.odometry, answer.stamp_ns)

    def _agree(self, before: _Sighting, now: _Sighting) -> bool:
        if before.pose is None or now.pose is None:
            return abs(before.moment - now.moment) <= self._config.consistency.max_gap
        return self._distance_apart(before, now, now.pose.map_from_body) is None

    def _jump_m(self, now: _Sighting) -> float | None:
        """How far the robot is from where odometry has it since it was last confirmed, if that is too far; None if it is there."""
        before = self._confirmed
        if before is None or before.pose is None or now.pose is None or _motion(before, now) is None:
            return None
        return self._distance_apart(before, now, now.pose.map_from_body)

    def _distance_apart(self, before: _Sighting, now: _Sighting, map_from_body: Pose) -> float | None:
        """In m, between two poses of which one is moved by odometry to the time of the other; None where they agree."""
        config = self._config.relocalization
        assert before.pose is not None
        expected, drift_m = before.pose.map_from_body, 0.0
        if (motion := _motion(before, now)) is not None:
            expected = expected @ motion.before_from_now
            drift_m = self._config.odometry.drift_per_m * motion.travelled_m
        distance_m = float(np.linalg.norm(expected[:3, 3] - map_from_body[:3, 3]))
        angle_deg = rotation_angle_deg(expected[:3, :3].T @ map_from_body[:3, :3])
        agrees = distance_m <= config.max_distance_m + drift_m and angle_deg <= config.max_angle_deg
        return None if agrees else distance_m

    def _fused(self, agreeing: Sequence[_Sighting], now: _Sighting) -> _Sighting:
        """The newest sighting, with the pose that all of them that odometry joins agree on."""
        if now.pose is None:
            return now
        poses = [now.pose]
        for each in agreeing:
            motion = _motion(each, now)
            if each.pose is not None and motion is not None:
                poses.append(_moved(each.pose, motion.before_from_now))
        return _Sighting(now.match, now.moment, mean_pose(poses), now.odometry, now.stamp_ns)

    def _unconfirmed(self, answer: PlaceMatch) -> Localization | None:
        """The robot is lost where it drove too far, or too long, since several matches agreed."""
        confirmed, config = self._confirmed, self._config.relocalization
        if self.now.state is not LocalizationState.LOCALIZED or confirmed is None:
            return None
        here, there = answer.odometry, confirmed.odometry
        if here is not None and there is not None and here.segment == there.segment:
            travelled_m = here.travelled_m - there.travelled_m
            is_lost, since = travelled_m > config.lost_after_m, f"{travelled_m:.0f} m"
        else:
            passed_s = (answer.stamp_ns - confirmed.stamp_ns) * 1e-9
            is_lost, since = abs(passed_s) > config.lost_after_s, f"{abs(passed_s):.0f} s"
        if not is_lost:
            return None
        self.restart()
        reason = f"no matches that agree for {since}"
        self.now = Localization(LocalizationState.LOST, reason, answer.stamp_ns, confirmed.match)
        return self.now


def query_places(
    detector: LoopDetector,
    relocalizer: Relocalizer,
    frame: Frame,
    descriptor: Descriptor,
    count: int,
    lock: AbstractContextManager[object] | None = None,
) -> list[Place]:
    """Where in the map a frame of no drive may have been taken: verified places first, then by similarity; nothing is changed.

    `lock` is held for one place after the other, so that a running drive goes on between them. Raises ConfigError for an
    ignored region that does not fit the image.
    """
    lock = nullcontext() if lock is None else lock
    detector.verifier.require_fitting_masks([frame])
    with lock:
        islands = detector.places(descriptor, count)
    places = []
    for island in islands:
        with lock:
            nearest, found, is_verified = island.best, None, False
            if detector.config.verification.enabled:
                nearest, found = detector.verifier.nearest_view(frame, island)
                is_verified = rigid_status(found, detector.config.verification) is MatchStatus.ACCEPTED
            relative = found if is_verified else None
            pose = relocalizer.pose_of(nearest.keyframe, relative, frame.body_from_camera, frame.camera_name)
            places.append(Place(nearest, is_verified, found, pose))
    return sorted(places, key=lambda place: (not place.is_verified, -place.nearest.similarity))


def pose_by_match(
    there: Keyframe, found: Verification | None, body_from_camera: Pose | None, camera_name: str, sigma_m: float
) -> MapPose | None:
    """Where the robot is, by the keyframe's pose and the relative pose of the two cameras.

    Without a relative pose or without knowing where the cameras sit it is the keyframe's own pose, give or take `sigma_m` and
    COARSE_DEG, if one camera took both. None where the keyframe has no pose, or another camera of the rig took it.
    """
    if there.odom_from_body is None:
        return None
    relative = None if found is None else found.match_from_query
    if relative is None or found is None or found.covariance is None or body_from_camera is None:
        return _coarse(there, camera_name, sigma_m)
    if there.body_from_camera is None:
        return _coarse(there, camera_name, sigma_m)
    map_from_match = there.odom_from_body @ there.body_from_camera
    map_from_query = map_from_match @ relative
    map_from_body = map_from_query @ np.linalg.inv(body_from_camera)
    # the covariance is about the match camera's axes, and of the query camera's position: a turn moves the body about it
    to_map = np.zeros((6, 6))
    to_map[:3, :3] = to_map[3:, 3:] = map_from_match[:3, :3]
    jacobian = _lever(map_from_body[:3, 3] - map_from_query[:3, 3]) @ to_map
    return MapPose(map_from_body, jacobian @ found.covariance @ jacobian.T)


def _coarse(there: Keyframe, camera_name: str, sigma_m: float) -> MapPose | None:
    if there.odom_from_body is None or there.ref.camera_name != camera_name:
        return None
    sigmas: NDArray[np.float64] = np.array([sigma_m] * 3 + [np.radians(COARSE_DEG)] * 3)
    return MapPose(there.odom_from_body, np.diag(sigmas * sigmas))


def mean_pose(poses: Sequence[MapPose]) -> MapPose:
    """The mean of poses that are near to the first one, weighted by their information.

    Its covariance is the inverse of their mean information: errors of views that follow one another are not independent, so
    that more of them make the pose no surer than one of them was, on average.
    """
    first = poses[0].map_from_body
    information, weighted = np.zeros((6, 6)), np.zeros(6)
    for pose in poses:
        weight = np.linalg.inv(pose.covariance + 1e-9 * np.eye(6))
        turn = cv2.Rodrigues(pose.map_from_body[:3, :3] @ first[:3, :3].T)[0].ravel()
        information += weight
        weighted += weight @ np.concatenate([pose.map_from_body[:3, 3] - first[:3, 3], turn])
    step = np.linalg.solve(information, weighted)
    mean = first.copy()
    mean[:3, :3] = cv2.Rodrigues(step[3:])[0] @ first[:3, :3]
    mean[:3, 3] += step[:3]
    return MapPose(mean, np.asarray(np.linalg.inv(information / len(poses)), np.float64))


def _motion(before: _Sighting, now: _Sighting) -> _Motion | None:
    """None where odometry does not join the two."""
    a, b = before.odometry, now.odometry
    if a is None or b is None or a.segment != b.segment or a.odom_from_body is None or b.odom_from_body is None:
        return None
    return _Motion(np.linalg.inv(a.odom_from_body) @ b.odom_from_body, b.travelled_m - a.travelled_m)


def _moved(pose: MapPose, motion: Pose) -> MapPose:
    """The pose after a motion of the body, whose own error is neglected: it is short. A turn's error grows with its path."""
    moved = pose.map_from_body @ motion
    lever = _lever(moved[:3, 3] - pose.map_from_body[:3, 3])
    return MapPose(moved, lever @ pose.covariance @ lever.T)


def _lever(arm: NDArray[np.float64]) -> NDArray[np.float64]:
    """(6, 6) by which small errors of a pose become those of a point at its `arm`: w x arm = -arm x w."""
    lever = np.eye(6)
    lever[:3, 3:] = -cross_matrix(arm)
    return lever
