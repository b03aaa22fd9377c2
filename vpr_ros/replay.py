"""A recording -> LoopDetector -> a run folder: as fast as the machine allows, with the same answers every time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count, groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vpr_ros.config import Config
from vpr_ros.engines.backend import Engine
from vpr_ros.engines.open import open_engine
from vpr_ros.errors import FrameOrderError, SourceError
from vpr_ros.evaluation.closure_files import OdometryPath
from vpr_ros.evaluation.ground_truth import GroundTruth, RevisitProtocol
from vpr_ros.evaluation.metrics import evaluate
from vpr_ros.evaluation.report import Run
from vpr_ros.evaluation.run_folder import write_run
from vpr_ros.extrinsics import configured_extrinsics
from vpr_ros.images import is_black
from vpr_ros.map.place_map import PlaceMap
from vpr_ros.model import PlaceModel
from vpr_ros.recognition.loop_detector import LoopDetector
from vpr_ros.recognition.relocalization import Localization, Relocalizer
from vpr_ros.sources import Source
from vpr_ros.sources.base import TRUE_ODOMETRY
from vpr_ros.sources.sample import images_of
from vpr_ros.stopwatch import Stopwatch
from vpr_ros.types import Frame, FrameRef, PlaceMatch, Pose

FrameProgress = Callable[[Iterable[Frame]], Iterable[Frame]]


@dataclass(frozen=True, slots=True, eq=False)
class Replay:
    """What came of a recording: one match per frame, and the detector with its map.

    `numbers` are the frames' places among those that were read, from 0.
    """

    matches: list[PlaceMatch]
    detector: LoopDetector
    stopwatch: Stopwatch
    odometry: tuple[OdometryPath, ...]
    numbers: Mapping[FrameRef, int]
    out_of_order: int
    events: tuple[str, ...] = ()
    """What was odd about stamps and odometry: every session that began, a sentence for each other kind."""
    localizations: tuple[Localization, ...] = ()
    """What became known of where the camera's robot was in the map of earlier drives, if there is one."""

    @property
    def keyframes(self) -> list[FrameRef]:
        """The frame of each keyframe of the map."""
        return [ref.frame for ref in self.detector.map.names]


def replay(
    frames: Iterable[Frame],
    config: Config,
    session: str = "",
    engine: Engine | None = None,
    map_file: Path | None = None,
    verify_all: bool = False,
) -> Replay:
    """Run the frames through a new detector, with `engine` or else the configured one.

    With `map_file` the map in it is searched, too, and (map.mode) recorded in; a session whose name is taken gets a number. The
    map is complete, and still open, when this returns. Raises MapError for what is none. `verify_all`: see `LoopDetector`.

    Frames out of order are left out and counted. Raises ModelError, and ConfigError where cameras cannot sit so.
    """
    stopwatch = Stopwatch()
    if engine is None:
        model = PlaceModel.open(config.model.path)
        engine = open_engine(model, config.engine, images_of(config.engine))
    events: dict[str, list[str]] = {}
    place_map = (
        PlaceMap(engine.model.dim) if map_file is None else PlaceMap.configured(map_file, engine.model, config.map)
    )
    detector = LoopDetector(
        config,
        engine,
        place_map,
        session=place_map.unused_session(config.node.robot, session),
        stage=stopwatch,
        report=lambda kind, text: events.setdefault(kind, []).append(text),
        robot=config.node.robot,
        verifies_all=verify_all,
    )
    extrinsics = configured_extrinsics(config)
    relocalizer, localizations = Relocalizer(config, place_map), list[Localization]()
    matches: list[PlaceMatch] = []
    odometry: list[_Posed] = []
    numbers: dict[FrameRef, int] = {}
    out_of_order = black = 0
    stream = iter(frames)
    for number in count():
        with stopwatch("read"):
            frame = next(stream, None)
        if frame is None:
            break
        try:
            if frame.camera_name in extrinsics:
                frame = replace(frame, body_from_camera=extrinsics[frame.camera_name])
            matches.append(detector.process(frame))
            if (known := relocalizer.follow(matches[-1])) is not None:
                localizations.append(known)
            black += is_black(frame.image)
            if detector.is_over_budget:
                detector.prune(detector.redundant())
        except FrameOrderError:
            out_of_order += 1
            continue
        name = matches[-1].frame
        numbers[name] = number
        fix = matches[-1].odometry
        if fix is not None and fix.odom_from_body is not None:
            odometry.append(_posed(name, frame, fix.odom_from_body, fix.segment))
    if black > len(matches) / 2:
        events["black"] = [f"{black} of {len(matches)} images are black: a covered lens, or the exposure?"]
    with stopwatch("flush"):
        place_map.flush()
    said = tuple(text for kind, texts in events.items() for text in (texts if kind == "session" else [_once(texts)]))
    return Replay(matches, detector, stopwatch, _paths(odometry), numbers, out_of_order, said, tuple(localizations))


