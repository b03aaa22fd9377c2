"""Frames from folders of image files: KITTI odometry, TUM RGB-D, and plain folders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vpr_ros.calibration import Calibration, camera_for_image
from vpr_ros.errors import ImageError, Keyword, SourceError
from vpr_ros.files import numeric_order
from vpr_ros.images import read_image
from vpr_ros.sources.base import Source
from vpr_ros.sources.text import read_matrix, read_rows, stamp_from_seconds
from vpr_ros.sources.truth import Truth, read_truth
from vpr_ros.types import Camera, Frame, Image, Pose

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"})

_KITTI_CAMERAS = ("image_0", "image_1", "image_2", "image_3")

TUM_CAMERAS = {
    1: Camera(517.3, 516.5, 318.6, 255.3, 640, 480, (0.2624, -0.9531, -0.0054, 0.0026, 1.1633)),
    2: Camera(520.9, 521.0, 325.1, 249.7, 640, 480, (0.2312, -0.7849, -0.0033, -0.0001, 0.9172)),
    3: Camera(535.4, 539.2, 320.1, 247.6, 640, 480),
}
"""Of freiburg1 to 3, as the TUM RGB-D benchmark publishes them for its own images; those of freiburg3 are rectified."""


class _ImageFiles(Source):
    """Frames whose images are files, each with a stamp known beforehand."""

    _calibration: Calibration | None = None

    def __init__(
        self,
        name: str,
        paths: Sequence[Path],
        stamps: Sequence[int],
        truth: Truth | None,
        ground_truth_offset_s: float,
        odometry_from_poses: bool,
    ) -> None:
        super().__init__(
            name, truth=truth, ground_truth_offset_s=ground_truth_offset_s, odometry_from_poses=odometry_from_poses
        )
        self._order = tuple(zip(stamps, paths, strict=True))
        if any(later <= earlier for earlier, later in pairwise(stamps)):
            self._note("stamps do not always increase from image to image")

    def __len__(self) -> int:
        return len(self._order)

    def _image(self, index: int) -> Image | None:
        try:
            return read_image(self._order[index][1], self._depth)
        except ImageError:
            return None

    def _read(self) -> Iterator[Frame | ImageError]:
        for stamp_ns, path in self._order:
            try:
                image = read_image(path, self._depth)
            except ImageError as error:
                yield error
            else:
                yield Frame(stamp_ns, image, self._camera_for(width=image.shape[1], height=image.shape[0]))

    def _stamps(self) -> NDArray[np.int64]:
        return np.array([stamp_ns for stamp_ns, _ in self._order], np.int64)

    def _camera_for(self, width: int, height: int) -> Camera | None:
        """Intrinsics for an image of that size, where they are known and belong to it."""
        if self._calibration is None:
            return None
        judged = camera_for_image(self._calibration, width, height)
        if judged.why:
            self._note(str(judged))
        return judged.camera


class KittiSource(_ImageFiles):
    """A sequence of the KITTI odometry benchmark.

    `root/sequences/SS/{times.txt, calib.txt, image_N/%06d.png or .jpg}` and, for ground truth, `root/poses/SS.txt`, whose
    row n is of camera 0 and image n; `ground_truth_file` replaces it, and is of the camera that is read if it has times.
    Raises `SourceError` with file and line where the layout is not that.
    """

    def __init__(
        self,
        root: Path | str,
        sequence: str = "00",
        camera: str = "image_0",
        ground_truth_file: Path | str = "",
        *,
        ground_truth_offset_s: float = 0.0,
        odometry_from_poses: bool = False,
    ) -> None:
        root = Path(root)
        folder = root / "sequences" / sequence
        paths = kitti_images(folder, camera)
        times = folder / "times.txt"
        stamps = _kitti_stamps(times)
        numbers = [int(path.stem) for path in paths]
        if numbers[-1] >= len(stamps):
            raise SourceError(f"{times}: has {len(stamps)} lines, but there is an image {paths[-1].name}")
        self._calibration, camera0_from_camera = _kitti_calibration(folder / "calib.txt", camera)
        truth = None
        if ground_truth_file or (poses := root / "poses" / f"{sequence}.txt").exists():
            truth = _of_numbers(read_truth(ground_truth_file or poses), numbers, camera0_from_camera)
        super().__init__(
            f"KITTI {sequence} {camera}",
            paths,
            [stamps[n] for n in numbers],
            truth,
            ground_truth_offset_s,
            odometry_from_poses,
        )
        if self._calibration is None:
            self._note(f"{folder / 'calib.txt'} is missing: the camera's intrinsics are unknown")


class TumSource(_ImageFiles):
    """A recording of the TUM RGB-D benchmark: `root/rgb.txt` ("timestamp path" a line), optional `groundtruth.txt`, which
    `ground_truth_file` replaces.

    Intrinsics are the benchmark's where the folder's name tells the camera (`freiburg1`, `fr1`, ...).
    Raises `SourceError` with file and line where the layout is not that.
    """

    def __init__(
        self,
        root: Path | str,
        ground_truth_file: Path | str = "",
        *,
        ground_truth_offset_s: float = 0.0,
        odometry_from_poses: bool = False,
    ) -> None:
        root = Path(root)
        stamps, paths = zip(*tum_images(root / "rgb.txt"), strict=True)
        poses = Path(ground_truth_file or root / "groundtruth.txt")
        truth = read_truth(poses) if ground_truth_file or poses.exists() else None
        super().__init__(root.resolve().name, paths, stamps, truth, ground_truth_offset_s, odometry_from_poses)
        for number, camera in TUM_CAMERAS.items():
            if f"freiburg{number}" in self.name or f"fr{number}" in self.name:
                self._calibration = Calibration.of_camera(camera, f"the benchmark's freiburg{number}")


class FolderSource(_ImageFiles):
    """The images of one folder in natural order (`9.png` before `10.png`), frame i at i / `rate_hz` seconds.

    `ground_truth_file`: poses on that same clock, or a row for each image (see `sources/truth.py`).
    Raises `SourceError` where there are no images or `rate_hz` is not positive.
    """

    def __init__(
        self,
        root: Path | str,
        rate_hz: float = 10.0,
        ground_truth_file: Path | str = "",
        *,
        ground_truth_offset_s: float = 0.0,
        odometry_from_poses: bool = False,
    ) -> None:
        root = Path(root)
        if not 0 < rate_hz <= 1e9:
            raise SourceError(f"{root}: ", Keyword("rate_hz"), f" must be positive, not {rate_hz}")
        paths = image_files(root)
        if not paths:
            raise SourceError(f"{root}: holds no images ({' '.join(sorted(IMAGE_SUFFIXES))})")
        stamps = [round(i * 1_000_000_000 / rate_hz) for i in range(len(paths))]
        truth = read_truth(ground_truth_file) if ground_truth_file else None
        super().__init__(root.resolve().name, paths, stamps, truth, ground_truth_offset_s, odometry_from_poses)


def is_image_name(path: Path) -> bool:
    """Hidden files (`._a.jpg`, with which macOS goes along) are no images."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def image_files(folder: Path) -> list[Path]:
    """The image files right in `folder`, in the order of their numbers. Raises `SourceError` where it is not a readable folder."""
    try:
        return numeric_order(path for path in folder.iterdir() if is_image_name(path))
    except OSError as error:
        raise SourceError(f"{folder}: {error.strerror}") from None


