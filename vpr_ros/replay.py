"""A recording -> LoopDetector -> a run folder: as fast as the machine allows, with the same answers every time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vpr_ros.config import Config
from vpr_ros.engines import Engine, open_engine
from vpr_ros.errors import FrameOrderError, SourceError
from vpr_ros.evaluation.ground_truth import GroundTruth, Protocol
from vpr_ros.evaluation.metrics import evaluate
from vpr_ros.evaluation.report import Run, Trajectory
from vpr_ros.loop_detector import LoopDetector
from vpr_ros.model import PlaceModel, shipped_model
from vpr_ros.run_folder import write_run
from vpr_ros.sources import Source
from vpr_ros.sources.sample import images_of
from vpr_ros.stopwatch import Stopwatch
from vpr_ros.types import Frame, PlaceMatch

Progress = Callable[[Iterable[Frame]], Iterable[Frame]]


@dataclass(frozen=True, slots=True, eq=False)
class Replay:
    """What came of a recording: one match per frame, and the detector with its map."""

    matches: list[PlaceMatch]
    detector: LoopDetector
    stopwatch: Stopwatch
    odometry: Trajectory | None
    out_of_order: int


def replay(frames: Iterable[Frame], config: Config, session: str = "", engine: Engine | None = None) -> Replay:
    """Run the frames through a new detector, with `engine` or else the configured one.

    Frames out of order are left out and counted. Raises ModelError.
    """
    stopwatch = Stopwatch()
    if engine is None:
        model = PlaceModel.open(config.model.path or shipped_model())
        engine = open_engine(model, config.engine, images_of(config.engine))
    detector = LoopDetector(config, engine, session=session, stage=stopwatch)
    matches, path, out_of_order = [], [], 0
    stream = iter(frames)
    while True:
        with stopwatch("read"):
            frame = next(stream, None)
        if frame is None:
            break
        try:
            matches.append(detector.process(frame))
        except FrameOrderError:
            out_of_order += 1
            continue
        if frame.odom_from_body is not None:
            path.append((frame.stamp_ns, frame.odom_from_body[:3, 3]))
    return Replay(matches, detector, stopwatch, _trajectory(path), out_of_order)


def recall_at_1(source: Source, engine: Engine, config: Config, protocol: Protocol) -> float:
    """Of the descriptors alone, over the frames of a source with a true revisit.

    Raises SourceError for a source without poses, or whose drive never comes back.
    """
    if source.ground_truth is None:
        raise SourceError(f"{source.name} has no poses: recall cannot be judged")
    done = replay(source, config.with_values({"verification.enabled": False}), engine=engine)
    truth = GroundTruth(source.ground_truth.stamps, source.ground_truth.poses, protocol)
    recall = evaluate(done.matches, truth, {k.id: k.stamp_ns for k in done.detector.map.keyframes}).recall_at_1
    if recall is None:
        raise SourceError(f"{source.name} never comes back to a place: recall cannot be judged")
    return recall


def replay_to_folder(
    source: Source, config: Config, folder: Path, *, created: str, protocol: Protocol, progress: Progress = iter
) -> Run:
    """Replay a source and write its run folder. The ground truth is used to judge the answers, never to find them."""
    done = replay(progress(source), config, session=source.name)
    truth = source.ground_truth
    judged = None if truth is None else GroundTruth(truth.stamps, truth.poses, protocol)
    keyframe_stamps = {k.id: k.stamp_ns for k in done.detector.map.keyframes}
    notes = list(source.notes)
    if done.out_of_order:
        notes.append(f"{done.out_of_order} frames were not newer than the one before and were left out")
    notes += done.detector.notes
    model = done.detector.engine.model
    run = Run(
        name=source.name,
        created=created,
        model={"name": model.name, "id": model.id, "engine": done.detector.engine.name},
        config=config.flat(),
        matches=done.matches,
        metrics=None if judged is None else evaluate(done.matches, judged, keyframe_stamps),
        trajectory=done.odometry if truth is None else Trajectory(truth.stamps, truth.poses[:, :3, 3]),
        latencies=done.stopwatch.seconds,
        image_of=source.image_at,
        notes=notes,
    )
    write_run(folder, run, config)
    return run


def _trajectory(path: list[tuple[int, np.ndarray]]) -> Trajectory | None:
    if not path:
        return None
    return Trajectory(np.array([stamp for stamp, _ in path]), np.array([position for _, position in path]))
