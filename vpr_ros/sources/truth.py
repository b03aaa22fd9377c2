"""True camera poses as people record them: one reader for files, and which frames they are of.

A file is text with columns between blanks, commas or semicolons: TUM rows `t x y z qx qy qz qw`, a csv whose header names
its columns (EuRoC), or KITTI rows of 12 numbers, the n-th of which belongs to the n-th image.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vpr_ros.errors import SourceError
from vpr_ros.rotations import pose_from_quaternion
from vpr_ros.sources.text import read_lines, stamp_in_any_unit
from vpr_ros.trajectory import MAX_GAP_S, Trajectory, is_known
from vpr_ros.types import Pose

Stamps = NDArray[np.int64]

RESTART_NS = 1_000_000_000
"""A stamp this far before the one before it begins a new run of the clock; smaller steps are rows out of order."""
_UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_NO_SECONDS = 1e11
"""Seconds since 1970 that are more than this are none: it would be the year 5138."""
_MAX_STEP_S = 2.0
"""Poses of a recording are seldom further apart than this, in the median."""
_RIGHT_CLOCKS_S = (18, -18, 37, -37)
"""Offsets between clocks that are right: GPS and UTC, TAI and UTC (since 2017)."""
_MAX_HOURS = 14
"""Of a time zone."""
_NOISE_NS = 2_000_000
"""Of stamps that are of the same moments."""
_LOW_SHARE = 0.9
"""Of frames with a pose; with fewer it is looked for a reason."""


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """True poses in the order in which they were recorded, on a clock that may not be the images'.

    `times` (N,) are what the stamps are in ns if they were written in seconds: those of another unit do not fit int64.
    None: row i belongs to image i. `unit` is what they are in, None where the images' stamps will show it. `poses` (N, 4, 4) are
    world_from_camera, NaN where a row has none.
    """

    name: str
    times: tuple[int, ...] | None
    poses: NDArray[np.float64]
    notes: tuple[str, ...] = ()
    unit: str | None = None

    def on_clock_of(self, images: Stamps, offset_s: float = 0.0) -> ClockedTruth:
        """With stamps in ns: `images` (M,) int64 ns, in their order, show the unit. `offset_s` is added.

        Raises SourceError for rows without a time that are not as many as the images, or with an offset.
        """
        if self.times is None:
            if offset_s:
                raise SourceError(f"{self.name}: has no times that an offset could be added to")
            if len(self.poses) != len(images):
                raise SourceError(
                    f"{self.name}: rows of 12 numbers (KITTI) have no time, the n-th is of the n-th image; but there are "
                    f"{len(self.poses)} rows and {len(images)} images"
                )
            return ClockedTruth(self.name, np.asarray(images, np.int64), self.poses)
        offset_ns = round(Decimal(str(offset_s)) * 10**9)
        unit = self.unit or _unit(np.array(self.times, np.float64) / 1e9, images / 1e9, offset_s)
        divisor = _UNITS[unit]
        stamps = [(2 * time + divisor) // (2 * divisor) + offset_ns for time in self.times]
        kept = [i for i, stamp in enumerate(stamps) if abs(stamp) < 2**63]
        notes = () if unit == "s" else (f"{self.name}: its stamps are read as {unit}",)
        return ClockedTruth(self.name, np.array([stamps[i] for i in kept], np.int64), self.poses[kept], notes)


@dataclass(frozen=True, slots=True, eq=False)
class ClockedTruth:
    """True poses (N, 4, 4) in the order in which they were recorded, with `stamps` (N,) int64 ns that images can have."""

    name: str
    stamps: Stamps
    poses: NDArray[np.float64]
    notes: tuple[str, ...] = ()

    def poses_of(self, sessions: Sequence[Stamps], max_gap_s: float = MAX_GAP_S) -> list[NDArray[np.float64]]:
        """The poses (n, 4, 4) of the frames of each session with stamps (n,) int64 ns, NaN where none is to be believed.

        Sessions are drives in the order in which they were made, and the clock may restart with each. Where the truth's
        clock restarts as often, its k-th run is of the k-th session. Otherwise a stamp that several sessions or several
        runs could mean has no pose: it would be a guess.
        """
        runs = self._runs()
        if len(runs) == len(sessions) > 1 and all(_overlap(*pair) for pair in zip(runs, sessions, strict=True)):
            pairs = zip(self._rows_of_runs(), sessions, strict=True)
            return [self._trajectory(rows).interpolated(stamps, max_gap_s) for rows, stamps in pairs]
        trajectory = self._trajectory(np.concatenate([np.zeros(0, np.intp), *self._rows_of_runs()]))
        found = []
        for number, stamps in enumerate(sessions):
            others = [other for k, other in enumerate(sessions) if k != number]
            poses = trajectory.interpolated(stamps, max_gap_s)
            poses[(_enclosing(others, stamps) > 0) | (_enclosing(runs, stamps) > 1)] = np.nan
            found.append(poses)
        return found

    def reason(self, sessions: Sequence[Stamps], max_gap_s: float = MAX_GAP_S) -> str | None:
        """Why many frames have no pose and what to type, where that shows; never applied by itself."""
        covered, count = _covered(self.poses_of(sessions, max_gap_s)), sum(map(len, sessions))
        images = np.concatenate(sessions) if sessions else np.zeros(0, np.int64)
        if not (len(self.stamps) and len(images)):
            return None
        late = int(self.stamps.min() - images.min())
        apart = f"{self.name} begins {_seconds(abs(late))} s {'after' if late > 0 else 'before'} the images"
        if len(images) == len(self.stamps) and abs(late) > _NOISE_NS and np.ptp(self.stamps - images) < _NOISE_NS:
            return f"{apart} and has a row for each: is it late by that? --ground-truth-offset-s={_seconds(-late)}"
        if covered >= _LOW_SHARE * count:
            return None
        offset_ns = self._best_offset(sessions, max_gap_s)
        better = _covered(replace(self, stamps=self.stamps + offset_ns).poses_of(sessions, max_gap_s))
        if better >= max(1.2 * covered, _LOW_SHARE / 2 * count):
            return (
                f"{apart}: --ground-truth-offset-s={_seconds(offset_ns)} would cover {better} of {count} frames; is it "
                "another clock?"
            )
        step_s = float(np.median(np.diff(np.sort(self.stamps)))) / 1e9 if len(self.stamps) > 1 else 0.0
        if step_s > max_gap_s:
            return (
                f"{self.name} has a pose every {step_s:.3g} s (median), and gaps of at most {max_gap_s:.3g} s are "
                f"interpolated: --ground-truth-gap-s={1.1 * step_s:.3g} would bridge them, less surely"
            )
        runs = self._runs()
        if len(runs) != len(sessions) and max(len(runs), len(sessions)) > 1:
            return (
                f"{self.name} restarts its clock {max(0, len(runs) - 1)} times and the images {len(sessions) - 1} times: "
                "stamps that could mean several drives have no pose (are the rows in the order of time?)"
            )
        return None

    def _best_offset(self, sessions: Sequence[Stamps], max_gap_s: float) -> int:
        """Of clocks that are right but differ (leap seconds, time zones) and of a common beginning; in ns."""
        together = int(np.concatenate(sessions).min() - self.stamps.min())
        hours = round(together / 3.6e12)
        zones = [3600 * 10**9 * hour for hour in (hours, hours - 1, hours + 1) if 0 < abs(hour) <= _MAX_HOURS]
        offsets = [*zones, *(seconds * 10**9 for seconds in _RIGHT_CLOCKS_S), together]
        return max(
            offsets, key=lambda ns: _covered(replace(self, stamps=self.stamps + ns).poses_of(sessions, max_gap_s))
        )

    def _rows_of_runs(self) -> list[NDArray[np.intp]]:
        rows = np.flatnonzero(is_known(self.poses))
        return [rows[run] for run in runs_of_clock(self.stamps[rows])]

    def _runs(self) -> list[Stamps]:
        return [self.stamps[rows] for rows in self._rows_of_runs()]

    def _trajectory(self, rows: NDArray[np.intp]) -> Trajectory:
        return Trajectory.sorted(self.stamps[rows], self.poses[rows])


def runs_of_clock(stamps: Stamps) -> list[NDArray[np.intp]]:
    """The indices of stretches between restarts of a clock, from stamps (N,) int64 ns in the order of recording.

    A single stamp that does not lie between its neighbours, though these follow each other, belongs to none: it restarts nothing.
    """
    before, here, after = stamps[:-2], stamps[1:-1], stamps[2:]
    off = (before <= after) & ((here < before - RESTART_NS) | (here > after + RESTART_NS))
    index = np.delete(np.arange(len(stamps)), 1 + np.flatnonzero(off))
    cuts = np.flatnonzero(np.diff(stamps[index]) < -RESTART_NS) + 1
    return [run for run in np.split(index, cuts) if len(run)]


def read_truth(path: Path | str) -> Truth:
    """The poses of a text file; see the module. Rows without a pose are dropped and counted in a note.

    Raises SourceError where no row has one, with the line of the first that should.
    """
    path = Path(path)
    header, table = _table(path)
    width = Counter(len(words) for _, words in table).most_common(1)[0][0] if table else 0
    read = header or _LAYOUTS.get(width, _no_layout)
    rows = [_row(line, words, read) for line, words in table]
    good = [row for row in rows if row.pose is not None]
    if not good:
        where, reason = (f"{path}:{rows[0].line}", rows[0].reason) if rows else (path, f"holds no poses; {_EXPECTED}")
        raise SourceError(f"{where}: {reason}")
    median = float(np.median([row.length for row in good]))
    rows = [replace(row, pose=None, reason=_CUT) if abs(row.length - median) > 0.05 * median else row for row in rows]
    notes: tuple[str, ...] = ()
    if bad := [row for row in rows if row.pose is None]:
        first = f"the first, line {bad[0].line}: {bad[0].reason}"
        notes = (f"{path.name}: {len(bad)} of {len(rows)} rows hold no pose and are not used; {first}",)
    if read is _kitti:
        poses = [np.full((4, 4), np.nan) if row.pose is None else row.pose for row in rows]
        return Truth(path.name, None, np.array(poses), notes)
    kept = [row for row in rows if row.pose is not None]
    return Truth(path.name, tuple(row.time for row in kept), np.array([row.pose for row in kept]), notes)


@dataclass(frozen=True, slots=True, eq=False)
class _Row:
    """`pose` is None where there is none, for a `reason`; `length` is the quaternion's."""

    line: int
    time: int = 0
    pose: Pose | None = None
    length: float = 1.0
    reason: str = ""


