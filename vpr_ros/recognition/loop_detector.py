"""The algorithm, on one screen."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import repeat

import numpy as np

from vpr_ros.config import Config
from vpr_ros.engines.backend import Engine
from vpr_ros.engines.describe import describe_images, describe_images_with_masks
from vpr_ros.errors import ConfigError, FrameOrderError
from vpr_ros.map.place_map import PlaceMap
from vpr_ros.recognition.drive_clock import DriveClock
from vpr_ros.recognition.grey import both, stretched
from vpr_ros.recognition.ignored_regions import IgnoredRegions
from vpr_ros.recognition.keyframes import is_new_keyframe
from vpr_ros.recognition.matching import (
    Island,
    Links,
    Now,
    consistent_count,
    eligible_stop,
    is_ambiguous,
    islands,
    left_stop,
)
from vpr_ros.recognition.odometry import OdometryFollower, Report
from vpr_ros.recognition.static_region import StaticRegion
from vpr_ros.recognition.verification import GeometricVerifier
from vpr_ros.types import (
    Descriptor,
    Frame,
    Keyframe,
    LocalFeatures,
    Mask,
    MatchStatus,
    OdometryFix,
    PlaceMatch,
    Pose,
    Thumbnail,
    Verification,
)

NOTABLE_SHARE = 0.03
"""Of a picture that never changes. On a straight road about 0.01 does not, about the vanishing point."""

Stage = Callable[[str], AbstractContextManager[object]]


FEATURE_CACHE = 256
"""Keyframes whose local features are kept: a lap along an old one meets the same few again and again."""


@dataclass(frozen=True, slots=True, eq=False)
class _Query:
    """A frame with what is known of it."""

    frame: Frame
    descriptor: Descriptor
    elapsed_ns: int
    odometry: OdometryFix | None
    mask: Mask | None

    @property
    def now(self) -> Now:
        travelled_m, segment = (self.odometry.travelled_m, self.odometry.segment) if self.odometry else (None, 0)
        return Now(self.elapsed_ns, travelled_m, segment, self.frame.camera_name)


@dataclass(slots=True, eq=False)
class _Stream:
    """What one camera's frames of the session left behind."""

    recent_bests: deque[int | None]
    """The moments of the last queries' best keyframes."""
    view: Descriptor
    """What it sees now."""
    keyframe: Keyframe | None = None


def _ignore(kind: str, text: str) -> None:
    pass


