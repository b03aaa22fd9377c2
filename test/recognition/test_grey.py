"""Dark, foggy and dull pictures are stretched, others not touched; and of nothing, nothing is made."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from small_worlds import texture

from vpr_ros.config import VerificationConfig
from vpr_ros.recognition.grey import MAX_GAIN, MIN_RANGE, shrunk_grey, stretched
from vpr_ros.recognition.verification import GeometricVerifier
from vpr_ros.types import Image, Thumbnail, Verification

VERIFIER = GeometricVerifier(VerificationConfig())
NEEDED = VerificationConfig()


def span(grey: NDArray[np.uint8]) -> int:
    low, high = np.percentile(grey, [1, 99], method="inverted_cdf")
    return int(high) - int(low)


def grey_of(seed: int, contrast: float, brightness: float) -> NDArray[np.uint8]:
    grey = cv2.cvtColor(texture(seed, 120, 80), cv2.COLOR_RGB2GRAY).astype(np.float64)
    return np.clip(np.rint((grey - 128) * contrast + brightness), 0, 255).astype(np.uint8)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 20), st.floats(0.0, 1.5), st.floats(0.0, 255.0))
def test_stretching_is_bounded_monotone_and_done_once(seed: int, contrast: float, brightness: float) -> None:
    grey = grey_of(seed, contrast, brightness)
    once = stretched(grey)
    assert min(MIN_RANGE, MAX_GAIN * span(grey)) - 2 <= span(once) <= max(span(grey), MIN_RANGE) + 2
    order = np.argsort(grey.ravel(), kind="stable")
    assert np.all(np.diff(once.ravel()[order].astype(int)) >= 0)
    steps = np.diff(once.ravel()[order].astype(int)) - MAX_GAIN * np.diff(grey.ravel()[order].astype(int))
    assert steps.max() <= 1
    assert np.abs(stretched(once).astype(int) - once).max() <= 1 or span(once) < MIN_RANGE - 2


def test_a_picture_of_full_contrast_is_not_touched() -> None:
    grey = cv2.cvtColor(texture(1, 320, 240), cv2.COLOR_RGB2GRAY)
    grey[:20], grey[-20:] = 0, 255
    assert span(grey) >= MIN_RANGE
    assert stretched(grey) is grey


def test_what_a_mask_ignores_has_no_say() -> None:
    foggy = np.clip(cv2.cvtColor(texture(1, 320, 240), cv2.COLOR_RGB2GRAY) * 0.1 + 160, 0, 255).astype(np.uint8)
    bumper = foggy.copy()
    bumper[180:] = cv2.cvtColor(texture(2, 320, 60), cv2.COLOR_RGB2GRAY)
    mask = np.ones((24, 32), np.float32)
    mask[18:] = 0
    assert span(stretched(bumper)[:180]) < 60
    np.testing.assert_array_equal(stretched(bumper, mask)[:180], stretched(foggy[:180]))
    assert stretched(bumper, mask * 0).shape == bumper.shape


@pytest.mark.parametrize("level", [0, 7, 128, 255])
def test_a_constant_picture_stays_constant(level: int) -> None:
    grey = np.full((48, 64), level, np.uint8)
    assert np.all(stretched(grey) == stretched(grey)[0, 0])


def test_the_picture_is_shrunk_to_the_width() -> None:
    grey, scale = shrunk_grey(texture(1, 640, 480), 400)
    assert (grey.shape, scale) == ((300, 400), 0.625)
    grey, scale = shrunk_grey(texture(1, 320, 240), 400)
    assert (grey.shape, scale) == ((240, 320), 1.0)


def degraded(image: Image, how: str) -> Image:
    gain, offset = {"full": (1.0, 0), "dark": (1 / 20, 0), "fog": (0.08, 170), "dull": (0.12, 110)}[how]
    return np.clip(image * gain + offset, 0, 255).astype(np.uint8)


def verified(query: Image, match: Image | Thumbnail) -> Verification:
    return VERIFIER.verify(VERIFIER.extract(query), None, VERIFIER.extract(match), None)


def is_place(found: Verification) -> bool:
    return found.inliers >= NEEDED.min_inliers and found.inlier_ratio >= NEEDED.min_inlier_ratio


@pytest.mark.parametrize("then", ["full", "dark", "fog", "dull"])
@pytest.mark.parametrize("now", ["full", "dark", "fog", "dull"])
def test_a_place_is_verified_through_dark_and_fog(then: str, now: str) -> None:
    wide, other = texture(3, 720, 480), texture(4, 640, 480)
    kept = VERIFIER.thumbnail(degraded(np.ascontiguousarray(wide[:, :640]), then))
    assert is_place(verified(degraded(np.ascontiguousarray(wide[:, 60:700]), now), kept))
    assert not is_place(verified(degraded(other, now), kept))


def test_a_thumbnail_of_an_older_map_that_is_not_stretched_is_verified() -> None:
    wide = texture(3, 720, 480)
    dull = cv2.cvtColor(degraded(np.ascontiguousarray(wide[:, :640]), "dull"), cv2.COLOR_RGB2GRAY)
    small = cv2.resize(dull, (400, 300), interpolation=cv2.INTER_AREA)
    old = Thumbnail(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes(), 400 / 640)
    assert is_place(verified(degraded(np.ascontiguousarray(wide[:, 60:700]), "dull"), old))


def covered(kind: str, seed: int) -> NDArray[np.uint8]:
    """A covered lens: nothing to see but what sensor and compression make of it. Smooth light is the same each time."""
    height, width = 300, 400
    rows, columns = np.mgrid[:height, :width]
    vignette = 30 * (1 - ((columns - 200) / 260) ** 2 - ((rows - 150) / 260) ** 2) + 20
    noise = np.random.default_rng(seed).normal(0, 1, (height, width))
    fixed = np.random.default_rng(0).normal(0, 1, (height, width))
    hot = np.zeros(height * width)
    hot[np.random.default_rng(0).choice(hot.size, 80, replace=False)] = 40
    values = {
        "black": np.zeros((height, width)),
        "white": np.full((height, width), 255.0),
        "faint noise": 6 + 0.4 * noise,
        "noise": 20 + 2 * noise,
        "strong noise": 60 + 10 * noise,
        "fixed pattern": 12 + fixed + noise,
        "hot pixels": 4 + hot.reshape(height, width) + noise,
        "ramp": columns / 20 + 10,
        "smooth": vignette,
        "smooth, noise": vignette + noise,
    }[kind.partition(", jpeg")[0]]
    grey = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    if ", jpeg" in kind:
        quality = int(kind.rpartition(" ")[2])
        grey = cv2.imdecode(cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_GRAYSCALE)
    return grey


KINDS = ["black", "white", "faint noise", "noise", "strong noise", "fixed pattern", "hot pixels", "ramp", "smooth"]
JPEG = [f"{kind}, jpeg {quality}" for kind in ("ramp", "smooth", "smooth, noise", "noise") for quality in (30, 60, 90)]


@pytest.mark.parametrize("kind", KINDS + JPEG)
def test_a_picture_of_nothing_is_no_place(kind: str) -> None:
    first, second = (cv2.cvtColor(covered(kind, seed), cv2.COLOR_GRAY2RGB) for seed in (1, 2))
    assert not is_place(verified(second, VERIFIER.thumbnail(first)))
