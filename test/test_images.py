"""Decoding against slow per-pixel oracles, and the errors a user will meet."""

from __future__ import annotations

import array
import os
import struct
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vpr_ros.errors import ImageError
from vpr_ros.images import (
    ENCODINGS,
    BitDepth,
    camera_from_info,
    decode_compressed,
    decode_image,
    overlay,
    read_image,
    resize,
)

RNG = np.random.default_rng(0)


def message(encoding, rows, width=None, height=None, padding=0, big=False, data_type=bytes):
    """A sensor_msgs/Image from rows of pixels, with `padding` bytes of rubbish after each row."""
    rows = np.asarray(rows)
    height, width = height or rows.shape[0], width or rows.shape[1]
    if rows.dtype == np.uint16:
        rows = rows.astype(">u2" if big else "<u2")
    flat = np.frombuffer(rows.tobytes(), np.uint8).reshape(rows.shape[0], -1)
    padded = np.hstack((flat, np.full((flat.shape[0], padding), 0xA5, np.uint8)))
    return SimpleNamespace(
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=int(big),
        step=padded.shape[1],
        data=data_type(padded.tobytes()),
    )


def read_only(data):
    return np.frombuffer(data, np.uint8)


# How each encoding stores one pixel, said once more and naively: sample values -> (r, g, b).
ORACLES = {
    "rgb8": (3, lambda r, g, b: (r, g, b)),
    "bgr8": (3, lambda b, g, r: (r, g, b)),
    "8UC3": (3, lambda b, g, r: (r, g, b)),
    "rgba8": (4, lambda r, g, b, a: (r, g, b)),
    "bgra8": (4, lambda b, g, r, a: (r, g, b)),
    "8UC4": (4, lambda b, g, r, a: (r, g, b)),
    "mono8": (1, lambda v: (v, v, v)),
    "8UC1": (1, lambda v: (v, v, v)),
}


OPENCV = tuple(map(int, cv2.__version__.split(".")[:2]))


def test_what_opencv_does_not_convert_is_an_image_error(monkeypatch):
    """A single bgr8 pixel, before 4.7."""

    def refuse(*_):
        raise cv2.error("OpenCV(4.5.4) matrix.cpp:466: error:\n (-215:Assertion failed) _step >= minstep")

    monkeypatch.setattr(cv2, "cvtColor", refuse)
    with pytest.raises(ImageError, match=r"^bgr8 image of 1 x 1 px: OpenCV .* does not convert it: .*minstep$"):
        decode_image(message("bgr8", np.zeros((1, 1, 3), np.uint8)))


def per_pixel(samples, oracle):
    return np.array([[oracle(*(int(v) for v in np.atleast_1d(p))) for p in row] for row in samples], np.uint8)


@pytest.mark.parametrize("encoding", ORACLES)
@settings(max_examples=15, deadline=None)
@given(height=st.integers(1, 7), width=st.integers(1, 7), padding=st.integers(0, 9), seed=st.integers(0, 99))
def test_eight_bit_encodings_match_the_oracle_whatever_the_step(encoding, height, width, padding, seed):
    assume(OPENCV >= (4, 7) or (height, width) != (1, 1))
    channels, oracle = ORACLES[encoding]
    samples = np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)
    assert np.array_equal(decode_image(message(encoding, samples, padding=padding)), per_pixel(samples, oracle))


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("encoding", ["mono16", "rgb16", "bgr16", "rgba16", "bgra16"])
@settings(max_examples=10, deadline=None)
@given(padding=st.integers(0, 5), seed=st.integers(0, 99))
def test_sixteen_bits_are_divided_by_257_in_either_byte_order(encoding, big, padding, seed):
    channels, oracle = ORACLES[encoding.replace("16", "8")]
    samples = np.random.default_rng(seed).integers(0, 65536, (3, 5, channels)).astype(np.uint16)
    samples[0, 0] = 65535  # all bits are in use
    got = decode_image(message(encoding, samples, padding=padding, big=big)).astype(int)
    exact = per_pixel_16(samples, oracle) / 257
    assert np.abs(got - exact).max() <= 0.5 + 1e-4


def per_pixel_16(samples, oracle):
    return np.array([[oracle(*(int(v) for v in p)) for p in row] for row in samples], float)


