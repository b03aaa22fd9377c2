"""Sizes in headers, against what OpenCV and Pillow write."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from vpr_ros import encoded_images
from vpr_ros.encoded_images import MAX_PIXELS, check_size
from vpr_ros.errors import ImageError
from vpr_ros.images import decode_grey


def written(suffix):
    return cv2.imencode(suffix, np.zeros((13, 29, 3), np.uint8))[1].tobytes()


def by_pillow(form, **options):
    file = io.BytesIO()
    Image.new("RGB", (29, 13)).save(file, form, **options)
    return file.getvalue()


FILES = {
    **{suffix: written(suffix) for suffix in (".png", ".jpg", ".bmp", ".tiff", ".webp", ".ppm")},
    "big-endian tiff": b"MM\0*" + struct.pack(">IHHHIHHHHIHHI", 8, 2, 256, 3, 1, 29, 0, 257, 4, 1, 0, 13, 0),
    "progressive jpeg": by_pillow("JPEG", progressive=True),
    "lossless webp": by_pillow("WEBP", lossless=True),
    "animated webp": by_pillow("WEBP", save_all=True, append_images=[Image.new("RGB", (29, 13), "red")]),
    "jpeg 2000": by_pillow("JPEG2000"),
    "gif": by_pillow("GIF"),
    "pgm with a comment": b"P5 # of 1 x 1\n29\n13 255\n" + bytes(29 * 13),
    "hdr": cv2.imencode(".hdr", np.ones((13, 29, 3), np.float32))[1].tobytes(),
}


@pytest.mark.parametrize("name", FILES)
def test_the_size_is_that_of_the_picture(name, monkeypatch):
    check_size(FILES[name], name)
    monkeypatch.setattr(encoded_images, "MAX_PIXELS", 29 * 13 - 1)
    with pytest.raises(ImageError, match="announces 29 x 13 px"):
        check_size(FILES[name], name)


@pytest.mark.parametrize("name", FILES)
def test_a_header_that_is_cut_anywhere_is_an_image_error_or_nothing(name):
    for end in range(min(len(FILES[name]), 300)):
        with contextlib.suppress(ImageError):
            check_size(FILES[name][:end], name)


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_a_bomb_is_refused_by_its_header():
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 30000, 30000, 8, 0, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", b"") + png_chunk(b"IEND", b"")
    with pytest.raises(ImageError, match=f"30000 x 30000 px; no more than {MAX_PIXELS // 10**6} megapixels"):
        check_size(bomb, "a.png")
    assert decode_grey(bomb) is None
