"""Does a calibration belong to an image? The intrinsics of that image, or why there are none.

THE judgement, for node, replay, doctor and every source that has a camera: a relative pose computed with intrinsics of
another image is wrong by degrees and looks as sure as a right one, so where anything is uncertain there is no camera.

The conventions are those of `sensor_msgs/CameraInfo` (REP 104): K and `roi` are in pixels of the full image, `binning` comes
after the cut, a rectified image has P and no distortion. The centre of the first pixel is at (0, 0), as in OpenCV.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from vpr_ros.types import Camera

MIN_FOCAL = 0.1
"""Focal length in image widths (heights): a shorter one would see 157 degrees on a plane."""
MAX_FOCAL = 100.0
"""A longer one would see half a degree."""
MAX_ASPECT = 1.8
"""Between fx and fy: 16:9 squeezed into a square is 1.78."""
MAX_SKEW = 0.01
"""Of fx; `Camera` has none."""
MIN_RECOVERED = 0.5
"""Share of the image from which OpenCV has to find the way back through the distortion. The corners of a fisheye image may see
beyond 90 degrees, where there is none on a plane."""

_PINHOLE_MODELS = ("", "plumb_bob", "rational_polynomial")
_PINHOLE_COEFFICIENTS = (0, 4, 5, 8, 12, 14)  # what OpenCV accepts
_FISHEYE_MODEL = "equidistant"
_RECTIFIED_WORDS = {"rect", "rectified"}
_TRANSPORT = "/compressed"

_STEADY_MESSAGES = 10
"""After so many equal messages, one that differs is a change, not an alternation."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a `sensor_msgs/CameraInfo` says, without its header: equal where two messages say the same.

    `width` and `height` in px are those of the image that was calibrated, None where the format does not give them. `k`
    and `p` are K (3 x 3) and P (3 x 4) by rows; `roi` is x, y, width, height in px of the full image, zero sizes meaning
    all of it. `name` is what a user knows it by.
    """

    width: int | None
    height: int | None
    k: tuple[float, ...] = (0.0,) * 9
    distortion: tuple[float, ...] = ()
    model: str = ""
    p: tuple[float, ...] = (0.0,) * 12
    binning: tuple[int, int] = (1, 1)
    roi: tuple[int, int, int, int] = (0, 0, 0, 0)
    name: str = "camera_info"

    @classmethod
    def of_info(cls, message: Any) -> Calibration:
        """From a `sensor_msgs/CameraInfo`, or anything with its attributes."""
        roi = message.roi
        return cls(
            int(message.width),
            int(message.height),
            _numbers(message.k),
            _numbers(message.d),
            str(message.distortion_model),
            _numbers(message.p),
            (max(1, int(message.binning_x)), max(1, int(message.binning_y))),
            (int(roi.x_offset), int(roi.y_offset), int(roi.width), int(roi.height)),
        )

    @classmethod
    def of_camera(cls, camera: Camera, name: str) -> Calibration:
        """From intrinsics that are known beforehand."""
        k = _numbers(camera.matrix.ravel())
        model = _FISHEYE_MODEL if camera.fisheye else _PINHOLE_MODELS[-1]
        return cls(camera.width, camera.height, k, camera.distortion, model, name=name)

    @property
    def announced_size(self) -> tuple[int, int]:
        """Width and height of the images that it is published for: `roi` cut, then binned."""
        _, _, width, height = self.roi
        return (width or self.width or 0) // self.binning[0], (height or self.height or 0) // self.binning[1]

    def __str__(self) -> str:
        return f"{_size(self.width or 0, self.height or 0)}, fx {self.k[0]:.6g}, {self.model or 'no distortion model'}"


@dataclass(frozen=True, slots=True)
class CameraForImage:
    """The judgement. `why`: why `camera` is None, or what was done to fit it; empty where it is as published."""

    camera: Camera | None
    why: str = ""

    def __str__(self) -> str:
        """One line for logs, notes and diagnostics; empty where there is nothing to know."""
        return f"closures come without a relative pose: {self.why}" if self.camera is None and self.why else self.why


class Calibrations:
    """The calibrations that come with one stream of images: the newest counts. `rectified`: of its images.

    Two that take turns are of two publishers; which of them belongs to an image then is unknown.
    """

    def __init__(self, *, rectified: bool = False) -> None:
        self._rectified = rectified
        self._current: Calibration | None = None
        self._before: Calibration | None = None
        self._steady = 0
        self._is_alternating = False

    def update(self, calibration: Calibration) -> str:
        """Take the next one. One line where it replaces another; empty else, and where the two alternate."""
        if calibration == self._current:
            self._steady += 1
            if self._steady == _STEADY_MESSAGES:
                self._is_alternating = False
            return ""
        self._is_alternating = calibration == self._before and self._steady < _STEADY_MESSAGES
        self._before, self._current, self._steady = self._current, calibration, 0
        if self._before is None or self._is_alternating:
            return ""
        return f"{calibration.name} changed from {self._before} to {calibration}: from now on it is used"

    def camera_for(self, width: int, height: int) -> CameraForImage:
        """The camera of an image of `width` x `height` px that comes now."""
        if self._current is None:
            return CameraForImage(None)
        if self._is_alternating:
            return CameraForImage(None, self._alternation)
        return camera_for_image(self._current, width, height, rectified=self._rectified)

    @property
    def _alternation(self) -> str:
        assert self._current is not None
        two = " and ".join(sorted((str(self._current), str(self._before))))
        return f"two {self._current.name}s alternate ({two}); give each camera a topic of its own"


def is_rectified(topic: str) -> bool:
    """Whether images of a topic are rectified, by the names that image_proc and drivers use.

    `image_rect`, `image_rect_color`, `left/image_rect/compressed`, `rgb/rect/image`.
    """
    words = topic.removesuffix(_TRANSPORT).lower().split("/")
    last = set(re.split(r"[^a-z0-9]+", words[-1]))
    return bool(last & _RECTIFIED_WORDS) or bool(set(words[-2:-1]) & _RECTIFIED_WORDS)


@lru_cache(maxsize=256)
def camera_for_image(calibration: Calibration, width: int, height: int, *, rectified: bool = False) -> CameraForImage:
    """The intrinsics of an image of `width` x `height` px, if `calibration` certainly belongs to it.

    Certain are: the size that the calibration announces (`roi` cut, then binned), and without a `roi` a whole-number factor
    of the calibrated size that is the same on both axes. A calibration without a size has to have its principal point
    near the middle of the image. A rectified image has P and no distortion.
    """
    try:
        full = _full_camera(calibration, width, height, rectified)
        camera, why = _fitted(calibration, full, width, height)
        _require_undistortable(calibration, camera)
    except _Misfit as misfit:
        return CameraForImage(None, f"{calibration.name} {misfit}")
    return CameraForImage(camera, why)


class _Misfit(Exception):
    """Why there is no camera: the rest of a sentence that begins with the calibration's name."""


