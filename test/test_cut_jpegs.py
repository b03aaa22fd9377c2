"""JPEGs with data missing before the marker that ends them are refused, and no whole one is."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from vpr_ros.errors import ImageError
from vpr_ros.images import decode_compressed

SAMPLINGS = {"444": 0x111111, "422": 0x211111, "420": 0x221111, "411": 0x411111}
"""As OpenCV names them since 4.5.5; an older one writes 420 whatever is wanted."""
SAMPLING_FACTOR = 7
SIZES = [(120, 160), (117, 163), (64, 33)]


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def jpeg(image: np.ndarray, *settings: int) -> bytes:
    return cv2.imencode(".jpg", image, settings)[1].tobytes()


def decode(data: bytes) -> np.ndarray:
    return decode_compressed(SimpleNamespace(format="jpeg", data=data))


def settings(quality: int, sampling: str, restart: int, is_progressive: bool) -> list[int]:
    return [
        cv2.IMWRITE_JPEG_QUALITY, quality, SAMPLING_FACTOR, SAMPLINGS[sampling],
        cv2.IMWRITE_JPEG_RST_INTERVAL, restart, cv2.IMWRITE_JPEG_PROGRESSIVE, int(is_progressive),
    ]  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("restart", [0, 3])
def test_baseline(size: tuple[int, int], sampling: str, restart: int) -> None:
    image = picture(*size)
    for quality in (10, 50, 90, 100):
        whole = jpeg(image, *settings(quality, sampling, restart, False))
        decode(whole)
        start = whole.find(b"\xff\xda") + 14
        for share in (0.2, 0.5, 0.8):  # of the data of blocks
            cut = whole[: start + int(share * (len(whole) - start))].rstrip(b"\xff") + b"\xff\xd9"
            if not restart:  # see ended_again
                with pytest.raises(ImageError, match="missing before the marker"):
                    decode(cut)


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("is_progressive", [False, True])
def test_whole_pictures_with_grey_corners_are_read(sampling: str, is_progressive: bool) -> None:
    """All of that grey, or where a picture ends: letters' boxes, test charts."""
    for size in SIZES:
        for grey in (slice(0), slice(0, None), slice(-20, None), slice(-3, None)):
            for quality in (10, 50, 90, 100):
                for restart in (0, 2):
                    image = picture(*size)
                    image[grey] = 128
                    data = jpeg(image, *settings(quality, sampling, restart, is_progressive))
                    assert decode(data).shape == image.shape
                    assert decode(data + bytes(100)).shape == image.shape  # the rest of a buffer


def test_grey_images_of_one_channel() -> None:
    whole = jpeg(picture(120, 160)[:, :, 0], cv2.IMWRITE_JPEG_QUALITY, 90)
    decode(whole)
    with pytest.raises(ImageError, match="missing before the marker"):
        decode(whole[: len(whole) // 2].rstrip(b"\xff") + b"\xff\xd9")