def _once(texts: Sequence[str]) -> str:
    """The first of several events of a kind, and how many there were."""
    return texts[0] if len(texts) == 1 else f"{texts[0]} (the first of {len(texts)} such events)"


def _posed(name: FrameRef, frame: Frame, odom_from_body: Pose, segment: int) -> _Posed:
    """Of the camera, where it is known where that sits on the body."""
    if _is_of_camera(frame):
        return _Posed(name, odom_from_body, True, segment)
    if frame.body_from_camera is None:
        return _Posed(name, odom_from_body, False, segment)
    return _Posed(name, odom_from_body @ frame.body_from_camera, True, segment)


def _is_of_camera(frame: Frame) -> bool:
    """Whether the body of its odometry is known to be the camera itself."""
    named = bool(frame.frame_id) and frame.odometry_frame.endswith(f"/{frame.frame_id}")
    return named or frame.odometry_frame == TRUE_ODOMETRY


class _Posed(NamedTuple):
    name: FrameRef
    pose: Pose
    is_camera: bool
    segment: int


def _paths(odometry: Iterable[_Posed]) -> tuple[OdometryPath, ...]:
    """Cut into stretches whose poses compare: those of a segment of odometry."""
    paths = (list(stretch) for _, stretch in groupby(odometry, key=lambda posed: (posed.name.session, posed.segment)))
    return tuple(
        OdometryPath({posed.name: posed.pose for posed in path}, all(posed.is_camera for posed in path))
        for path in paths
    )


def true_poses(source: Source, matches: Sequence[PlaceMatch], max_gap_s: float) -> dict[FrameRef, Pose]:
    """The true pose of every answered frame, session by session, NaN where it has none. Raises SourceError without truth."""
    sessions = {session: [m.frame for m in matches if m.session == session] for session in _sessions(matches)}
    stamps = [np.array([frame.stamp_ns for frame in frames], np.int64) for frames in sessions.values()]
    poses = source.true_poses(stamps, max_gap_s)
    return {
        frame: pose
        for frames, of_session in zip(sessions.values(), poses, strict=True)
        for frame, pose in zip(frames, of_session, strict=True)
    }


def ground_truth(poses: Mapping[FrameRef, Pose], protocol: RevisitProtocol) -> GroundTruth:
    """Of frames in the order of their sessions."""
    return GroundTruth(list(poses), np.array(list(poses.values())).reshape(-1, 4, 4), protocol)


def recall_at_1(source: Source, engine: Engine, config: Config, protocol: RevisitProtocol) -> float:
    """Of the descriptors alone, over the frames of a source with a true revisit.

    Raises SourceError for a source without poses, or whose drive never comes back.
    """
    if not source.has_truth:
        raise SourceError(f"{source.name} has no poses: recall cannot be judged")
    done = replay(source, config.with_values({"verification.enabled": False}), engine=engine)
    truth = ground_truth(true_poses(source, done.matches, protocol.gap_s), protocol)
    recall = evaluate(done.matches, truth, done.keyframes, verification=False).recall_at_1
    if recall is None:
        raise SourceError(f"{source.name} never comes back to a place: recall cannot be judged")
    return recall


def replay_to_folder(
    source: Source,
    config: Config,
    folder: Path,
    *,
    created: str,
    protocol: RevisitProtocol,
    progress: FrameProgress = iter,
    map_file: Path | None = None,
    verify_all: bool = False,
) -> Run:
    """Replay a source and write its run folder. The ground truth is used to judge the answers, never to find them."""
    done = replay(progress(source), config, session=source.name, map_file=map_file, verify_all=verify_all)
    poses = true_poses(source, done.matches, protocol.gap_s) if source.has_truth else {}
    truth = ground_truth(poses, protocol) if source.has_truth else None
    verification = config.verification.enabled
    notes = [*source.notes, *done.events]
    if done.out_of_order:
        notes.append(
            f"{done.out_of_order} frames were not newer than the one before, or their stamps odd, and were left out"
        )
    notes += done.detector.verifier.notes
    model = done.detector.engine.model
    run = Run(
        name=source.name,
        created=created,
        model={"name": model.name, "id": model.id, "engine": done.detector.engine.name},
        config=config.flat(),
        matches=done.matches,
        metrics=None if truth is None else evaluate(done.matches, truth, done.keyframes, verification=verification),
        true_poses=poses,
        odometry=done.odometry,
        latencies=done.stopwatch.seconds,
        localizations=done.localizations,
        image_of=lambda frame: source.image_of(done.numbers[frame]) if frame in done.numbers else None,
        notes=notes,
    )
    write_run(folder, run, config)
    done.detector.map.close()
    return run


def _sessions(matches: Iterable[PlaceMatch]) -> list[str]:
    return list(dict.fromkeys(match.session for match in matches))