def _full_camera(calibration: Calibration, width: int, height: int, rectified: bool) -> Camera:
    """The camera of the full image as calibrated, all its numbers plausible."""
    matrix, which, model, distortion = calibration.k, "K", calibration.model, calibration.distortion
    if not all(map(math.isfinite, distortion)):
        raise _Misfit("has a distortion (D) that is not finite: calibrate the camera again")
    if rectified:
        if any(calibration.p):
            matrix, which = calibration.p[0:3] + calibration.p[4:7] + calibration.p[8:11], "P"
        elif any(distortion) or model == _FISHEYE_MODEL:
            raise _Misfit("has no P, which rectified images are described by: use the raw images, or calibrate again")
        model, distortion = "", ()
    if not any(matrix):
        raise _Misfit(f"is not calibrated ({which} is zero): calibrate the camera")
    if (calibration.width, calibration.height) == (None, None):
        full = Camera(*_pinhole(matrix, which), width, height)
        _require_middle(full)
        _require_plausible(full)
    elif calibration.width and calibration.height:
        full = Camera(*_pinhole(matrix, which), calibration.width, calibration.height)
        _require_plausible(full)
    else:
        raise _Misfit("is for an image of 0 px: its width and height have to be set by the driver")
    _require_known_model(model, distortion)
    fisheye = model == _FISHEYE_MODEL
    return replace(full, distortion=distortion if fisheye or any(distortion) else (), fisheye=fisheye)


