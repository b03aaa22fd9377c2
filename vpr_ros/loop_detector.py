"""The algorithm, on one screen."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import numpy as np

from vpr_ros.config import Config
from vpr_ros.engines import Engine, describe_image, describe_image_with_mask
from vpr_ros.errors import FrameOrderError
from vpr_ros.keyframes import is_new_keyframe
from vpr_ros.matching import Island, Links, consistent_count, eligible_stop, is_ambiguous, islands
from vpr_ros.place_map import PlaceMap
from vpr_ros.types import (
    Descriptor,
    Frame,
    Keyframe,
    LocalFeatures,
    Mask,
    MatchStatus,
    PlaceMatch,
    Thumbnail,
    Verification,
)
from vpr_ros.verification import GeometricVerifier

Stage = Callable[[str], AbstractContextManager[object]]


FEATURE_CACHE = 256
"""Keyframes whose local features are kept: a lap along an old one meets the same few again and again."""


@dataclass(frozen=True, slots=True, eq=False)
class _Query:
    """A frame with what is known of it."""

    frame: Frame
    descriptor: Descriptor
    mask: Mask | None
    travelled_m: float | None


class LoopDetector:
    """Tells for every frame whether, where and how surely the camera has been there before.

    `stage` is entered as a context around each step, by name; a caller that wants latencies passes its stopwatch.
    """

    def __init__(
        self,
        config: Config,
        engine: Engine,
        place_map: PlaceMap | None = None,
        session: str = "",
        stage: Stage = nullcontext,
    ) -> None:
        self.config = config
        self.engine = engine
        self.map = PlaceMap(engine.model.dim) if place_map is None else place_map
        self._verifier = GeometricVerifier(config.verification)
        self._features_of_keyframe = lru_cache(FEATURE_CACHE)(self._extract_keyframe)
        self._links = Links(config.consistency.max_gap, self.map.links)
        self._stage = stage
        self.start_session(session)

    def start_session(self, name: str) -> None:
        """From now on frames belong to a new drive: what is in the map is old and may be matched."""
        self.session = name
        self._first_id = len(self.map)
        self._last: Frame | None = None
        self._travelled_m: float | None = None
        self._recent_bests: deque[int | None] = deque(maxlen=self.config.consistency.window - 1)
        self._accepted_ns: int | None = None

    def reconfigure(self, config: Config) -> None:
        """Use other parameters from the next frame on; the map and the session stay."""
        self.config = config
        self._verifier = GeometricVerifier(config.verification)
        self._features_of_keyframe.cache_clear()
        self._links = Links(config.consistency.max_gap, self.map.links)
        self._recent_bests = deque(self._recent_bests, maxlen=config.consistency.window - 1)

    def process(self, frame: Frame, with_mask: bool = False) -> PlaceMatch:
        """Look the frame up in the map, then add it if it is a keyframe.

        `with_mask` puts what the model attended to into the answer. Raises FrameOrderError, without a trace in the map,
        for a frame that is not newer than the last one, and ModelError for a mask that the model does not have.
        """
        self._follow_clock(frame)
        with self._stage("describe"):
            query = self._describe(frame, with_mask)
        match = self._match(query)
        self._recent_bests.append(match.match_id)
        keyframe_id = self._remember(query)
        if match.accepted:
            self._accepted_ns = frame.stamp_ns
            if keyframe_id is not None and match.match_id is not None:
                self.map.links.append((match.match_id, keyframe_id))
                self._links.add(match.match_id, keyframe_id)
        return replace(match, keyframe_id=keyframe_id, mask=query.mask)

    def _describe(self, frame: Frame, with_mask: bool) -> _Query:
        if with_mask:
            return _Query(frame, *describe_image_with_mask(self.engine, frame.image), self._travelled_m)
        return _Query(frame, describe_image(self.engine, frame.image), None, self._travelled_m)

    def _match(self, query: _Query) -> PlaceMatch:
        config, frame = self.config, query.frame
        answer = partial(PlaceMatch, frame.stamp_ns, frame_id=frame.frame_id)
        if len(self.map) == 0:
            return answer(MatchStatus.NO_MAP)

        with self._stage("search"):
            known = self.map.keyframes
            stop = eligible_stop(known, self._first_id, frame.stamp_ns, query.travelled_m, config.exclusion)
            candidates = self.map.search(query.descriptor, config.match.top_k, stop)
        if not candidates:
            return answer(MatchStatus.RECENT)

        with self._stage("match"):
            places = islands(candidates, config.match.island_gap, self._links)
            place, runner_up = places[0], places[1].best.similarity if len(places) > 1 else None
            hits = consistent_count(self._recent_bests, place.best.keyframe_id, config.consistency.max_gap, self._links)
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
        if self._accepted_ns is not None and frame.stamp_ns - self._accepted_ns < config.match.cooldown_s * 1e9:
            return replace(match, status=MatchStatus.COOLDOWN)
        return match

    def _matched(self, keyframe_id: int, similarity: float) -> dict[str, object]:
        keyframe = self.map.keyframes[keyframe_id]
        return {
            "match_id": keyframe_id,
            "match_stamp_ns": keyframe.stamp_ns,
            "match_session": keyframe.session,
            "similarity": similarity,
        }

    def _verify(self, query: _Query, place: Island) -> tuple[tuple[int, float], Verification]:
        """The candidate of the place with the most inliers: the nearest view, not only a view of the same street."""
        features = self._verifier.extract(query.frame.image)
        results = []
        for candidate in place.candidates[: self.config.verification.max_candidates]:
            camera = self.map.keyframes[candidate.keyframe_id].camera
            seen = self._features_of_keyframe(candidate.keyframe_id)
            verification = self._verifier.verify(features, query.frame.camera, seen, camera)
            results.append(((candidate.keyframe_id, candidate.similarity), verification))
        return max(results, key=lambda result: result[1].inliers)

    def _is_rigid(self, verification: Verification) -> bool:
        needed = self.config.verification
        return (
            verification.inliers >= needed.min_inliers
            and verification.inlier_ratio >= needed.min_inlier_ratio
            and verification.coverage >= needed.min_coverage
        )

    def _contradicts_odometry(self, query: _Query, match: Keyframe) -> bool:
        """Whether the two poses are further apart than one view and the drift since then allow."""
        config, pose = self.config.odometry, query.frame.odom_from_body
        if not config.gate_enabled or match.session != self.session or pose is None or match.odom_from_body is None:
            return False
        travelled = (query.travelled_m or 0.0) - (match.travelled_m or 0.0)
        distance = np.linalg.norm(pose[:3, 3] - match.odom_from_body[:3, 3])
        return bool(distance > config.max_distance_m + config.drift_per_m * travelled)

    def _extract_keyframe(self, keyframe_id: int) -> LocalFeatures:
        """Extracted when first needed: most keyframes never are, and extraction costs more than inference."""
        return self._verifier.extract(self.map.keyframes[keyframe_id].thumbnail or Thumbnail(b"", 1.0))

    def _remember(self, query: _Query) -> int | None:
        """Add the frame to the map if it is a keyframe; its id there."""
        frame = query.frame
        last = self.map.keyframes[-1] if len(self.map) > self._first_id else None
        if not is_new_keyframe(frame.stamp_ns, query.descriptor, frame.odom_from_body, last, self.config.keyframe):
            return None
        with self._stage("remember"):
            thumbnail = self._verifier.thumbnail(frame.image) if self.config.verification.enabled else None
            keyframe = Keyframe(
                id=len(self.map),
                session=self.session,
                stamp_ns=frame.stamp_ns,
                descriptor=query.descriptor,
                thumbnail=thumbnail,
                camera=frame.camera,
                odom_from_body=frame.odom_from_body,
                travelled_m=query.travelled_m,
                frame_id=frame.frame_id,
            )
            self.map.add(keyframe)
        return keyframe.id

    def _follow_clock(self, frame: Frame) -> None:
        """Refuse a frame out of order, start a new session when the clock jumped back, and measure the path."""
        if self._last is not None:
            step_ns = frame.stamp_ns - self._last.stamp_ns
            if step_ns < -self.config.session.clock_jump_s * 1e9:
                self.start_session(f"{self.session}+")
            elif step_ns <= 0:
                raise FrameOrderError(f"frame {frame.stamp_ns} is not newer than {self._last.stamp_ns}; it is dropped")
        before = self._last.odom_from_body if self._last is not None else None
        if frame.odom_from_body is not None:
            step = 0.0 if before is None else float(np.linalg.norm(frame.odom_from_body[:3, 3] - before[:3, 3]))
            self._travelled_m = (self._travelled_m or 0.0) + step
        self._last = frame