def tum_images(listing: Path) -> list[tuple[int, Path]]:
    """Stamp in ns and file of each line "timestamp path" of TUM's `rgb.txt` or `depth.txt`, in the order of the lines.

    Raises `SourceError` with file and line where a line is something else, or there is none.
    """
    images = []
    for line, words in read_rows(listing, columns=2):
        try:
            images.append((stamp_from_seconds(words[0]), listing.parent / words[1].strip()))
        except (ValueError, IndexError):
            raise SourceError(f"{listing}:{line}: expected 'timestamp path'") from None
    if not images:
        raise SourceError(f"{listing}: lists no images")
    return images


def kitti_images(folder: Path, camera: str) -> list[Path]:
    """The images of `camera` ("image_0" to "image_3") in the folder of a KITTI sequence, by number.

    Raises `SourceError` where there is no such camera or image.
    """
    if camera not in _KITTI_CAMERAS:
        raise SourceError(Keyword("camera"), f" must be one of {', '.join(_KITTI_CAMERAS)}, not {camera!r}")
    if not (folder / camera).is_dir():
        present = [name for name in _KITTI_CAMERAS if (folder / name).is_dir()]
        raise SourceError(f"{folder / camera}: no such folder; cameras there: {', '.join(present) or 'none'}")
    paths = [path for path in image_files(folder / camera) if path.stem.isdecimal() and path.stem.isascii()]
    if not paths:
        raise SourceError(f"{folder / camera}: holds no images named like 000000.png")
    return paths


def _kitti_stamps(path: Path) -> list[int]:
    stamps = []
    for line, words in read_rows(path):
        try:
            (seconds,) = words
            stamps.append(stamp_from_seconds(seconds))
        except ValueError:
            raise SourceError(f"{path}:{line}: expected one time in seconds, found {' '.join(words)!r}") from None
    return stamps


def _kitti_calibration(path: Path, camera: str) -> tuple[Calibration | None, Pose]:
    """Of a camera, and camera0_from_camera, from its line `PN:` of 3 x 4 projection numbers. The size is not in the file."""
    if not path.exists():
        return None, np.eye(4)
    key = f"P{camera[-1]}:"
    for line, words in read_rows(path):
        if words[0] == key:
            projection = read_matrix(words[1:], (3, 4), path, line)
            k = projection[:, :3]
            if not (k[0, 0] > 0 and k[1, 1] > 0):
                raise SourceError(f"{path}:{line}: focal lengths must be positive")
            # P = K [I | t] takes points of camera 0 to pixels of this one.
            camera0_from_camera = np.eye(4)
            camera0_from_camera[:3, 3] = -np.linalg.solve(k, projection[:, 3])
            calibration = Calibration(None, None, k=tuple(k.ravel().tolist()), name=f"{path.name}, {key}")
            return calibration, camera0_from_camera
    raise SourceError(f"{path}: has no line {key!r} for {camera}")


def _of_numbers(truth: Truth, numbers: Sequence[int], camera0_from_camera: Pose) -> Truth:
    """Of rows without a time, those of the images with these numbers, and of their camera; NaN where there are fewer."""
    if truth.times is not None:
        return truth
    poses = np.full((max(*numbers, len(truth.poses)) + 1, 4, 4), np.nan)
    poses[: len(truth.poses)] = truth.poses @ camera0_from_camera
    return replace(truth, poses=poses[np.array(numbers)])
