"""Frames from a video file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vpr_ros.errors import ImageError, SourceError
from vpr_ros.sources.base import Source
from vpr_ros.sources.truth import read_truth
from vpr_ros.types import Frame, Image

VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg"})


class VideoSource(Source):
    """The frames of a video, stamped with their time since its start; stamps always increase.

    `ground_truth_file`: poses on that same clock, or a row for each image (see `sources/truth.py`). Raises `SourceError`
    where the video does not open.
    """

    def __init__(
        self,
        path: Path | str,
        ground_truth_file: Path | str = "",
        *,
        ground_truth_offset_s: float = 0.0,
        odometry_from_poses: bool = False,
    ) -> None:
        self._path = Path(path)
        super().__init__(
            self._path.name,
            truth=read_truth(ground_truth_file) if ground_truth_file else None,
            ground_truth_offset_s=ground_truth_offset_s,
            odometry_from_poses=odometry_from_poses,
        )
        with self._open() as video:
            # A container's count is a hint: it can be absent (negative) or wrong.
            self._announced = max(0, int(video.get(cv2.CAP_PROP_FRAME_COUNT)))
            self._period_ns = _period_ns(video)

    def __len__(self) -> int:
        return self._announced

    def _image(self, index: int) -> Image | None:
        with self._open() as video:
            video.set(cv2.CAP_PROP_POS_FRAMES, index)
            if video.grab() and _position_ns(video) == self._all_stamps[index]:
                return _retrieve(video)
        # Seeking lands on the wrong frame in some codecs: then decode from the start.
        with self._open() as video:
            for _ in range(index + 1):
                video.grab()
            return _retrieve(video)

    def _read(self) -> Iterator[Frame | ImageError]:
        count, stamp_ns = 0, 0
        with self._open() as video:
            for stamp_ns in _grabbed(video):
                count += 1
                image = _retrieve(video)
                if image is None:
                    yield ImageError(f"{self._path}: frame {count - 1} does not decode")
                else:
                    yield Frame(stamp_ns, image)
        # Where a container has no count, it is made from the duration, which frames of variable rate fill with fewer.
        is_at_the_end = stamp_ns + 2 * self._period_ns >= self._announced * self._period_ns
        if count < self._announced and not is_at_the_end:
            self._note(f"the video gave {count} of the {self._announced} frames that its header announces")

    def _stamps(self) -> NDArray[np.int64]:
        return self._all_stamps

    @cached_property
    def _all_stamps(self) -> NDArray[np.int64]:
        with self._open() as video:
            return np.fromiter(_grabbed(video), np.int64)

    @contextmanager
    def _open(self) -> Iterator[cv2.VideoCapture]:
        if not self._path.is_file():
            raise SourceError(f"{self._path}: no such file")
        video = cv2.VideoCapture(str(self._path))
        try:
            if not video.isOpened():
                raise SourceError(
                    f"{self._path}: OpenCV cannot open this video; convert it: ffmpeg -i {self._path.name} out.mp4"
                )
            yield video
        finally:
            video.release()


def _grabbed(video: cv2.VideoCapture) -> Iterator[int]:
    """The stamp in ns of each frame, once it can be retrieved."""
    period_ns = _period_ns(video)
    last_ns = -1
    while video.grab():
        stamp_ns = _position_ns(video)
        # Some containers have no times, or times that stand still: the frame rate stands in.
        last_ns = stamp_ns if stamp_ns > last_ns else last_ns + period_ns
        yield last_ns


def _period_ns(video: cv2.VideoCapture) -> int:
    """Between two frames, by the rate that the container has."""
    fps = video.get(cv2.CAP_PROP_FPS)
    return round(1e9 / fps) if 0 < fps < 1e6 else 33_333_333


def _position_ns(video: cv2.VideoCapture) -> int:
    return round(video.get(cv2.CAP_PROP_POS_MSEC) * 1e6)


def _retrieve(video: cv2.VideoCapture) -> Image | None:
    found, image = video.retrieve()
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if found else None