def _pinhole(matrix: tuple[float, ...], which: str) -> tuple[float, float, float, float]:
    """fx, fy, cx, cy of a matrix by rows."""
    if not all(map(math.isfinite, matrix)):
        raise _Misfit(f"has a {which} that is not finite: calibrate the camera again")
    fx, skew, cx, below, fy, cy, *last = matrix
    if below != 0 or last != [0, 0, 1]:
        raise _Misfit(f"has a {which} that is no camera matrix (fx 0 cx, 0 fy cy, 0 0 1): calibrate the camera again")
    if fx <= 0 or fy <= 0:
        raise _Misfit(f"has focal lengths of {fx:.6g} and {fy:.6g} px in {which}: calibrate the camera again")
    if abs(skew) > MAX_SKEW * fx:
        raise _Misfit(f"has a skew of {skew:.6g} px in {which}, which is not supported: calibrate without it")
    return fx, fy, cx, cy


def _require_plausible(full: Camera) -> None:
    size = _size(full.width, full.height)
    for axis, focal, length in (("x", full.fx, full.width), ("y", full.fy, full.height)):
        if not MIN_FOCAL <= focal / length <= MAX_FOCAL:
            raise _Misfit(f"has a focal length f{axis} of {focal:.6g} px for {size}: calibrate the camera again")
    if max(full.fx / full.fy, full.fy / full.fx) > MAX_ASPECT:
        raise _Misfit(f"has focal lengths that disagree ({full.fx:.6g} and {full.fy:.6g} px): calibrate again")
    if not (0 < full.cx < full.width - 1 and 0 < full.cy < full.height - 1):
        raise _Misfit(f"has its principal point {_centre(full)} outside an image of {size}: calibrate again")


def _require_middle(camera: Camera) -> None:
    """The only evidence of the size that was calibrated."""
    off_x, off_y = abs(camera.cx + 0.5 - camera.width / 2), abs(camera.cy + 0.5 - camera.height / 2)
    if off_x > camera.width / 4 or off_y > camera.height / 4:
        size = _size(camera.width, camera.height)
        raise _Misfit(
            f"has its principal point at {_centre(camera)}, far from the middle of images of {size}: it is for images of "
            "another size; scale it to these"
        )


def _require_known_model(model: str, coefficients: tuple[float, ...]) -> None:
    if model == _FISHEYE_MODEL:  # all zero is a lens too: equidistant, not pinhole
        if len(coefficients) != 4:
            raise _Misfit(f"has {len(coefficients)} coefficients of {model} in D, not 4: calibrate the camera again")
        return
    known = f"{', '.join(_PINHOLE_MODELS[1:])} or {_FISHEYE_MODEL}"
    if model not in _PINHOLE_MODELS or (not model and any(coefficients)):
        raise _Misfit(f"has the unknown distortion model {model!r}: calibrate as {known}, or use rectified images")
    if any(coefficients) and len(coefficients) not in _PINHOLE_COEFFICIENTS:
        raise _Misfit(f"has {len(coefficients)} coefficients of {model} in D, not 4, 5, 8, 12 or 14: calibrate again")