SIXTEEN_BITS = [
    "mono16",
    "rgb16",
    "bgr16",
    "rgba16",
    "bgra16",
    *(name for name in ENCODINGS if name.startswith("bayer") and name.endswith("16")),
]


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("encoding", SIXTEEN_BITS)
def test_counts_of_fewer_bits_look_like_the_same_picture_of_all_bits(encoding, bits, big):
    """Unshifted counts of a sensor against the same picture at 8 bits."""
    channels = ORACLES[encoding.replace("16", "8")][0] if encoding in ("rgb16", "bgr16", "rgba16", "bgra16") else 1
    picture = RNG.integers(0, 256, (40, 60, channels)).astype(np.uint16)
    picture[:2, :2] = 255
    counts = np.rint(picture * ((2**bits - 1) / 255)).astype(np.uint16)
    if channels == 4:
        counts[..., 3] = 65535  # opaque, whatever the sensor's bits
    if channels == 1:
        picture, counts = picture[..., 0], counts[..., 0]
    got = decode_image(message(encoding, counts, padding=3, big=big))
    eight = decode_image(message(encoding.replace("16", "8"), picture.astype(np.uint8)))
    assert np.abs(got.astype(int) - eight).max() <= 1


@settings(max_examples=40, deadline=None)
@given(highest=st.lists(st.integers(0, 65535), min_size=1, max_size=12), seed=st.integers(0, 99))
def test_the_bits_of_a_stream_only_grow_and_brightness_is_comparable_while_they_stay(highest, seed):
    rng, depth, said = np.random.default_rng(seed), BitDepth(), []
    for most in highest:
        counts = rng.integers(0, most + 1, (8, 8)).astype(np.uint16)
        counts[0, 0] = most
        before = depth.bits
        image = decode_image(message("mono16", counts), depth)[..., 0]
        assert depth.bits >= before
        assert depth.bits in (0, 8, 10, 12, 14, 16)
        assert most < 2**depth.bits
        assert np.abs(image - counts * (255 / depth.highest)).max() <= 0.5 + 1e-3
        if depth.remark and depth.remark not in said:
            said.append(depth.remark)
        elif depth.bits != before:
            assert (before, depth.bits) == (0, 16), "nothing to say of a stream that uses all its bits"
    assert len(said) <= 5
    assert depth.bits == 0 or 2 ** (depth.bits - 2) <= max(max(highest), 64), "no more bits than were seen"


def test_a_few_hot_pixels_do_not_darken_a_stream():
    depth = BitDepth()
    counts = RNG.integers(0, 1024, (100, 100)).astype(np.uint16)
    counts[5, :10] = 65535
    image = decode_image(message("mono16", counts), depth)
    assert depth.bits == 10
    assert image.max() == 255
    counts[6, :1] = 65535
    decode_image(message("mono16", counts), depth)
    assert depth.bits == 16, "more than a thousandth are no defects"


def test_counts_in_the_upper_bits_use_all_bits():
    depth = BitDepth()
    shifted = (RNG.integers(0, 1024, (50, 50)) << 6).astype(np.uint16)
    assert np.abs(decode_image(message("mono16", shifted), depth)[..., 0] - shifted / 257).max() <= 0.51
    assert (depth.bits, depth.remark) == (16, "")


def test_a_black_image_tells_nothing_of_the_bits():
    depth = BitDepth()
    assert not decode_image(message("mono16", np.zeros((4, 4), np.uint16)), depth).any()
    assert (depth.bits, depth.remark) == (0, "")


def test_png_and_files_share_the_bits_of_their_stream(tmp_path):
    depth, counts = BitDepth(), np.full((8, 9), 800, np.uint16)
    decode_image(message("mono16", np.full((8, 9), 3000, np.uint16)), depth)
    assert decode_compressed(compressed(encoded(".png", counts), "mono16; png compressed "), depth).max() == 50
    assert decode_compressed(compressed(encoded(".png", counts), "png"), depth).max() == 50
    colour = np.dstack([counts] * 3)
    assert decode_compressed(compressed(encoded(".png", colour), "bgr16; png compressed bgr16"), depth).max() == 50
    for suffix in (".png", ".tiff"):
        cv2.imwrite(str(tmp_path / f"a{suffix}"), counts)
        assert read_image(tmp_path / f"a{suffix}", depth).max() == 50
        assert read_image(tmp_path / f"a{suffix}").max() == 199, "alone it is a stream of its own"
    assert depth.bits == 12


