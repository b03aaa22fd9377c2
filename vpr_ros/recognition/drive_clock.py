"""The order of a drive's frames, by stamps that may be wrong.

A driver may leave a stamp empty, a network time service may set the clock, a recording may start over. One odd stamp is
dropped and changes nothing; a new session begins where several frames in a row agree on another time.
"""

from __future__ import annotations

from dataclasses import dataclass

from vpr_ros.config import SessionConfig
from vpr_ros.errors import FrameOrderError
from vpr_ros.types import Frame

AGREEING_FRAMES = 3
"""So many frames in a row, each following the one before, make a new session of what would be odd stamps."""


def stamp_or_received(stamp_ns: int, received_ns: int) -> int:
    """The stamp of an image for which a driver may have left it at zero; then the time of reception stands in."""
    return stamp_ns or received_ns


@dataclass(frozen=True, slots=True)
class Tick:
    """When a frame was taken on the drive's own time, which starts at 0 and never jumps."""

    elapsed_ns: int
    restarted: str = ""
    """Why a new session begins with this frame; empty where none does."""


@dataclass(frozen=True, slots=True)
class _Stamp:
    camera_name: str
    stamp_ns: int
    received_ns: int | None


@dataclass(slots=True)
class _Order:
    """The last stamps of one camera."""

    last: _Stamp
    before: _Stamp | None = None


class DriveClock:
    """Accepts the frames of a drive, possibly of several cameras, in order, and puts them on one continuous time.

    Within a session no accepted frame is more than `session.clock_jump_s` older than the newest, and each is newer than its
    camera's last. Across a jump of the stamps the drive's time goes on by what the clock of reception shows, or not at all.
    """

    def __init__(self) -> None:
        self._cameras: dict[str, _Order] = {}
        self._odd: list[_Stamp] = []
        """Frames in a row that do not follow the session but each other."""
        self._offset_ns: int | None = None
        """Drive time minus stamp, in this session."""

    def follow(self, frame: Frame, config: SessionConfig) -> Tick:
        """Take a frame in. Raises FrameOrderError for one that is dropped; that changes nothing for those in order."""
        now = _Stamp(frame.camera_name, frame.stamp_ns, frame.received_ns)
        jump_ns = round(config.clock_jump_s * 1e9)
        if self._offset_ns is None:
            self._offset_ns = -now.stamp_ns
        self._forget_stray_before(now, jump_ns)
        odd = self._oddness(now, jump_ns, round(config.max_gap_s * 1e9))
        if odd:
            return self._restart_or_drop(now, odd, config)
        order = self._cameras.get(now.camera_name)
        if order is not None and now.stamp_ns <= order.last.stamp_ns:
            raise FrameOrderError(f"frame {now.stamp_ns} is not newer than {order.last.stamp_ns}; it is dropped")
        self._odd.clear()
        self._cameras[now.camera_name] = _Order(now, None if order is None else order.last)
        return Tick(now.stamp_ns + self._offset_ns)

    @property
    def _newest(self) -> _Stamp | None:
        return max((order.last for order in self._cameras.values()), key=lambda stamp: stamp.stamp_ns, default=None)

    def _forget_stray_before(self, now: _Stamp, jump_ns: int) -> None:
        """Where the camera's last stamp was far ahead and this one follows the stamp before it, the last was the odd one."""
        order = self._cameras.get(now.camera_name)
        if order is None or order.before is None:
            return
        last, before = order.last.stamp_ns, order.before.stamp_ns
        if last - now.stamp_ns > jump_ns and last - before > jump_ns and now.stamp_ns > before:
            self._cameras[now.camera_name] = _Order(order.before)

    def _oddness(self, now: _Stamp, jump_ns: int, max_gap_ns: int) -> str:
        """Why the stamp does not follow the session; empty where it does, or is only a little late."""
        newest, order = self._newest, self._cameras.get(now.camera_name)
        if newest is None:
            return ""
        if order is not None and order.last.stamp_ns - now.stamp_ns > jump_ns:
            return f"{_seconds(order.last.stamp_ns - now.stamp_ns)} before the last one"
        if newest.stamp_ns - now.stamp_ns > jump_ns:
            behind = _seconds(newest.stamp_ns - now.stamp_ns)
            return f"of camera {now.camera_name} is {behind} behind the other cameras"
        ahead = _unexplained_ns(newest, now)
        return f"{_seconds(ahead)} ahead of the time that has passed" if ahead > max_gap_ns else ""

    def _restart_or_drop(self, now: _Stamp, odd: str, config: SessionConfig) -> Tick:
        newest, max_gap_ns = self._newest, round(config.max_gap_s * 1e9)
        assert newest is not None
        assert self._offset_ns is not None
        if self._odd and not _follows(self._odd, now, round(config.clock_jump_s * 1e9), max_gap_ns):
            self._odd.clear()
        self._odd.append(now)
        if len(self._odd) < AGREEING_FRAMES or not self._outlasts_other_cameras(config):
            known = "(do their clocks agree?)" if "cameras" in odd else f"unless {AGREEING_FRAMES} in a row agree"
            raise FrameOrderError(f"frame {now.stamp_ns} {odd}; it is dropped {known}")
        first, *_ = self._odd
        elapsed_ns = newest.stamp_ns + self._offset_ns + (_received_between_ns(newest, first) or 0)
        self._offset_ns = elapsed_ns - first.stamp_ns
        self._cameras = {stamp.camera_name: _Order(stamp) for stamp in self._odd}
        self._odd = []
        step = _seconds(abs(first.stamp_ns - newest.stamp_ns))
        direction = "forward" if first.stamp_ns > newest.stamp_ns else "back"
        return Tick(now.stamp_ns + self._offset_ns, f"the stamps of the images jumped {direction} by {step}")

    def _outlasts_other_cameras(self, config: SessionConfig) -> bool:
        """Of a rig, one camera's clock alone is no new session: the others would have been heard meanwhile."""
        if len({*self._cameras, *(stamp.camera_name for stamp in self._odd)}) == 1:
            return True
        return self._odd[-1].stamp_ns - self._odd[0].stamp_ns >= config.clock_jump_s * 1e9


def _received_between_ns(before: _Stamp, now: _Stamp) -> int | None:
    if before.received_ns is None or now.received_ns is None:
        return None
    return max(0, now.received_ns - before.received_ns)


def _unexplained_ns(before: _Stamp, now: _Stamp) -> int:
    """How much further the stamps went on than the clock of reception, where there is one."""
    passed_ns = _received_between_ns(before, now)
    return 0 if passed_ns is None else now.stamp_ns - before.stamp_ns - passed_ns


def _follows(odd: list[_Stamp], now: _Stamp, jump_ns: int, max_gap_ns: int) -> bool:
    """Whether a frame continues a run of odd ones as it would continue a session."""
    newest = max(stamp.stamp_ns for stamp in odd)
    own = [stamp.stamp_ns for stamp in odd if stamp.camera_name == now.camera_name]
    in_order = not own or now.stamp_ns > own[-1]
    return in_order and newest - now.stamp_ns <= jump_ns and _unexplained_ns(odd[-1], now) <= max_gap_ns


def _seconds(duration_ns: int) -> str:
    return f"{duration_ns * 1e-9:.3f} s"
