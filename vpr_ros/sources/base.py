"""What every source of frames shares: counting what cannot be read, and poses to evaluate against."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vpr_ros.errors import ImageError, SourceError
from vpr_ros.images import BitDepth
from vpr_ros.rotations import quaternion_to_matrix
from vpr_ros.types import Frame, Image, Pose

POSE_TOLERANCE_NS = 20_000_000
"""A frame's true pose was measured at most this long before or after it: the TUM benchmark's own tolerance."""


@dataclass(frozen=True, slots=True, eq=False)
class Trajectory:
    """Poses over time: `stamps` (N,) int64 ns, ascending; `poses` (N, 4, 4) float64, world_from_camera."""

    stamps: NDArray[np.int64]
    poses: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.stamps)

    def at(self, stamp_ns: int, tolerance_ns: int) -> Pose | None:
        """The (4, 4) pose nearest in time to `stamp_ns`, or None where none is within `tolerance_ns`."""
        found = self.associate(np.array([stamp_ns], np.int64), tolerance_ns)
        return found.poses[0] if len(found) else None

    def associate(self, stamps: NDArray[np.int64], tolerance_ns: int) -> Trajectory:
        """The poses nearest in time to `stamps` (M,) int64 ns: a trajectory over those stamps that have one near."""
        stamps = np.sort(stamps)
        if not len(self):
            return Trajectory(stamps[:0], self.poses)
        after = np.searchsorted(self.stamps, stamps).clip(max=len(self) - 1)
        before = (after - 1).clip(min=0)
        nearest = np.where(stamps - self.stamps[before] <= self.stamps[after] - stamps, before, after)
        near = np.abs(self.stamps[nearest] - stamps) <= tolerance_ns
        return Trajectory(stamps[near], self.poses[nearest[near]])


class Source(ABC):
    """A stream of `Frame` that can be iterated again and again.

    `name`: what a report calls it. `skipped`: images that could not be read in the last pass; they are left out, never
    fatal. `notes`: sentences that a report should repeat. `len()`: how many images are expected, for a progress bar; 0
    where unknown.
    """

    def __init__(self, name: str, *, reference: Trajectory | None = None, odometry_from_poses: bool = False) -> None:
        self.name = name
        self.skipped = 0
        self.notes: list[str] = []
        self._reference = reference
        self._tolerance_ns = POSE_TOLERANCE_NS
        self._odometry_from_poses = odometry_from_poses
        self._depth = BitDepth()
        """Of the images of the last pass."""
        if odometry_from_poses:
            self._note("odometry was taken from the ground-truth poses: results are not those of a robot")

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def image_at(self, stamp_ns: int) -> Image | None:
        """The (H, W, 3) uint8 RGB image of the frame of exactly that stamp; None if there is none or it is unreadable."""

    @abstractmethod
    def _read(self) -> Iterator[Frame | ImageError]:
        """Every image in order: its frame, or why it has none."""

    @abstractmethod
    def _stamps(self) -> NDArray[np.int64]:
        """(N,) int64 ns: the stamps of all images, readable or not."""

    def __iter__(self) -> Iterator[Frame]:
        self.skipped = 0
        self._depth = BitDepth()  # each pass gives the same images
        read, first_error = 0, None
        for item in self._read():
            if self._depth.remark:
                self._note(self._depth.remark)
            if isinstance(item, ImageError):
                self.skipped += 1
                first_error = first_error or item
                continue
            read += 1
            yield self._with_odometry(item) if self._odometry_from_poses else item
        if first_error:
            share = f"{self.skipped} of {read + self.skipped}" if read else f"all {self.skipped}"
            self._note(f"{share} images could not be read; the first: {first_error}")

    @cached_property
    def ground_truth(self) -> Trajectory | None:
        """The true camera poses of those frames that have one; stamps are the frames'. For evaluation only."""
        if self._reference is None:
            return None
        stamps = self._stamps()
        truth = self._reference.associate(stamps, self._tolerance_ns)
        if len(truth) < len(stamps):
            self._note(f"ground truth covers {len(truth)} of {len(stamps)} frames")
        return truth

    def _with_odometry(self, frame: Frame) -> Frame:
        pose = self._reference.at(frame.stamp_ns, self._tolerance_ns) if self._reference else None
        return replace(frame, odom_from_body=pose)

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def stamp_from_seconds(text: str) -> int:
    """Decimal seconds -> integer ns, exactly: a float has no room for the nanoseconds of today's epoch.

    Raises ValueError where `text` is not a number of seconds that fits in int64 ns.
    """
    try:
        stamp_ns = round(Decimal(text) * 10**9)
    except (ArithmeticError, ValueError):
        raise ValueError(f"{text!r} is not a time in seconds") from None
    if abs(stamp_ns) >= 2**63:
        raise ValueError(f"{text!r} s is out of range")
    return stamp_ns


def pose_from_quaternion(translation: NDArray[np.float64], quaternion: NDArray[np.float64]) -> Pose:
    """(4, 4) pose from a translation x y z in m and a quaternion x y z w of any length but zero.

    Raises ValueError where a number is not finite or the quaternion is zero.
    """
    if not np.isfinite(translation).all():
        raise ValueError(f"{translation.tolist()} is not a position")
    pose = np.eye(4)
    pose[:3, 3] = translation
    pose[:3, :3] = quaternion_to_matrix(quaternion)
    return pose


def trajectory_of(poses: dict[int, Pose]) -> Trajectory:
    """A trajectory from poses by stamp in ns, in any order."""
    stamps = sorted(poses)
    return Trajectory(np.array(stamps, np.int64), np.array([poses[stamp] for stamp in stamps]).reshape(-1, 4, 4))


def read_tum_trajectory(path: Path | str) -> Trajectory:
    """A trajectory in the TUM format, one `t tx ty tz qx qy qz qw` a line (s, m, unit quaternion), `#` for comments.

    Raises `SourceError` with file and line.
    """
    path, poses = Path(path), {}
    for line, words in read_rows(path):
        if len(words) != 8:
            raise SourceError(f"{path}:{line}: expected 't tx ty tz qx qy qz qw', found {len(words)} words")
        try:
            values = np.array(words[1:], np.float64)
            poses[stamp_from_seconds(words[0])] = pose_from_quaternion(values[:3], values[3:])
        except ValueError as error:
            raise SourceError(f"{path}:{line}: {error}") from None
    if not poses:
        raise SourceError(f"{path}: holds no poses; expected lines 't tx ty tz qx qy qz qw'")
    return trajectory_of(poses)


def read_rows(path: Path, columns: int = -1) -> Iterator[tuple[int, list[str]]]:
    """Line number and words of each line that is neither empty nor a `#` comment; `columns` limits the splitting.

    Raises `SourceError` where the file is missing or not text.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except FileNotFoundError:
        raise SourceError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path}: cannot be read as text: {error}") from None
    for number, text in enumerate(lines, start=1):
        if text.strip() and not text.lstrip().startswith("#"):
            yield number, text.split(maxsplit=columns - 1 if columns > 0 else -1)


def natural_order(path: Path) -> list[tuple[int, str]]:
    """Sort key under which `frame_9.png` comes before `frame_10.png`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", path.name)]