_Layout = Callable[[int, list[str]], _Row]
_EXPECTED = "expected lines 't tx ty tz qx qy qz qw'"
_CUT = "its quaternion is not as long as the others: was a number cut off?"


def _row(line: int, words: list[str], read: _Layout) -> _Row:
    try:
        return read(line, words)
    except ValueError as error:
        return _Row(line, reason=str(error))


def _no_layout(line: int, words: list[str]) -> _Row:
    raise ValueError(f"expected 't tx ty tz qx qy qz qw', found {len(words)} words")


def _kitti(line: int, words: list[str]) -> _Row:
    """Twelve numbers, the upper rows of world_from_camera."""
    try:
        upper = np.array(words, np.float64).reshape(3, 4)
    except ValueError:
        upper = np.full((3, 4), np.nan)
    if not (np.isfinite(upper).all() and np.allclose(upper[:, :3] @ upper[:, :3].T, np.eye(3), atol=0.05)):
        raise ValueError("expected 12 numbers, a 3 x 4 matrix by rows with a rotation on its left")
    return _Row(line, pose=np.vstack([upper, [0.0, 0.0, 0.0, 1.0]]))


def _named_columns(columns: Sequence[int], width: int) -> _Layout:
    """Of rows whose columns are those of t x y z qx qy qz qw."""

    def read(line: int, words: list[str]) -> _Row:
        if len(words) < width:
            raise ValueError(f"expected 't tx ty tz qx qy qz qw', found {len(words)} words")
        time, *seven = (words[column] for column in columns)
        numbers = np.array(seven, np.float64)
        pose = pose_from_quaternion(numbers[:3], numbers[3:])
        return _Row(line, stamp_in_any_unit(time), pose, float(np.linalg.norm(numbers[3:])))

    return read