def _fitted(calibration: Calibration, full: Camera, width: int, height: int) -> tuple[Camera, str]:
    """The camera of the image, cut, binned and scaled out of the full one, and what was done that was not announced."""
    left, top, cut_width, cut_height = calibration.roi
    window = cut_width or full.width, cut_height or full.height
    if left + window[0] > full.width or top + window[1] > full.height:
        raise _Misfit(f"cuts an roi at ({left}, {top}) that lies outside its {_size(full.width, full.height)}")
    announced = replace(calibration, width=full.width, height=full.height).announced_size
    if 0 in announced:
        raise _Misfit(f"bins its image by {calibration.binning[0]} x {calibration.binning[1]}, which leaves nothing")
    if announced == (width, height):
        return _scaled(full, left, top, *calibration.binning, width, height), ""
    sizes = f"is for {_size(*announced)}, images are {_size(width, height)}"
    fix = f"publish the camera_info of {_size(width, height)} (calibrate at that size), or images of the other size"
    is_whole = window == (full.width, full.height)
    if is_whole and (factor := _whole_factor(full, width, height)):
        if factor == 1:
            done = f"its binning by {calibration.binning[0]} x {calibration.binning[1]} is not applied"
        else:
            done = f"scaled by {f'{1 / factor:g}' if factor < 1 else f'1/{factor:g}'}"
        why = f"{calibration.name} is for {_size(full.width, full.height)}, images are {_size(width, height)}: {done}"
        return _scaled(full, 0, 0, factor, factor, width, height), why
    if (height, width) == announced or (is_whole and _whole_factor(full, height, width)):
        raise _Misfit(f"{sizes}: they are turned; turn them back, or publish the camera_info of the turned images")
    raise _Misfit(f"{sizes}: {fix}")


def _whole_factor(full: Camera, width: int, height: int) -> float:
    """How often the image fits into the full one, or one over how often the full one fits into it; 0 where neither."""
    if full.width * height != full.height * width:
        return 0.0
    return full.width / width if full.width % width == 0 or width % full.width == 0 else 0.0


def _scaled(full: Camera, left: int, top: int, by_x: float, by_y: float, width: int, height: int) -> Camera:
    """Cut at `left`, `top` px, then `by_x` x `by_y` pixels become one. Pixel centres are at whole numbers."""
    return replace(
        full,
        fx=full.fx / by_x,
        fy=full.fy / by_y,
        cx=(full.cx - left + 0.5) / by_x - 0.5,
        cy=(full.cy - top + 0.5) / by_y - 0.5,
        width=width,
        height=height,
    )


def _require_undistortable(calibration: Calibration, camera: Camera) -> None:
    """From most of the image, undistorting as verification does and distorting again has to lead back."""
    if not camera.distortion:
        return
    u, v = np.meshgrid(np.linspace(0, camera.width - 1, 17), np.linspace(0, camera.height - 1, 13))
    pixels = np.stack([u.ravel(), v.ravel()], axis=1)[:, None]
    k, d = camera.matrix, np.array(camera.distortion)
    if camera.fisheye:
        rays = cv2.fisheye.undistortPoints(pixels, k, d)
        again = cv2.fisheye.distortPoints(rays, k, d)
    else:
        rays = cv2.undistortPoints(pixels, k, d)
        again, _ = cv2.projectPoints(cv2.convertPointsToHomogeneous(rays), np.zeros(3), np.zeros(3), k, d)
    with np.errstate(invalid="ignore"):
        recovered = np.abs(again - pixels).max(axis=(1, 2)) < camera.fx / 100
    if recovered.mean() < MIN_RECOVERED:
        lost = 1 - recovered.mean()
        raise _Misfit(f"has a distortion that cannot be undone in {lost:.0%} of the image: calibrate the camera again")


def _numbers(values: Iterable[Any]) -> tuple[float, ...]:
    # one and the same NaN: else two messages with a NaN would never be equal
    return tuple(math.nan if math.isnan(value) else value for value in map(float, values))


def _size(width: int, height: int) -> str:
    return f"{width} x {height} px"


def _centre(camera: Camera) -> str:
    return f"({camera.cx:.6g}, {camera.cy:.6g})"
