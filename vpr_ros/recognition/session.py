"""The running drive: the order of its frames, its path, its keyframes, and what each camera saw last."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

from vpr_ros.config import SessionConfig
from vpr_ros.recognition.drive_clock import DriveClock
from vpr_ros.recognition.matching import Now
from vpr_ros.recognition.odometry import OdometryFollower, Report
from vpr_ros.types import Descriptor, Frame, Keyframe, KeyframeRef

KEPT_KEYFRAMES = 20000
"""Of a drive, at least: older ones are never too recent, and what odometry tells of where they are is worth nothing by then."""
LONGEST_WINDOW = 100
"""Queries of a camera whose best places are kept; `consistency.window` is not larger."""


@dataclass(slots=True, eq=False)
class CameraHistory:
    """What one camera's frames of the session left behind."""

    view: Descriptor
    """What it sees now."""
    keyframe: Keyframe | None = None
    """Its last one."""
    bests: deque[int | None] = field(default_factory=lambda: deque(maxlen=LONGEST_WINDOW))
    """The moments of its last queries' best keyframes, oldest first."""

    def recent_bests(self, window: int) -> deque[int | None]:
        """Those that share a window of so many queries with the next one."""
        return deque(self.bests, maxlen=window - 1)


class Session:
    """A drive, and its running session: where the clock of the images jumps, another session of the same drive begins.

    The cameras of a rig share clock, path and keyframes; each has a history of its own.
    """

    def __init__(self, name: str, report: Report) -> None:
        """`report` is called with the kind of each oddity and a sentence about it."""
        self.name = name
        self.keyframes: list[Keyframe] = []
        """Of the drive, in time order, without their pictures; what else is in the map is old."""
        self.accepted_ns: int | None = None
        """When the last closure was accepted, in the drive's time."""
        self._report = report
        self._clock = DriveClock()
        self._odometry = OdometryFollower(report)
        self._cameras: dict[str, CameraHistory] = {}
        self._positions: dict[KeyframeRef, int] = {}

    def follow(self, frame: Frame, descriptor: Descriptor, config: SessionConfig) -> Now:
        """Take a frame in. Raises FrameOrderError for one that is dropped, which changes nothing for the others."""
        tick = self._clock.follow(frame, config)
        if tick.restarted:
            self._restart(tick.restarted)
        odometry = self._odometry.follow(frame, tick.elapsed_ns)
        self._cameras.setdefault(frame.camera_name, CameraHistory(descriptor)).view = descriptor
        return Now(tick.elapsed_ns, frame.camera_name, odometry)

    def _restart(self, reason: str) -> None:
        """The clock jumped: nothing from before is used with what comes, but the drive goes on and its recent past is recent."""
        self.name += "+"
        self._odometry.interrupt()
        self._cameras.clear()
        self._report("session", f"{reason}: session {self.name!r} begins")

    def camera(self, name: str) -> CameraHistory:
        """The history of a camera that has been followed."""
        return self._cameras[name]

    @property
    def views(self) -> dict[str, Descriptor]:
        """What each camera sees now."""
        return {name: camera.view for name, camera in self._cameras.items()}

    def remember(self, keyframe: Keyframe, away_similarity: float) -> None:
        """A keyframe of this drive was added to the map."""
        camera_name = keyframe.ref.camera_name
        keyframe = replace(keyframe, thumbnail=None)
        if len(self.keyframes) >= 2 * KEPT_KEYFRAMES:
            del self.keyframes[:KEPT_KEYFRAMES]
            self._positions = {kept.ref: position for position, kept in enumerate(self.keyframes)}
        self._positions[keyframe.ref] = len(self.keyframes)
        self.keyframes.append(keyframe)
        self._cameras[camera_name].keyframe = keyframe
        self._odometry.notice_view(camera_name, keyframe.descriptor, away_similarity)

    def around(self, ref: KeyframeRef) -> list[Keyframe]:
        """A keyframe of this drive and its neighbours, itself first; none for one of another drive."""
        if ref not in self._positions:
            return []
        position = self._positions[ref]
        return [self.keyframes[position], *self.keyframes[max(position - 1, 0) : position + 2]]
