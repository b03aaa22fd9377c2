"""What can be known of an encoded image before it is decoded: how large it will be, and whether a JPEG is all there."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

from vpr_ros.errors import ImageError

MAX_PIXELS = 1 << 27
"""134 megapixels, more than any camera has. A PNG of 1 MB can announce a thousand, and takes half a minute and 5 GB."""

_SOI, _SOS, _EOI = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"
_PAD_BYTES = 64


def check_size(data: bytes, what: str) -> None:
    """Raises ImageError where an image announces more than `MAX_PIXELS`, or is in no format whose header is known."""
    try:
        size = _announced_size(data)
    except (struct.error, IndexError, ValueError):
        size = None
    if size is None:
        raise ImageError(f"{what}: {len(data)} bytes do not decode as an image; is it jpeg or png, and whole?")
    width, height = size
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{what}: announces {width} x {height} px; no more than {MAX_PIXELS // 10**6} megapixels are read"
        )


def is_cut_jpeg(data: bytes) -> bool:
    """Whether it is a JPEG without the marker that ends it: lost by a camera, or with part of the picture."""
    return data.startswith(_SOI) and not data.endswith(_EOI) and data.rfind(_EOI) < data.rfind(_SOS)


def ended_jpegs(data: bytes) -> tuple[bytes, bytes]:
    """A JPEG that was cut, ended in two ways: they decode alike if, and only if, all of the picture is there.

    A decoder does not look at what follows the last block; where blocks are missing it takes the padding for one.
    """
    return _padded(data.rstrip(b"\0"))  # without the rest of a camera's buffer


def ended_again(data: bytes) -> tuple[bytes, bytes]:
    """As `ended_jpegs`, of a JPEG that has its marker; both empty where it is none. Its data may end in zeros of their own.

    Where a restart marker is missing, too, what is padded may not be looked at, and both decode alike.
    """
    body = data[: max(0, data.rfind(_EOI))] if data.startswith(_SOI) else b""
    return _padded(body) if body else (b"", b"")


def _padded(whole: bytes) -> tuple[bytes, bytes]:
    if whole.endswith(b"\xff"):
        whole += b"\0"  # a 255 among the data is always followed by it
    first, second = (whole + pad * _PAD_BYTES + _EOI for pad in (b"\0", b"\xaa"))
    return first, second


def _announced_size(data: bytes) -> tuple[int, int] | None:
    """Width and height, by the format's header; None where it is none of a format that is read."""
    for magic, read in _READERS:
        if data.startswith(magic):
            return read(data)
    if data[4:8] == b"ftyp":
        return _after(data, b"ispe", 8, ">II")  # AVIF: version and flags, then the size
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp(data)
    return None


def _after(data: bytes, name: bytes, skip: int, form: str) -> tuple[int, int] | None:
    at = data.find(name, 0, 1 << 16)
    if at < 0:
        return None
    width, height = struct.unpack_from(form, data, at + skip)
    return width, height


def _png(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _jpeg(data: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:  # what does not belong there is skipped
            at += 1
            continue
        kind = data[at + 1]
        if kind in (0xFF, 0x00, 0x01) or 0xD0 <= kind <= 0xD8:
            at += 1 if kind == 0xFF else 2
            continue
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        if kind in (0xD9, 0xDA):
            return None
        at += 2 + int(struct.unpack_from(">H", data, at + 2)[0])
    return None


def _bmp(data: bytes) -> tuple[int, int]:
    if struct.unpack_from("<I", data, 14)[0] == 12:  # OS/2's
        width, height = struct.unpack_from("<HH", data, 18)
    else:
        width, height = struct.unpack_from("<ii", data, 18)
    return abs(width), abs(height)


def _pnm(data: bytes) -> tuple[int, int] | None:
    words = []
    for line in data[2:4096].split(b"\n"):
        words += line.split(b"#")[0].split()
        if len(words) >= 2:
            return int(words[0]), int(words[1])
    return None


def _pam(data: bytes) -> tuple[int, int] | None:
    fields = dict(line.split(None, 1) for line in data[:4096].split(b"\n") if len(line.split(None, 1)) == 2)
    return int(fields.get(b"WIDTH", b"0")), int(fields.get(b"HEIGHT", b"0"))


def _jpeg_2000(data: bytes) -> tuple[int, int] | None:
    size = _after(data, b"ihdr", 4, ">II")
    return size and (size[1], size[0])


def _hdr(data: bytes) -> tuple[int, int] | None:
    size = re.search(rb"\n[+-]Y ([0-9]{1,9}) [+-]X ([0-9]{1,9})\n", data[:4096])
    return (int(size[2]), int(size[1])) if size else None


def _webp(data: bytes) -> tuple[int, int] | None:
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        bits = int(struct.unpack_from("<I", data, 21)[0])
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def _tiff(data: bytes) -> tuple[int, int] | None:
    """The largest of all pages, since a decoder reads them one after another."""
    order = "<" if data[:2] == b"II" else ">"
    (offset,) = struct.unpack_from(order + "I", data, 4)
    largest, seen = (0, 0), set[int]()
    while offset and offset not in seen:
        seen.add(offset)
        (count,) = struct.unpack_from(order + "H", data, offset)
        sizes = {}
        for at in range(offset + 2, offset + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(order + "HH", data, at)
            if tag in (256, 257):
                sizes[tag] = int(struct.unpack_from(order + ("H" if kind == 3 else "I"), data, at + 8)[0])
        page = (sizes.get(256, 0), sizes.get(257, 0))
        largest = max(largest, page, key=lambda size: size[0] * size[1])
        (offset,) = struct.unpack_from(order + "I", data, offset + 2 + 12 * count)
    return largest if all(largest) else None


_READERS: tuple[tuple[bytes, Callable[[bytes], tuple[int, int] | None]], ...] = (
    (b"\x89PNG\r\n\x1a\n", _png),
    (_SOI, _jpeg),
    (b"BM", _bmp),
    *((b"P" + kind, _pnm) for kind in (b"1", b"2", b"3", b"4", b"5", b"6", b"F", b"f")),
    (b"P7", _pam),
    (b"II*\0", _tiff),
    (b"MM\0*", _tiff),
    (b"GIF8", lambda data: struct.unpack_from("<HH", data, 6)),
    (b"\0\0\0\x0cjP  \r\n\x87\n", _jpeg_2000),
    (b"\xff\x4f\xff\x51", lambda data: struct.unpack_from(">II", data, 8)),
    (b"#?", _hdr),
    (b"\x59\xa6\x6a\x95", lambda data: struct.unpack_from(">II", data, 4)),
)
