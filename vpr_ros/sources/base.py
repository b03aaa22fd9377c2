"""What every source of frames shares: counting what cannot be read, and poses to evaluate against."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vpr_ros.errors import ImageError, SourceError
from vpr_ros.images import BitDepth
from vpr_ros.printable import printable
from vpr_ros.sources.truth import ClockedTruth, Stamps, Truth, runs_of_clock
from vpr_ros.trajectory import MAX_GAP_S, Trajectory, is_known
from vpr_ros.types import Frame, Image, Pose

TRUE_ODOMETRY = "truth/camera"
"""Frames of odometry that was taken from true poses."""


class Source(ABC):
    """A stream of `Frame` that can be iterated again and again.

    `name`: what a report calls it. `skipped`: images that could not be read in the last pass; they are left out, never
    fatal. `notes`: sentences that a report should repeat. `len()`: how many images are expected, for a progress bar; 0
    where unknown.

    `truth` are the camera's true poses, for evaluation only; `ground_truth_offset_s` is added to their stamps.
    """

    def __init__(
        self,
        name: str,
        *,
        truth: Truth | None = None,
        ground_truth_offset_s: float = 0.0,
        odometry_from_poses: bool = False,
    ) -> None:
        if ground_truth_offset_s and truth is None:
            raise SourceError(f"{name}: there is no ground truth that an offset could be added to")
        self.name = printable(name)
        self.skipped = 0
        self.notes: list[str] = []
        self._truth = truth
        self._truth_offset_s = ground_truth_offset_s
        self._odometry_from_poses = odometry_from_poses
        self._depth = BitDepth()
        """Of the images of the last pass."""
        self._given: list[int] = []
        for note in truth.notes if truth else ():
            self._note(note)
        if odometry_from_poses:
            self._note("odometry was taken from the ground-truth poses: results are not those of a robot")

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def _read(self) -> Iterator[Frame | ImageError]:
        """Every image in order: its frame, or why it has none."""

    @abstractmethod
    def _stamps(self) -> Stamps:
        """(N,) int64 ns: the stamps of all images, readable or not, in the order of `_read`."""

    @abstractmethod
    def _image(self, index: int) -> Image | None:
        """The (H, W, 3) uint8 RGB image that `_read` gives at `index`; None if it is unreadable."""

    def __iter__(self) -> Iterator[Frame]:
        self.skipped = 0
        self._depth = BitDepth()  # each pass gives the same images
        self._given = []
        first_error = None
        if self._truth is not None:
            _ = self._clocked_truth  # what is wrong with it is better known before a long pass
        odometry = self._true_poses if self._odometry_from_poses and self._truth is not None else None
        for index, item in enumerate(self._read()):
            if self._depth.remark:
                self._note(self._depth.remark)
            if isinstance(item, ImageError):
                self.skipped += 1
                first_error = first_error or item
                continue
            self._given.append(index)
            yield item if odometry is None else _with_odometry(item, odometry.get(index))
        if first_error:
            read = len(self._given)
            share = f"{self.skipped} of {read + self.skipped}" if read else f"all {self.skipped}"
            self._note(f"{share} images could not be read; the first: {first_error}")

    def image_at(self, stamp_ns: int) -> Image | None:
        """The (H, W, 3) uint8 RGB image of exactly that stamp, the first where the clock restarts.

        None if there is none or it is unreadable.
        """
        found = np.flatnonzero(self._stamps() == stamp_ns)
        return self._image(int(found[0])) if len(found) else None

    def image_of(self, number: int) -> Image | None:
        """The image of the `number`-th frame that the last pass gave, from 0: a stamp may be that of several."""
        return self._image(self._given[number])

    @property
    def has_truth(self) -> bool:
        return self._truth is not None

    @cached_property
    def ground_truth(self) -> Trajectory | None:
        """The true camera poses of those frames that have one; stamps are the frames'. For evaluation only.

        Frames of several drives may have one stamp: `true_poses` tells them apart.
        """
        if self._truth is None:
            return None
        stamps, poses = self._stamps(), self._true_poses
        index = np.array(sorted(poses), np.intp)
        return Trajectory.sorted(stamps[index], np.array([poses[i] for i in index]).reshape(-1, 4, 4))

    def true_poses(self, sessions: Sequence[Stamps], max_gap_s: float = MAX_GAP_S) -> list[NDArray[np.float64]]:
        """The true poses (n, 4, 4) of the frames of each session, whose stamps (n,) are ns; NaN where one has none.

        Sessions are the drives in which the frames were taken, in order; stamps may repeat in each. Raises SourceError
        for a source without truth.
        """
        if self._truth is None:
            raise SourceError(f"{self.name} has no true poses")
        poses = self._clocked_truth.poses_of(sessions, max_gap_s)
        covered, count = sum(int(is_known(each).sum()) for each in poses), sum(map(len, sessions))
        if covered < count:
            self._note(f"ground truth covers {covered} of {count} frames")
            if reason := self._clocked_truth.reason(sessions, max_gap_s):
                self._note(reason)
        return poses

    @cached_property
    def _clocked_truth(self) -> ClockedTruth:
        assert self._truth is not None
        truth = self._truth.on_clock_of(self._stamps(), self._truth_offset_s)
        for note in truth.notes:
            self._note(note)
        return truth

    @cached_property
    def _true_poses(self) -> dict[int, Pose]:
        """By index of the image."""
        stamps = self._stamps()
        runs = runs_of_clock(stamps)
        of_runs = self.true_poses([stamps[run] for run in runs])
        return {
            int(run[i]): poses[i]
            for run, poses in zip(runs, of_runs, strict=True)
            for i in np.flatnonzero(is_known(poses))
        }

    def _note(self, text: str) -> None:
        text = printable(text)
        if text not in self.notes:
            self.notes.append(text)


def _with_odometry(frame: Frame, world_from_camera: Pose | None) -> Frame:
    """Of a body that is the camera itself."""
    return replace(frame, odom_from_body=world_from_camera, odometry_frame=TRUE_ODOMETRY)