_TUM = _named_columns(range(8), 8)
_EUROC = _named_columns((0, 1, 2, 3, 5, 6, 7, 4), 17)
"""The state of an EuRoC recording has its quaternion w first, then velocity and biases."""
_LAYOUTS: dict[int, _Layout] = {8: _TUM, 12: _kitti, 17: _EUROC}


def _table(path: Path) -> tuple[_Layout | None, list[tuple[int, list[str]]]]:
    """The layout that a header names, if one does, and line number and words of each row below."""
    header: _Layout | None = None
    table: list[tuple[int, list[str]]] = []
    for line, text in enumerate(read_lines(path), start=1):
        content = re.split(r"[#%]|//", text, maxsplit=1)[0]
        if content.strip():
            words = _words(content)
            if table or _is_number(words[0]):
                table.append((line, words))
                continue
        header = header or _layout_of_header(text)
    return header, table


def _words(text: str) -> list[str]:
    """Between blanks, semicolons or commas; a comma between digits may be a decimal one where others separate."""
    blanks = text.split()
    decimal = len(blanks) >= 8 and all(re.fullmatch(r"[^,]+(,\d[^,]*)?", word) for word in blanks)
    if ";" in text:
        words = [word.strip().replace(",", ".") for word in text.split(";")]
    elif "," in text and not decimal:
        words = [word.strip() for word in text.split(",")]
    else:
        words = [word.replace(",", ".") for word in blanks]
    while len(words) > 1 and not words[-1]:
        words.pop()
    return words


