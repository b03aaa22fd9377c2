"""What exists while the node is configured: model, engine, detector, and the lock that the threads share it under."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import rclpy
from rclpy.impl.rcutils_logger import RcutilsLogger
from rclpy.logging import get_logger

from vpr_ros.config import Config
from vpr_ros.engines.backend import BuildProgress, Engine
from vpr_ros.engines.open import build_options, is_reference, open_engine, open_reference
from vpr_ros.map.place_map import PlaceMap
from vpr_ros.model import PlaceModel
from vpr_ros.recognition.loop_detector import Described, LoopDetector
from vpr_ros.recognition.relocalization import Localization, LocalizationState, Relocalizer
from vpr_ros.ros.diagnostics import Diagnostics
from vpr_ros.ros.engine_build import EngineBuild
from vpr_ros.ros.pruning import Pruning
from vpr_ros.ros.watchdog import STOP_S
from vpr_ros.sources.sample import images_of
from vpr_ros.stopwatch import Stopwatch
from vpr_ros.types import Frame, Keyframe, PlaceMatch

LATENCY_WINDOW = 1000


class Recogniser:
    """The loop detector of a configured node: images, services and the engine's build come in threads of their own.

    Whoever uses `detector` holds `lock`, but for the inference: `describe` may never return, and services go on all the same.
    """

    def __init__(
        self,
        config: Config,
        map_file: Path | None,
        diagnostics: Diagnostics,
        logger: RcutilsLogger,
        on_keyframe: Callable[[Keyframe], object],
    ) -> None:
        """Raises VprError for what cannot be opened; without `map_file` the map is an empty one in memory.

        `on_keyframe` is called with every keyframe once the map has it for good, in any thread.
        """
        self.config = config
        self.model = PlaceModel.open(config.model.path)
        self._diagnostics, self._logger, self._on_keyframe = diagnostics, logger, on_keyframe
        build_options(config.engine)  # a mistake in it is reported now
        self.lock = threading.Lock()
        self.localization_changed = threading.Condition(self.lock)
        """Notified with every answer, and where none will come any more."""
        self._engine_lock = threading.Lock()
        """Held while the engine runs, and while it is replaced."""
        self.stopwatch = Stopwatch(keep=LATENCY_WINDOW)
        self.pruning = Pruning(self.lock, logger.info, logger.warning)
        engine = open_reference(self.model, config.engine.threads)
        place_map = PlaceMap(self.model.dim) if map_file is None else self.open_map(map_file)
        self._unsaved_from = len(place_map)
        self.detector = self._new_detector(engine, place_map)
        self.relocalizer = Relocalizer(config, place_map)
        diagnostics.configured(config, self.detector, self.stopwatch)
        diagnostics.engine_fault = ""
        self.check_map()
        self._engine_build = None if is_reference(config.engine) else self._start_engine_build()
        diagnostics.engine_build = self._engine_build

    def close(self) -> bool:
        """What waits to be recorded is; a map in memory is forgotten. Whether the engine and its build have ended.

        Those that do not end within `STOP_S` are left alone: to close an engine that runs would crash.
        """
        self.pruning.close()
        self._close_map(self.detector.map)
        self._diagnostics.engine_build = None
        is_built = self._engine_build is None or self._engine_build.cancel(STOP_S)
        if not self._engine_lock.acquire(timeout=STOP_S):
            return False
        try:
            self.detector.engine.close()
        finally:
            self._engine_lock.release()
        return is_built

    def describe(self, frames: list[Frame], with_mask: bool) -> list[Described]:
        """As `LoopDetector.describe`, without the lock."""
        with self._engine_lock:
            return self.detector.describe(frames, with_mask)

    def localize(self, answer: PlaceMatch) -> Localization | None:
        """What an answer makes known of where the robot is in an older map, if anything. The caller holds the lock."""
        known = self.relocalizer.follow(answer)
        self._note(self.relocalizer.now)
        if known is not None and known.is_found:
            self._logger.info(f"found in the map: {known.reason}")
        elif known is not None and known.state is LocalizationState.LOST:
            (self._logger.warning if self.is_localizing else self._logger.info)(f"lost in the map: {known.reason}")
        return known

    def relocalize(self) -> None:
        """Forget where in the map the robot is thought to be. The caller holds the lock."""
        self.relocalizer.restart()
        self._note(self.relocalizer.now)

    def wake(self) -> None:
        """Whoever waits for the robot to be found looks again whether that is worth it."""
        with self.localization_changed:
            self.localization_changed.notify_all()

    @property
    def is_localizing(self) -> bool:
        """Whether the map is there to be found in, and does not grow."""
        return self.config.map.mode == "localization"

    def _note(self, localization: Localization) -> None:
        self._diagnostics.localization = localization
        self.localization_changed.notify_all()

    def reconfigure(self, config: Config) -> None:
        """Raises ConfigError."""
        with self.lock:
            self.detector.reconfigure(config)
            self.relocalizer.reconfigure(config)
            self.config = config
        self.check_map()

    def open_map(self, path: Path) -> PlaceMap:
        """Of a file, which is recorded in unless map.mode is localization. Raises MapError."""
        is_mapping = self.config.map.mode == "mapping"
        is_new = is_mapping and not path.exists()
        place_map = PlaceMap.configured(path, self.model, self.config.map)
        what = "a new map" if is_new else f"{len(place_map)} keyframes"
        self._logger.info(f"{what} in {path}" + (", recorded as the robot drives" if is_mapping else ", not changed"))
        return place_map

    def start_with(self, place_map: PlaceMap) -> PlaceMap:
        """Begin a new session with another map, or the same; returns the map before, which is closed if it is another."""
        with self.lock:
            before = self.detector.map
            self.detector = self._new_detector(self.detector.engine, place_map)
            self.relocalizer = Relocalizer(self.config, place_map)
            self._note(self.relocalizer.now)
            self._diagnostics.configured(self.config, self.detector, self.stopwatch)
        if before is not place_map:
            self.pruning.close()
            self._close_map(before)
        self.check_map()
        return before

    def save_map(self, path: Path) -> int:
        """Write a copy of what the map holds now, while it may grow; how many keyframes. Raises MapError."""
        place_map = self.detector.map
        count = place_map.save(path, self.model.id)
        if place_map.path is None:
            self._unsaved_from = count
        return count

    def _close_map(self, place_map: PlaceMap) -> None:
        forgotten = len(place_map) - self._unsaved_from if place_map.path is None else 0
        self._unsaved_from = 0
        # Where ROS has been shut down, by a signal say, nothing can be published on /rosout: only the node's own name is.
        logger = self._logger if rclpy.ok() else get_logger(f"{self._logger.name}_end")
        if forgotten > 0:
            logger.warning(
                f"{forgotten} keyframes of a map in memory are forgotten: node.map names a file that is recorded as the robot drives, "
                "~/save_map writes one"
            )
        try:
            place_map.close()
        except Exception as error:  # a full disk, say: the node goes on, or ends, all the same
            logger.error(f"{place_map.waiting} keyframes are forgotten: {error or type(error).__name__}")

    def check_map(self) -> str:
        """What the map cannot do that is required of it; logged when it changes."""
        calibrated = [camera for camera, stream in self._diagnostics.streams.items() if stream.is_calibrated]
        with self.lock:
            fault = "; ".join(self.detector.map_faults(calibrated))
        if fault and fault != self._diagnostics.map_fault:
            self._logger.warning(fault)
        self._diagnostics.map_fault = fault
        return fault

    def _new_detector(self, engine: Engine, place_map: PlaceMap) -> LoopDetector:
        place_map.on_durable = self._on_keyframe
        session = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S.%f")
        return LoopDetector(
            self.config,
            engine,
            place_map,
            session=session,
            stage=self.stopwatch,
            report=self._on_event,
            robot=self.config.node.robot,
        )

    def _on_event(self, kind: str, text: str) -> None:
        """In the worker's thread: the detector noticed something odd. Every session is logged, the rest ever more rarely."""
        times = self._diagnostics.count_event(kind, text)
        if kind == "session" or times.bit_count() == 1:  # the 1st, 2nd, 4th, 8th time
            self._logger.warning(text if times == 1 else f"{text} ({times} times by now)")

    def _start_engine_build(self) -> EngineBuild:
        """Open the requested engine beside the running node; until it is there the reference describes."""

        def warn(text: str) -> None:
            self._diagnostics.engine_fault = text
            self._logger.warning(text)

        def use(engine: Engine) -> None:
            with self._engine_lock, self.lock:
                self.detector.engine, engine = engine, self.detector.engine
                self._logger.info(f"engine {self.detector.engine.name} describes from now on")
            engine.close()

        def opened(progress: BuildProgress) -> Engine:
            return open_engine(self.model, self.config.engine, images_of(self.config.engine), progress, warn)

        return EngineBuild(opened, use, warn, lambda text: self._logger.info(text))