def test_16uc1_counts_are_stretched_between_percentiles_but_mono16_is_not():
    counts = np.linspace(7000, 9000, 100 * 100).reshape(100, 100).astype(np.uint16)  # a thermal camera
    stretched = decode_image(message("16UC1", counts))[..., 0]
    low, high = np.percentile(counts, (1, 99))
    expected = np.clip((counts - low) / (high - low) * 255, 0, 255)
    assert np.abs(stretched - expected).max() <= 0.51
    assert decode_image(message("mono16", counts)).max() == round(9000 * 255 / 16383), "of 14 bits, and not from 7000"


def test_16uc1_of_one_value_is_black_rather_than_an_error():
    assert not decode_image(message("16UC1", np.full((4, 4), 300, np.uint16))).any()


@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer_mosaic_of_one_colour_gives_that_colour_exactly(pattern, bits, padding):
    colour = {"r": 200, "g": 120, "b": 40}
    mosaic = np.array([[colour[pattern[2 * (y % 2) + x % 2]] for x in range(9)] for y in range(7)])
    samples = mosaic.astype(np.uint8) if bits == 8 else (mosaic * 257).astype(np.uint16)
    image = decode_image(message(f"bayer_{pattern}{bits}", samples, padding=padding))
    assert np.array_equal(image, np.tile(np.array([200, 120, 40], np.uint8), (7, 9, 1)))


def yuv_to_rgb(y, u, v):
    """BT.601, studio range, as video has it."""
    y, u, v = 1.164 * (y - 16), u - 128.0, v - 128.0
    return np.clip([y + 1.596 * v, y - 0.813 * v - 0.391 * u, y + 2.018 * u], 0, 255)