_TIME = re.compile(r"t|(.*[._])?(time|stamp|timestamp)(_?(s|sec|ms|us|ns|nsec))?")
_POSITION = re.compile(r"(?:.*[._])?(?:p|t|pos|position|trans|translation)?(?:_[a-z]+)*[._]?([xyz])")
_QUATERNION = re.compile(r"(?:.*[._])?(?:q|quat|quaternion|orientation|rot|rotation)(?:_[a-z]+)*[._]?([xyzw])")
_OTHER = re.compile(r"(?:.*[._])?(?:v|vel|velocity|a|acc|b|bias|w|omega|twist|linear|angular)[._a-z]*")


def _layout_of_header(text: str) -> _Layout | None:
    """From names such as `timestamp tx ty tz qx qy qz qw` or EuRoC's `p_RS_R_x [m]`; None where one is missing."""
    text = re.sub(r"\[.*?\]|\(.*?\)|[#%]", " ", text).lower()
    names = [name.strip() for name in text.split(",")] if "," in text else text.split()
    found: dict[str, int] = {}
    for column, name in enumerate(names):
        if match := _QUATERNION.fullmatch(name):
            found.setdefault(f"q{match[1]}", column)
        elif _TIME.fullmatch(name):
            if "t" not in found or ("stamp" in name and "stamp" not in names[found["t"]]):
                found["t"] = column
        elif (match := _POSITION.fullmatch(name)) and not _OTHER.fullmatch(name):
            found.setdefault(match[1], column)
    order = ("t", "x", "y", "z", "qx", "qy", "qz", "qw")
    if found.keys() != set(order):
        return None
    columns = [found[name] for name in order]
    return _named_columns(columns, max(columns) + 1)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _unit(times_s: NDArray[np.float64], images_s: NDArray[np.float64], offset_s: float) -> str:
    """Of `times_s` (N,), which are read as seconds. They are, unless that makes them too far apart or too late.

    Then stretches of time are compared, by what they share of what both cover: read as seconds, a file in ns lasts 1e9 times
    as long as its images.
    """
    latest = float(np.abs(times_s).max())
    step = float(np.median(np.abs(np.diff(times_s)))) if len(times_s) > 1 else 0.0
    if latest < _NO_SECONDS and step <= _MAX_STEP_S:
        return "s"

    def shared(unit: str) -> float:
        if len(images_s) == 0:
            return 0.0
        begin, end = np.array([times_s.min(), times_s.max()]) / _UNITS[unit] + offset_s + (-0.5, 0.5)
        first, last = float(images_s.min()), float(images_s.max())
        return float(max(0.0, min(end, last) - max(begin, first)) / max(1e-9, max(end, last) - min(begin, first)))

    best = max(_UNITS, key=shared)
    if latest < _NO_SECONDS:
        return best if shared(best) > 0.5 and shared("s") < 0.01 else "s"
    if shared(best) > 0.0:
        return best
    # another clock: since 1970, a stamp of today has so many digits
    return next((unit for unit in ("ms", "us") if latest / _UNITS[unit] < _NO_SECONDS), "ns")


def _overlap(a: Stamps, b: Stamps) -> bool:
    return bool(len(a) and len(b) and a.min() <= b.max() and b.min() <= a.max())


def _enclosing(stretches: Sequence[Stamps], stamps: Stamps) -> NDArray[np.int64]:
    """(n,) how many of the stretches each of `stamps` (n,) lies in."""
    inside = [(stamps >= stretch.min()) & (stamps <= stretch.max()) for stretch in stretches if len(stretch)]
    return np.sum(inside, axis=0, dtype=np.int64) if inside else np.zeros(len(stamps), np.int64)


def _covered(poses: Sequence[NDArray[np.float64]]) -> int:
    return sum(int(is_known(of_session).sum()) for of_session in poses)


def _seconds(ns: int) -> str:
    return f"{Decimal(int(ns)) / 10**9:f}"
