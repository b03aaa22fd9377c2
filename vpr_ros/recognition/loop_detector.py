"""The algorithm, on one screen: `LoopDetector._match`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TypeAlias

from vpr_ros.config import Config
from vpr_ros.engines.backend import Engine
from vpr_ros.engines.describe import describe_images, describe_images_with_masks
from vpr_ros.errors import FrameOrderError
from vpr_ros.map.place_map import PlaceMap
from vpr_ros.map.pruning import Plan
from vpr_ros.recognition.decision import cooldown_status, motion_status, retrieval_status, rigid_status
from vpr_ros.recognition.keyframes import is_new_keyframe
from vpr_ros.recognition.matching import Island, Links, Now, consistent_count, islands, recent
from vpr_ros.recognition.odometry import Report
from vpr_ros.recognition.place_verifier import PlaceVerifier
from vpr_ros.recognition.session import Session
from vpr_ros.types import Descriptor, Frame, KeyframeRef, Mask, MatchStatus, PlaceMatch, Verification

ACCEPTED = MatchStatus.ACCEPTED
PRUNING_SLACK = 0.05
NEWEST = 200
"""Keyframes of the running drive that are not pruned, unless that were most of the map."""
Stage = Callable[[str], AbstractContextManager[object]]
Described: TypeAlias = tuple[Descriptor, Mask | None]


def _ignore(kind: str, text: str) -> None:
    pass


class LoopDetector:
    """Decides for every frame whether, where and how surely the camera has been there before.

    A frame of a rig may match a keyframe of any of its cameras. `verifier` knows what was learnt of the pictures.

    `stage` is entered as a context around each step, by name; a caller that wants latencies passes its stopwatch. `report`
    is called with the kind of each oddity (a session that begins, odometry that jumps) and a sentence about it.
    `robot` is a part of the name of every keyframe that is made. `verifies_all`: also queries that descriptors have refused,
    which stay refused: for who wants all evidence.
    """

    def __init__(
        self,
        config: Config,
        engine: Engine,
        place_map: PlaceMap | None = None,
        session: str = "",
        stage: Stage = nullcontext,
        report: Report = _ignore,
        robot: str = "",
        verifies_all: bool = False,
    ) -> None:
        self.config = config
        self.engine = engine
        self.map = PlaceMap(engine.model.dim) if place_map is None else place_map
        self.robot = robot
        self._stage = stage
        self._report = report
        self._verifies_all = verifies_all
        self._pruned_to = 0
        self.verifier = PlaceVerifier(config, self.map)
        self._links = Links(config.consistency.max_gap, self.map.linked_moments())
        self.start_session(session)

    @property
    def session(self) -> str:
        """The name of the running one."""
        return self._session.name

    def start_session(self, name: str) -> None:
        """From now on frames belong to a new drive: what is in the map is old and may be matched."""
        self._session = Session(name, self._report)

    def reconfigure(self, config: Config) -> None:
        """Use other parameters from the next frame on; the map and the session stay. Raises ConfigError."""
        self.verifier.reconfigure(config)
        self.config = config
        self._links = Links(config.consistency.max_gap, self.map.linked_moments())

    def map_faults(self, calibrated: Collection[str] = ()) -> list[str]:
        """What the map cannot do that the configuration asks of it; `calibrated`: cameras that have intrinsics now."""
        own = {keyframe.ref for keyframe in self._session.keyframes}
        of_robot = self.robot if self.config.fleet.namespace else None
        is_verified = self.config.verification.enabled
        return self.map.faults(is_verified=is_verified, calibrated=calibrated, without=own, of_robot=of_robot)

    @property
    def budget(self) -> int | None:
        """How many keyframes the map may hold, by map.max_keyframes and, as large as they are now, map.max_mb; None: any number."""
        config, limits = self.config.map, []
        if config.max_keyframes:
            limits.append(config.max_keyframes)
        if config.max_mb and len(self.map):
            limits.append(max(1, int(config.max_mb * 2**20 / (self.map.used_bytes / len(self.map)))))
        return min(limits, default=None)

    @property
    def is_over_budget(self) -> bool:
        """Whether the map has grown past that since it was pruned, by enough to be worth it."""
        limit = self.budget
        return limit is not None and len(self.map) > max(limit, self._pruned_to) * (1.0 + PRUNING_SLACK)

    def redundant(self) -> Plan:
        """What `prune` should remove; may run in another thread than `process`. The newest keyframes of the drive stay."""
        keep = len(self.map) if self.budget is None else self.budget
        count = min(NEWEST, keep // 2)
        newest = [keyframe.ref for keyframe in self._session.keyframes[len(self._session.keyframes) - count :]]
        return self.map.redundant(keep, self.config.match.island_gap, newest)

    def prune(self, plan: Plan) -> None:
        """Remove keyframes from the map; what stands for them has their loop closures."""
        self.map.merge(plan)
        self._pruned_to = len(self.map)

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
        return self.answer(frames, self.describe(frames, with_mask))

    def describe(self, frames: Sequence[Frame], with_mask: bool = False) -> list[Described]:
        """What the engine makes of each frame: the first half of `process_batch`, which reads nothing that a frame changes."""
        if not frames:
            return []
        self.verifier.require_fitting_masks(frames)
        images = [frame.image for frame in frames]
        with self._stage("describe"):
            if with_mask:
                return list(zip(*describe_images_with_masks(self.engine, images), strict=True))
            return [(descriptor, None) for descriptor in describe_images(self.engine, images)]

    def answer(self, frames: Sequence[Frame], described: Sequence[Described]) -> list[PlaceMatch | FrameOrderError]:
        """The second half of `process_batch`."""
        answers: list[PlaceMatch | FrameOrderError] = []
        for frame, (descriptor, mask) in zip(frames, described, strict=True):
            try:
                answers.append(replace(self._answer(frame, descriptor), mask=mask))
            except FrameOrderError as error:
                answers.append(error)
        return answers

    def places(self, descriptor: Descriptor, count: int) -> list[Island]:
        """The most similar places of the whole map, the running drive included, best first; nothing is changed."""
        candidates = self.map.search(descriptor, self.config.match.top_k * count)
        return islands(candidates, self.map.moment, self.config.match.island_gap, self._links)[:count]

    def link(self, match: KeyframeRef, keyframe: KeyframeRef, found: Verification | None = None) -> None:
        """Two keyframes of the map show one place; `found` is what local geometry says of the two. Raises KeyError."""
        self.map.link(match, keyframe, found)
        self._links.add(self.map.moment(match), self.map.moment(keyframe))

    def _answer(self, frame: Frame, descriptor: Descriptor) -> PlaceMatch:
        session = self._session
        now = session.follow(frame, descriptor, self.config.session)
        match = self._match(frame, descriptor, now)
        session.camera(frame.camera_name).bests.append(None if match.match is None else self.map.moment(match.match))
        keyframe = self._remember(frame, descriptor, now)
        if match.accepted:
            session.accepted_ns = now.elapsed_ns
            if keyframe is not None and match.match is not None:
                self.link(match.match, keyframe, match.verification)
        return replace(match, keyframe_id=None if keyframe is None else keyframe.id, odometry=now.odometry)

    def _match(self, frame: Frame, descriptor: Descriptor, now: Now) -> PlaceMatch:
        """Each step may be the last; the answer holds what was known by then."""
        config, session, moment_of = self.config, self._session, self.map.moment
        match = PlaceMatch.without_map(frame, self.robot, session.name)
        if not len(self.map):
            return match
        with self._stage("search"):
            no_revisit = recent(
                session.keyframes, now, session.views, config.exclusion, jitter_s=config.session.clock_jump_s
            )
            candidates = self.map.search(descriptor, config.match.top_k, without=no_revisit)
        if not candidates:
            return replace(match, status=MatchStatus.RECENT)
        with self._stage("match"):
            place, *others = islands(candidates, moment_of, config.match.island_gap, self._links)
            recent_bests = session.camera(frame.camera_name).recent_bests(config.consistency.window)
            moment = moment_of(place.best.keyframe)
            match = replace(
                match,
                match=place.best.keyframe,
                similarity=place.best.similarity,
                runner_up=others[0].best.similarity if others else None,
                consistent_count=consistent_count(recent_bests, moment, config.consistency.max_gap, self._links),
                candidates=candidates,
            )
        status = retrieval_status(match, config)
        if config.verification.enabled and (status is ACCEPTED or self._verifies_all):
            with self._stage("verify"):
                nearest, found = self.verifier.nearest_view(frame, place)
            match = replace(match, match=nearest.keyframe, similarity=nearest.similarity, verification=found)
            status = rigid_status(found, config.verification) if status is ACCEPTED else status
        if status is ACCEPTED and match.match is not None:
            status = motion_status(now, session.around(match.match), config.odometry)
        if status is ACCEPTED:
            status = cooldown_status(now, session.accepted_ns, config.match)
        return replace(match, status=status)

    def _remember(self, frame: Frame, descriptor: Descriptor, now: Now) -> KeyframeRef | None:
        """Add the frame to the map if it is a keyframe and the map may grow; its name."""
        config, session = self.config, self._session
        if config.map.mode == "localization":
            return None
        last = session.camera(frame.camera_name).keyframe
        if not is_new_keyframe(now.elapsed_ns, descriptor, now.odom_from_body, last, config.keyframe):
            return None
        with self._stage("remember"):
            ref = KeyframeRef(
                self.robot,
                session.name,
                self.map.next_id(self.robot),
                frame.stamp_ns,
                frame.camera_name,
                frame.frame_id,
            )
            keyframe = now.keyframe(ref, frame, descriptor, self.verifier.thumbnail(frame))
            self.map.add(keyframe)
        session.remember(keyframe, config.exclusion.away_similarity)
        return ref