@pytest.mark.parametrize(
    ("encoding", "order"), [("uyvy", "UYVY"), ("yuv422", "UYVY"), ("yuyv", "YUYV"), ("yuv422_yuy2", "YUYV")]
)
@settings(max_examples=10, deadline=None)
@given(padding=st.integers(0, 5), seed=st.integers(0, 99))
def test_yuv422_matches_the_oracle(encoding, order, padding, seed):
    height, width = 4, 8
    rng = np.random.default_rng(seed)
    luma, u, v = rng.integers(16, 236, (height, width)), *rng.integers(90, 166, (2, height, width // 2))
    packed = np.zeros((height, width // 2, 4), np.uint8)
    luma_at = [i for i, name in enumerate(order) if name == "Y"]
    packed[..., luma_at[0]], packed[..., luma_at[1]] = luma[:, 0::2], luma[:, 1::2]
    packed[..., order.index("U")], packed[..., order.index("V")] = u, v
    image = decode_image(message(encoding, packed, width=width, padding=padding))
    expected = [[yuv_to_rgb(luma[i, j], u[i, j // 2], v[i, j // 2]) for j in range(width)] for i in range(height)]
    assert np.abs(image - np.array(expected)).max() <= 2


@pytest.mark.parametrize(("encoding", "u_at"), [("nv12", 0), ("nv21", 1)])
@pytest.mark.parametrize("padding", [0, 6])
def test_semi_planar_matches_the_oracle(encoding, u_at, padding):
    height, width = 6, 8
    luma, u, v = RNG.integers(16, 236, (height, width)), *RNG.integers(90, 166, (2, height // 2, width // 2))
    chroma = np.zeros((height // 2, width), np.uint8)
    chroma[:, u_at::2], chroma[:, 1 - u_at :: 2] = u, v
    planes = np.vstack((luma.astype(np.uint8), chroma))
    image = decode_image(message(encoding, planes, height=height, padding=padding))
    expected = [
        [yuv_to_rgb(luma[i, j], u[i // 2, j // 2], v[i // 2, j // 2]) for j in range(width)] for i in range(height)
    ]
    assert np.abs(image - np.array(expected)).max() <= 2


@pytest.mark.parametrize("padding", [0, 6])
def test_nv24_matches_the_oracle(padding):
    height, width = 5, 7
    luma, u, v = RNG.integers(16, 236, (height, width)), *RNG.integers(90, 166, (2, height, width))
    planes = np.zeros((3 * height, width + padding), np.uint8)
    planes[:height, :width] = luma
    chroma = planes[height:].reshape(height, 2 * (width + padding))
    chroma[:, 0 : 2 * width : 2], chroma[:, 1 : 2 * width : 2] = u, v
    source = SimpleNamespace(
        height=height, width=width, encoding="nv24", is_bigendian=0, step=width + padding, data=planes.tobytes()
    )
    expected = [[yuv_to_rgb(luma[i, j], u[i, j], v[i, j]) for j in range(width)] for i in range(height)]
    assert np.abs(decode_image(source) - np.array(expected)).max() <= 2


@pytest.mark.parametrize("encoding", ["nv12", "nv21"])
@pytest.mark.parametrize("padding", [0, 6])
def test_rows_between_the_planes_are_left_out(encoding, padding):
    """A hardware decoder aligns 36 rows to 40, as it does 1080 to 1088."""
    planes = RNG.integers(0, 256, (54, 16), np.uint8)
    padded = np.full((60, 16), 7, np.uint8)
    padded[:36], padded[40:58] = planes[:36], planes[36:]
    plain = decode_image(message(encoding, planes, height=36, padding=padding))
    assert np.array_equal(decode_image(message(encoding, padded, height=36, padding=padding)), plain)


@pytest.mark.parametrize("encoding", ["rgb8", "mono8", "mono16"])
def test_the_last_row_may_come_without_its_padding(encoding):
    kind, shape = (np.uint16 if encoding == "mono16" else np.uint8), (4, 6, 3) if encoding == "rgb8" else (4, 6)
    source = message(encoding, RNG.integers(0, 250, shape).astype(kind), padding=10)
    cut = SimpleNamespace(**(vars(source) | {"data": source.data[:-10]}))
    assert np.array_equal(decode_image(cut), decode_image(source))
    cut.data = source.data[:-11]
    with pytest.raises(ImageError, match="needs"):
        decode_image(cut)


@pytest.mark.parametrize(("encoding", "channels"), [("16UC3", 3), ("16UC4", 4)])
def test_counts_of_several_channels_are_blue_green_red_as_in_opencv(encoding, channels):
    samples = RNG.integers(0, 65536, (5, 6, channels)).astype(np.uint16)
    expected = decode_image(message("bgr16", samples[..., :3].copy()))
    assert np.array_equal(decode_image(message(encoding, samples)), expected)


@pytest.mark.parametrize("data_type", [bytes, bytearray, memoryview, read_only, lambda data: array.array("B", data)])
def test_any_buffer_will_do_and_the_result_owns_its_pixels(data_type):
    samples = RNG.integers(0, 256, (4, 5, 3), np.uint8)
    source = message("rgb8", samples, padding=2, data_type=data_type)
    image = decode_image(source)
    assert np.array_equal(image, samples)
    assert not np.shares_memory(image, np.frombuffer(source.data, np.uint8))
    image[:] = 0  # writable


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_gives_contiguous_writable_rgb_of_its_own(encoding):
    source = SimpleNamespace(height=6, width=8, encoding=encoding, is_bigendian=0, step=64, data=bytes(64 * 18))
    image = decode_image(source)
    assert (image.shape, image.dtype) == ((6, 8, 3), np.uint8)
    assert image.flags.c_contiguous
    assert image.flags.writeable
    assert not np.shares_memory(image, np.frombuffer(source.data, np.uint8))


GOOD = {"height": 4, "width": 6, "encoding": "rgb8", "is_bigendian": 0, "step": 18, "data": bytes(72)}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"encoding": "32FC1"}, "'32FC1' is not a picture"),
        ({"encoding": ""}, "use one of rgb8"),
        ({"width": 0}, "0 x 4 px"),
        ({"height": 0}, "6 x 0 px"),
        ({"step": 17}, "needs 18 bytes a row, but its step is 17"),
        ({"step": 0}, "step is 0"),
        ({"data": bytes(71)}, "needs 72 bytes but has 71"),
        ({"data": b""}, "has 0"),
        ({"encoding": "mono16", "step": 11}, "needs 12 bytes a row"),
        ({"encoding": "yuyv", "width": 5}, "size must be even"),
        ({"encoding": "nv12", "height": 3}, "size must be even"),
        ({"encoding": "nv12", "data": bytes(95)}, "needs 96 bytes but has 95"),
        ({"encoding": "nv24", "data": bytes(191)}, "needs 192 bytes but has 191"),
        ({"encoding": "bayer_rggb8", "width": 2}, "demosaicing needs 3 x 3"),
    ],
)
def test_a_broken_message_is_named_in_one_line(change, text):
    with pytest.raises(ImageError) as error:
        decode_image(SimpleNamespace(**(GOOD | change)))
    assert text in str(error.value)
    assert "\n" not in str(error.value)


def compressed(data, form="jpeg"):
    return SimpleNamespace(format=form, data=data)


def encoded(suffix, image, *options):
    return cv2.imencode(suffix, image, list(options))[1].tobytes()


def smooth(height=40, width=60):
    y, x = np.mgrid[:height, :width]
    return np.stack((x * 4, y * 6, 255 - x * 4), axis=2).astype(np.uint8)


def test_png_is_lossless_and_drops_alpha():
    rgb = RNG.integers(0, 256, (5, 7, 3), np.uint8)
    bgr = rgb[..., ::-1].copy()
    bgra = np.dstack((bgr, RNG.integers(0, 256, (5, 7), np.uint8)))
    for pixels in (bgr, bgra):
        assert np.array_equal(decode_compressed(compressed(encoded(".png", pixels), "rgb8; png compressed bgr8")), rgb)


def test_png_of_16_bits_is_reduced_like_the_raw_message():
    counts = RNG.integers(0, 4096, (8, 9)).astype(np.uint16)
    for encoding in ("mono16", "16UC1"):
        got = decode_compressed(compressed(encoded(".png", counts), f"{encoding}; png compressed "))
        assert np.array_equal(got, decode_image(message(encoding, counts)))


def test_jpeg_colour_and_grey():
    rgb = smooth()
    colour = decode_compressed(compressed(encoded(".jpg", rgb[..., ::-1].copy(), cv2.IMWRITE_JPEG_QUALITY, 98)))
    assert np.abs(colour.astype(int) - rgb).max() < 12
    grey = decode_compressed(
        compressed(array.array("B", encoded(".jpg", rgb[..., 0].copy())), "mono8; jpeg compressed ")
    )
    assert grey.shape == rgb.shape
    assert np.ptp(grey, axis=2).max() == 0
    assert np.abs(grey[..., 0].astype(int) - rgb[..., 0]).max() < 12


def test_a_transport_that_encoded_rgb_as_if_it_were_bgr_is_undone():
    rgb = RNG.integers(0, 256, (5, 7, 3), np.uint8)
    assert np.array_equal(decode_compressed(compressed(encoded(".png", rgb), "rgb8; png compressed rgb8")), rgb)


@pytest.mark.parametrize(
    ("form", "data", "text"),
    [
        ("16UC1; compressedDepth png", b"x", "choose the colour"),
        ("theora", b"x", "republish"),
        *(
            (form, b"x", "video stream")
            for form in ("h264", "H.264", "bgr8; h265", "hevc", "av1", "VP9", "mp4", "avc1", "x264", "ffmpeg")
        ),
        ("jpeg", b"", "no bytes"),
        ("jpeg", b"not a jpeg", "10 bytes do not decode"),
        ("png", b"\x89PNG\r\n\x1a\n", "do not decode"),
    ],
)
def test_compressed_bytes_that_are_no_picture(form, data, text):
    with pytest.raises(ImageError, match=text) as error:
        decode_compressed(compressed(data, form))
    assert repr(form) in str(error.value)


def blurred(seed=3, height=96, width=160):
    random = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return cv2.GaussianBlur(random, (5, 5), 0)


@pytest.mark.parametrize("progressive", [0, 1])
@pytest.mark.parametrize("quality", [50, 95])
@pytest.mark.parametrize("tail", [b"", bytes(512), b"\0"])
def test_a_jpeg_without_its_end_marker_is_read_if_all_of_it_is_there(progressive, quality, tail):
    options = (cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_PROGRESSIVE, progressive)
    for seed in range(5):
        whole = encoded(".jpg", blurred(seed), *options)
        assert np.array_equal(decode_compressed(compressed(whole[:-2] + tail)), decode_compressed(compressed(whole)))


@settings(max_examples=40, deadline=None)
@given(share=st.floats(0, 0.995), padding=st.sampled_from([b"", bytes(300)]), seed=st.integers(0, 9))
def test_half_a_jpeg_is_refused_and_never_shows_the_picture_before(share, padding, seed):
    whole = encoded(".jpg", blurred(seed), cv2.IMWRITE_JPEG_QUALITY, 90)
    decode_compressed(compressed(encoded(".jpg", np.full((96, 160, 3), 250, np.uint8))))
    with pytest.raises(ImageError):
        decode_compressed(compressed(whole[: int(share * len(whole))] + padding))


def with_orientation(jpeg, orientation):
    """The same JPEG with an EXIF tag."""
    tiff = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x112, 3, 1, orientation, 0, 0)
    body = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(body)) + body + jpeg[2:]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tag_of_orientation_turns_files_but_not_messages_of_which_the_sensor_is_calibrated(tmp_path, orientation):
    plain = encoded(".jpg", blurred())
    tagged = with_orientation(plain, orientation)
    stored = decode_compressed(compressed(plain))
    assert np.array_equal(decode_compressed(compressed(tagged)), stored)
    (tmp_path / "a.jpg").write_bytes(tagged)
    upright = read_image(tmp_path / "a.jpg")
    turns = {1: stored, 2: stored[:, ::-1], 3: stored[::-1, ::-1], 4: stored[::-1], 5: stored.transpose(1, 0, 2)}
    turns |= {6: turns[5][:, ::-1], 7: turns[5][::-1, ::-1], 8: turns[5][::-1]}
    assert np.array_equal(upright, turns[orientation])


def test_names_that_are_not_utf_8_are_read_and_can_be_printed(tmp_path):
    folder = os.fsencode(tmp_path)
    for name in (b"caf\xe9.png", b"\x1b[2J.png"):
        path = os.path.join(folder, name)
        with open(path, "wb") as file:
            file.write(encoded(".png", blurred()))
        assert read_image(os.fsdecode(path)).shape == (96, 160, 3)
        with open(path, "wb") as file:
            file.write(b"nothing")
        with pytest.raises(ImageError) as error:
            read_image(os.fsdecode(path))
        str(error.value).encode()
        assert str(error.value).isprintable()


def test_pipes_and_devices_are_no_images(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    for path in (tmp_path / "a.jpg", "/dev/zero", tmp_path):
        with pytest.raises(ImageError, match="is not a regular file"):
            read_image(path)


def test_float_image_files_are_refused(tmp_path):
    cv2.imwrite(str(tmp_path / "a.hdr"), np.ones((4, 4, 3), np.float32))
    with pytest.raises(ImageError, match=r"a\.hdr: float32 pixels"):
        read_image(tmp_path / "a.hdr")
    with pytest.raises(ImageError, match=r"b\.png: No such file"):
        read_image(tmp_path / "b.png")


def info(**changes):
    roi = SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0)
    fields = {
        "width": 640,
        "height": 480,
        "distortion_model": "plumb_bob",
        "d": [0.1, -0.2, 0.001, 0.002, 0.0],
        "k": [500.0, 0.0, 320.0, 0.0, 510.0, 240.0, 0.0, 0.0, 1.0],
        "p": [0.0] * 12,
        "binning_x": 0,
        "binning_y": 0,
        "roi": roi,
    }
    return SimpleNamespace(**(fields | changes))


def test_camera_info_as_published():
    camera = camera_from_info(info())
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (500, 510, 320, 240)
    assert (camera.width, camera.height, camera.fisheye) == (640, 480, False)
    assert camera.distortion == (0.1, -0.2, 0.001, 0.002, 0.0)


def test_camera_info_roi_is_cut_before_binning():
    roi = SimpleNamespace(x_offset=100, y_offset=40, width=400, height=200)
    camera = camera_from_info(info(roi=roi, binning_x=2, binning_y=4))
    # the centre of the first of two pixels is at 0, that of both at 0.5
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (250, 127.5, (220 + 0.5) / 2 - 0.5, (200 + 0.5) / 4 - 0.5)
    assert (camera.width, camera.height) == (200, 50)


def test_camera_info_distortion_models():
    assert camera_from_info(info(distortion_model="rational_polynomial", d=[0.1] * 8)).distortion == (0.1,) * 8
    assert camera_from_info(info(distortion_model="", d=[])).distortion == ()
    assert camera_from_info(info(distortion_model="plumb_bob", d=[0.0] * 5)).distortion == ()
    fisheye = camera_from_info(info(distortion_model="equidistant", d=[0.0] * 4))
    assert fisheye.fisheye
    assert fisheye.distortion == (0.0,) * 4


@pytest.mark.parametrize(
    "changes",
    [
        {"k": [0.0] * 9},
        {"k": [np.nan] * 9},
        {"width": 0},
        {"distortion_model": "odd"},
        {"distortion_model": "odd", "d": [0.0] * 5},  # zeros are a lens too: of which kind is not known
        {"distortion_model": "plumb_bob", "d": [0.1] * 3},
        {"distortion_model": "equidistant", "d": [0.1] * 5},
    ],
)
def test_camera_info_without_usable_intrinsics(changes):
    assert camera_from_info(info(**changes)) is None


def test_resize_averages_what_shrinks_and_interpolates_what_grows():
    image = RNG.integers(0, 256, (188, 620, 3), np.uint8)
    halved = resize(image, 310, 94)
    means = image.reshape(94, 2, 310, 2, 3).mean(axis=(1, 3))
    assert np.abs(halved - means).max() <= 0.51
    assert np.array_equal(resize(image, 700, 400), cv2.resize(image, (700, 400), interpolation=cv2.INTER_LINEAR))
    # KITTI into a 320 x 240 network: columns shrink, rows grow. Every other column is black: no aliasing, only grey.
    stripes = np.zeros((188, 640, 3), np.uint8)
    stripes[:, ::2] = 200
    assert np.all(resize(stripes, 320, 240) == 100)


@settings(max_examples=30, deadline=None)
@given(*[st.integers(1, 40)] * 4)
def test_resize_has_the_size_asked_for_and_keeps_a_plain_colour(width, height, to_width, to_height):
    image = np.full((height, width, 3), (10, 20, 30), np.uint8)
    result = resize(image, to_width, to_height)
    assert result.shape == (to_height, to_width, 3)
    assert result.flags.c_contiguous
    assert np.all(result == (10, 20, 30))


def test_resize_to_the_same_size_changes_nothing():
    image = smooth()
    assert resize(image, 60, 40) is image
    flipped = image[:, ::-1]
    assert resize(flipped, 60, 40).flags.c_contiguous
    with pytest.raises(ImageError, match="60 x 40 px to 0 x 40"):
        resize(image, 0, 40)


def test_an_overlay_reddens_what_the_mask_ignores_and_leaves_the_rest():
    image = RNG.integers(0, 256, (40, 60, 3), np.uint8)
    assert np.array_equal(overlay(image, np.ones((4, 6), np.float32)), image)
    ignored = overlay(image, np.zeros((4, 6), np.float32))
    assert np.abs(ignored - (0.4 * image + 0.6 * np.array([255, 0, 0]))).max() <= 0.51
    mask = np.ones((4, 6), np.float32)
    mask[:, 3:] = 0
    mixed = overlay(image, mask)
    assert np.array_equal(mixed[:, :25], image[:, :25])  # half a cell from the border between the two
    assert np.array_equal(mixed[:, 35:], ignored[:, 35:])
    assert not np.array_equal(mixed[:, 25:35], image[:, 25:35])


def test_rclpy_messages_decode_like_any_other():
    messages = pytest.importorskip("sensor_msgs.msg", reason="sensor_msgs is not installed")
    samples = RNG.integers(0, 256, (4, 6, 3), np.uint8)
    data = array.array("B", samples.tobytes())
    image = messages.Image(height=4, width=6, encoding="rgb8", step=18, data=data)
    assert np.array_equal(decode_image(image), samples)
    jpeg = messages.CompressedImage(format="png", data=array.array("B", encoded(".png", samples)))
    assert np.array_equal(decode_compressed(jpeg), samples[..., ::-1])
    calibration = messages.CameraInfo(height=4, width=6, distortion_model="plumb_bob", d=[0.0] * 5)
    calibration.k = [5.0, 0.0, 2.5, 0.0, 5.0, 1.5, 0.0, 0.0, 1.0]
    assert camera_from_info(calibration).width == 6
    assert camera_from_info(messages.CameraInfo()) is None