class LoopDetector:
    """Tells for every frame whether, where and how surely the camera has been there before.

    The cameras of a rig share map, session, travelled path and cooldown; each has its own order of frames, spacing of
    keyframes and consistency window. A frame may match a keyframe of any camera.

    A *drive* begins with the detector or with `start_session`; when the clock of the images jumps, a new session of the same
    drive begins by itself.

    `stage` is entered as a context around each step, by name; a caller that wants latencies passes its stopwatch. `report`
    is called with the kind of each oddity (a session that begins, odometry that jumps) and a sentence about it.
    """

    def __init__(
        self,
        config: Config,
        engine: Engine,
        place_map: PlaceMap | None = None,
        session: str = "",
        stage: Stage = nullcontext,
        report: Report = _ignore,
    ) -> None:
        _require_mask(config, engine)
        self.config = config
        self.engine = engine
        self.map = PlaceMap(engine.model.dim) if place_map is None else place_map
        self._verifier = GeometricVerifier(config.verification)
        self._ignored = IgnoredRegions(config.verification.ignore, config.node.camera_names)
        self._static_regions: dict[str, StaticRegion] = defaultdict(StaticRegion)
        self._features_of_keyframe = lru_cache(FEATURE_CACHE)(self._extract_keyframe)
        self._links = self._links_of_map()
        self._stage = stage
        self._report = report
        self.start_session(session)

    def start_session(self, name: str) -> None:
        """From now on frames belong to a new drive: what is in the map is old and may be matched."""
        self.session = name
        self._first_id = len(self.map)
        self._clock = DriveClock()
        self._odometry = OdometryFollower(self._report)
        self._streams: dict[str, _Stream] = {}
        self._accepted_ns: int | None = None
        """When the last closure was accepted, in the drive's time."""

    def _restart_session(self, reason: str) -> None:
        """The clock jumped: nothing from before is used with what comes, but the drive goes on and its recent past is recent."""
        self.session += "+"
        self._odometry.interrupt()
        self._streams.clear()
        self._report("session", f"{reason}: session {self.session!r} begins")

    def reconfigure(self, config: Config) -> None:
        """Use other parameters from the next frame on; the map and the session stay. Raises ConfigError."""
        _require_mask(config, self.engine)
        ignored = IgnoredRegions(config.verification.ignore, config.node.camera_names)
        self.config, self._ignored = config, ignored
        self._verifier = GeometricVerifier(config.verification)
        self._features_of_keyframe.cache_clear()
        self._links = self._links_of_map()
        for stream in self._streams.values():
            stream.recent_bests = deque(stream.recent_bests, maxlen=config.consistency.window - 1)

    def map_faults(self, calibrated: Collection[str] = ()) -> list[str]:
        """What the map cannot do that the configuration asks of it; `calibrated`: cameras that have intrinsics now."""
        return self.map.faults(is_verified=self.config.verification.enabled, calibrated=calibrated, stop=self._first_id)

    def process(self, frame: Frame, with_mask: bool = False) -> PlaceMatch:
        """Look the frame up in the map, then add it if it is a keyframe.

        `with_mask` puts what the model attended to into the answer. Raises FrameOrderError, without a trace in the map,
        for a frame that is not newer than its camera's last one or too far behind the other cameras, ModelError for a mask
        that the model does not have, and ConfigError for an ignored region that does not fit the image.
        """
        (answer,) = self.process_batch([frame], with_mask)
        if isinstance(answer, FrameOrderError):
            raise answer
        return answer

    def process_batch(self, frames: Sequence[Frame], with_mask: bool = False) -> list[PlaceMatch | FrameOrderError]:
        """As `process` of each frame in turn, but all are described in one call of the engine.

        A frame out of order is answered by the error that `process` would raise; the others are not touched by it.
        """
        if not frames:
            return []
        images = [frame.image for frame in frames]
        for frame in frames:
            self._ignored.mask(
                frame.camera_name, *frame.image.shape[1::-1]
            )  # a mask that does not fit is refused at once
        masks: Iterable[Mask | None] = repeat(None, len(frames))
        with self._stage("describe"):
            if with_mask or self._weighs_features:
                descriptors, masks = describe_images_with_masks(self.engine, images)
            else:
                descriptors = describe_images(self.engine, images)
        answers = [self._answer(*described) for described in zip(frames, descriptors, masks, strict=True)]
        if not with_mask:
            return answers
        return [
            answer if isinstance(answer, FrameOrderError) else replace(answer, mask=mask)
            for answer, mask in zip(answers, masks, strict=True)
        ]

    @property
    def _weighs_features(self) -> bool:
        return self.config.verification.enabled and self.config.verification.min_attention > 0

    def _answer(self, frame: Frame, descriptor: Descriptor, mask: Mask | None) -> PlaceMatch | FrameOrderError:
        try:
            tick = self._clock.follow(frame, self.config.session)
        except FrameOrderError as error:
            return error
        if tick.restarted:
            self._restart_session(tick.restarted)
        fix = self._odometry.follow(frame, tick.elapsed_ns)
        query = _Query(frame, descriptor, tick.elapsed_ns, fix, mask)
        stream = self._streams.setdefault(
            frame.camera_name, _Stream(deque(maxlen=self.config.consistency.window - 1), descriptor)
        )
        stream.view = descriptor
        match = self._match(query)
        best = None if match.match_id is None else self.map.moments[match.match_id]
        stream.recent_bests.append(best)
        keyframe_id = self._remember(query)
        if match.accepted:
            self._accepted_ns = query.elapsed_ns
            if keyframe_id is not None and match.match_id is not None:
                self.map.links.append((match.match_id, keyframe_id))
                self._links.add(self.map.moments[match.match_id], self.map.moments[keyframe_id])
        return replace(match, keyframe_id=keyframe_id, odometry=fix)

    def _links_of_map(self) -> Links:
        moments = self.map.moments
        return Links(self.config.consistency.max_gap, ((moments[a], moments[b]) for a, b in self.map.links))

    def _match(self, query: _Query) -> PlaceMatch:
        config, frame = self.config, query.frame
        answer = partial(
            PlaceMatch, frame.stamp_ns, frame_id=frame.frame_id, camera_name=frame.camera_name, session=self.session
        )
        if len(self.map) == 0:
            return answer(MatchStatus.NO_MAP)

        with self._stage("search"):
            keyframes, views = self.map.keyframes, {name: stream.view for name, stream in self._streams.items()}
            stop = min(
                eligible_stop(keyframes, self._first_id, query.now, config.exclusion, config.session.clock_jump_s),
                left_stop(keyframes, self._first_id, views, config.exclusion.away_similarity),
            )
            candidates = self.map.search(query.descriptor, config.match.top_k, stop)
        if not candidates:
            return answer(MatchStatus.RECENT)

        with self._stage("match"):
            moments = self.map.moments
            places = islands(candidates, moments, config.match.island_gap, self._links)
            place, runner_up = places[0], places[1].best.similarity if len(places) > 1 else None
            recent_bests = self._streams[frame.camera_name].recent_bests
            moment = moments[place.best.keyframe_id]
            hits = consistent_count(recent_bests, moment, config.consistency.max_gap, self._links)
        answer = partial(answer, runner_up=runner_up, consistent_count=hits, candidates=candidates)
        best = partial(answer, **self._matched(place.best.keyframe_id, place.best.similarity))
        if place.best.similarity < config.match.min_similarity:
            return best(MatchStatus.LOW_SCORE)
        if is_ambiguous(place.best.similarity, runner_up, config.match.max_ambiguity):
            return best(MatchStatus.AMBIGUOUS)
        if hits < config.consistency.min_hits:
            return best(MatchStatus.INCONSISTENT)

        if config.verification.enabled:
            with self._stage("verify"):
                chosen, verification = self._verify(query, place)
            best = partial(answer, verification=verification, **self._matched(*chosen))
            if not self._is_rigid(verification):
                return best(MatchStatus.GEOMETRY)
        match = best(MatchStatus.ACCEPTED)
        if self._contradicts_odometry(query, self.map.keyframes[match.match_id or 0]):
            return replace(match, status=MatchStatus.ODOMETRY)
        if self._accepted_ns is not None:
            passed_ns = max(0, query.elapsed_ns - self._accepted_ns)  # of a rig, another camera's frame may be newer
            if passed_ns < config.match.cooldown_s * 1e9:
                return replace(match, status=MatchStatus.COOLDOWN)
        return match

    def _matched(self, keyframe_id: int, similarity: float) -> dict[str, object]:
        keyframe = self.map.keyframes[keyframe_id]
        return {
            "match_id": keyframe_id,
            "match_stamp_ns": keyframe.stamp_ns,
            "match_session": keyframe.session,
            "match_camera_name": keyframe.camera_name,
            "similarity": similarity,
        }

    def _verify(self, query: _Query, place: Island) -> tuple[tuple[int, float], Verification]:
        """The candidate of the place with the most inliers: the nearest view, not only a view of the same street."""
        image = query.frame.image
        features = self._verifier.extract(image, self._counted(query.frame))
        if self._weighs_features and query.mask is not None:
            features = self._verifier.attended(features, query.mask, image.shape[1], image.shape[0])
        results = []
        for candidate in place.candidates[: self.config.verification.max_candidates]:
            camera = self.map.keyframes[candidate.keyframe_id].camera
            seen = self._features_of_keyframe(candidate.keyframe_id)
            verification = self._verifier.count_inliers(features, query.frame.camera, seen, camera)
            results.append(((candidate.keyframe_id, candidate.similarity), verification))
        chosen, verification = max(results, key=lambda result: result[1].inliers)
        return chosen, self._verifier.with_pose(verification)

    def _counted(self, frame: Frame) -> Mask | None:
        """Where local features count: not in what the user excluded, nor in what was learnt never to change."""
        ignored = self._ignored.mask(frame.camera_name, *frame.image.shape[1::-1])
        static = self._static_regions[frame.camera_name].mask if self.config.verification.learn_static else None
        return both(ignored, static)

    @property
    def static_shares(self) -> dict[str, float]:
        """How much of each camera's picture was learnt never to change while the robot moves, from 0 to 1."""
        return {camera: region.share for camera, region in list(self._static_regions.items())}  # another thread may ask

    @property
    def notes(self) -> list[str]:
        """Sentences for people about what was learnt from the drive."""
        return [
            f"{share:.0%} of the picture{f' of camera {camera}' if camera else ''} does not change while the robot moves (its "
            "own body?): local features there are ignored"
            for camera, share in self.static_shares.items()
            if share >= NOTABLE_SHARE
        ]

    def _is_rigid(self, verification: Verification) -> bool:
        needed = self.config.verification
        return (
            verification.inliers >= needed.min_inliers
            and verification.inlier_ratio >= needed.min_inlier_ratio
            and verification.coverage >= needed.min_coverage
        )

    def _contradicts_odometry(self, query: _Query, match: Keyframe) -> bool:
        """Whether the two poses are further apart than one view and the drift since then allow."""
        config, fix = self.config.odometry, query.odometry
        there = self._pose_near(match)
        if not config.gate_enabled or fix is None or there is None or fix.segment != match.odometry_segment:
            return False
        travelled = fix.travelled_m - (match.travelled_m or 0.0)
        distance = np.linalg.norm(fix.latest[:3, 3] - there[:3, 3])
        return bool(distance > config.max_distance_m + config.drift_per_m * travelled)

    def _pose_near(self, match: Keyframe) -> Pose | None:
        """Where odometry has a keyframe of this drive, or its neighbour where its own pose was left out."""
        near = (match, *self.map.keyframes[max(match.id - 1, 0) : match.id + 2])
        return next(
            (
                k.odom_from_body
                for k in near
                if k.id >= self._first_id
                and k.odometry_segment == match.odometry_segment
                and k.odom_from_body is not None
            ),
            None,
        )

    def _extract_keyframe(self, keyframe_id: int) -> LocalFeatures:
        """Extracted when first needed: most keyframes never are, and extraction costs more than inference."""
        return self._verifier.extract(self.map.keyframes[keyframe_id].thumbnail or Thumbnail(b"", 1.0))

    def _remember(self, query: _Query) -> int | None:
        """Add the frame to the map if it is a keyframe; its id there."""
        frame, fix, stream = query.frame, query.odometry, self._streams[query.frame.camera_name]
        pose = None if fix is None else fix.odom_from_body
        if not is_new_keyframe(query.elapsed_ns, query.descriptor, pose, stream.keyframe, self.config.keyframe):
            return None
        with self._stage("remember"):
            thumbnail = self._thumbnail(frame) if self.config.verification.enabled else None
            keyframe = Keyframe(
                id=len(self.map),
                session=self.session,
                stamp_ns=frame.stamp_ns,
                descriptor=query.descriptor,
                thumbnail=thumbnail,
                camera=frame.camera,
                odom_from_body=pose,
                travelled_m=query.now.travelled_m,
                frame_id=frame.frame_id,
                camera_name=frame.camera_name,
                elapsed_ns=query.elapsed_ns,
                odometry_segment=query.now.odometry_segment,
            )
            self.map.add(keyframe)
        stream.keyframe = keyframe
        self._odometry.notice_view(frame.camera_name, query.descriptor, self.config.exclusion.away_similarity)
        return keyframe.id

    def _thumbnail(self, frame: Frame) -> Thumbnail:
        grey, scale = self._verifier.shrink(frame.image)
        if self.config.verification.learn_static:
            self._static_regions[frame.camera_name].observe(stretched(grey))
        return self._verifier.encode(grey, scale, self._counted(frame))


def _require_mask(config: Config, engine: Engine) -> None:
    if config.verification.min_attention > 0 and engine.model.mask_size is None:
        raise ConfigError(
            f"verification.min_attention needs a model with a mask, and {engine.model.name} has none: set it to 0"
        )
