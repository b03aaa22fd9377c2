"""The two decoders against each other, and that cv_bridge is handed only what every version of it reads."""

from __future__ import annotations

import array
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vpr_ros.doctor.cv_bridge import probe_cv_bridge
from vpr_ros.errors import ImageError
from vpr_ros.image_decoder import CV_BRIDGE_ENCODINGS, TOLERANCE, Decoder, new_bridge
from vpr_ros.images import ENCODINGS, BitDepth, decode_compressed, decode_image
from vpr_ros.machine import Machine

CHANNELS = {
    "rgb": 3,
    "bgr": 3,
    "rgba": 4,
    "bgra": 4,
    "8UC3": 3,
    "8UC4": 4,
    "yuv422": 2,
    "yuv422_yuy2": 2,
    "16UC3": 3,
    "16UC4": 4,
    "uyvy": 2,
    "yuyv": 2,
}
SIXTEEN_BITS = tuple(encoding for encoding in ENCODINGS if encoding.endswith("16") or encoding.startswith("16U"))


def message(encoding: str, *, padding: int = 0, big: bool = False, width: int = 10, height: int = 8) -> Any:
    """A `sensor_msgs/Image` of random pixels, with `padding` bytes of other values after each row."""
    channels = CHANNELS.get(encoding.removesuffix("8").removesuffix("16"), CHANNELS.get(encoding, 1))
    row = width * channels * (2 if encoding in SIXTEEN_BITS else 1)
    rows = 3 * height if encoding == "nv24" else height * 3 // 2 if encoding.startswith("nv") else height
    data = np.random.default_rng(width).integers(0, 256, (rows, row + padding), np.uint8)
    if encoding in SIXTEEN_BITS:
        data[0, :row] = 255  # all bits are in use
    data[:, row:] = 0xA5
    return SimpleNamespace(
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=int(big),
        step=row + padding,
        data=array.array("B", data.tobytes()),
    )


class Recorder:
    """A bridge that keeps what it is handed, and answers with `answer`."""

    def __init__(self, answer: Any = None) -> None:
        self.handed: list[Any] = []
        self._answer = answer

    def imgmsg_to_cv2(self, message: Any, encoding: str) -> Any:
        assert encoding == "rgb8"
        self.handed.append(message)
        if isinstance(self._answer, BaseException):
            raise self._answer
        return np.zeros((message.height, message.width, 3), np.uint8) if self._answer is None else self._answer


@settings(max_examples=40, deadline=None)
@given(
    encoding=st.sampled_from(CV_BRIDGE_ENCODINGS),
    padding=st.integers(0, 9),
    big=st.booleans(),
    width=st.integers(2, 6).map(lambda half: 2 * half),
    height=st.integers(3, 8),
)
def test_a_bridge_is_handed_whole_rows_without_padding_in_native_order(
    encoding: str, padding: int, big: bool, width: int, height: int
) -> None:
    source = message(encoding, padding=padding, big=big, width=width, height=height)
    bridge = Recorder()
    Decoder("", bridge, CV_BRIDGE_ENCODINGS).raw(source)
    packed = bridge.handed[0]
    assert (packed.encoding, packed.height, packed.width) == (encoding, height, width)
    assert packed.step == source.step - padding
    assert len(packed.data) == packed.step * height
    rows = np.frombuffer(source.data, np.uint8).reshape(height, source.step)
    assert np.array_equal(packed.data.reshape(height, packed.step), rows[:, : packed.step])
    # the packed message is one that our own decoder reads, as the same picture
    assert np.array_equal(decode_image(packed), decode_image(source))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_only_the_encodings_of_the_bridge_are_handed_to_it(encoding: str) -> None:
    bridge = Recorder()
    bridged = ("rgb8", "bayer_rggb8")
    image = Decoder("", bridge, bridged).raw(message(encoding, padding=3), BitDepth())
    assert len(bridge.handed) == (encoding in bridged)
    if encoding not in bridged:
        assert np.array_equal(image, decode_image(message(encoding, padding=3)))


def test_a_bridge_decodes_no_more_than_8_bits() -> None:
    """How 16 become 8 depends on the stream."""
    assert not set(CV_BRIDGE_ENCODINGS) & set(SIXTEEN_BITS)
    assert set(CV_BRIDGE_ENCODINGS) < set(ENCODINGS)


def test_the_picture_owns_its_pixels_even_if_the_bridge_returns_the_message_s() -> None:
    source = message("rgb8")
    pixels = np.frombuffer(source.data, np.uint8).reshape(8, 10, 3)
    for answer in (pixels, pixels[:, ::-1], np.broadcast_to(np.uint8(7), (8, 10, 3))):
        image = Decoder("", Recorder(answer), ("rgb8",)).raw(source)
        assert np.array_equal(image, answer)
        assert image.flags.c_contiguous
        assert image.flags.writeable
        assert not np.shares_memory(image, pixels)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("Unrecognized image encoding [bgr8]\n"),
        AttributeError("'numpy.ndarray' object has no attribute 'newbyteorder'"),
        TypeError("a CvBridgeError is one"),
        cv2.error("OpenCV(4.6.0) color.cpp: error:\n (-215:Assertion failed)"),
        MemoryError(),
    ],
)
def test_whatever_a_bridge_raises_is_an_image_error_in_one_line(error: Exception) -> None:
    with pytest.raises(ImageError, match=f"bgr8 image of 10 x 8 px: cv_bridge fails: {type(error).__name__}") as caught:
        Decoder("", Recorder(error), ("bgr8",)).raw(message("bgr8"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "got"),
    [
        (np.zeros((8, 10), np.uint8), r"uint8 \(8, 10\)"),
        (np.zeros((8, 9, 3), np.uint8), r"uint8 \(8, 9, 3\)"),
        (np.zeros((8, 10, 3), np.uint16), "uint16"),
        ([1, 2, 3], "list"),
    ],
)
def test_a_bridge_that_makes_something_else_is_an_image_error(answer: Any, got: str) -> None:
    with pytest.raises(ImageError, match=f"cv_bridge made {got}"):
        Decoder("", Recorder(answer), ("bgr8",)).raw(message("bgr8"))


@pytest.mark.parametrize("encoding", CV_BRIDGE_ENCODINGS)
@pytest.mark.parametrize(
    "change",
    [
        {"width": 0},
        {"height": 0},
        {"step": 0},
        {"step": 9},
        {"step": 2**31},
        {"height": 9},
        {"data": b""},
        {"data": bytes(70)},
        {"width": 1},
        {"encoding": "32FC1"},
        {"encoding": ""},
    ],
    ids=str,
)
def test_a_broken_message_never_reaches_a_bridge(encoding: str, change: dict[str, Any]) -> None:
    broken = SimpleNamespace(**(vars(message(encoding)) | change))
    bridge = Recorder()
    decoder = Decoder("", bridge, CV_BRIDGE_ENCODINGS)
    try:
        decode_image(broken)
    except ImageError as error:
        text = str(error)
    else:  # a column of mono8, say
        assert decoder.raw(broken).shape == (broken.height, broken.width, 3)
        return
    with pytest.raises(ImageError) as caught:
        decoder.raw(broken)
    assert str(caught.value) == text
    assert not bridge.handed


def test_compressed_images_are_ours() -> None:
    bridge = Recorder()
    counts = np.random.default_rng(0).integers(0, 4096, (8, 9)).astype(np.uint16)
    source = SimpleNamespace(format="mono16; png compressed ", data=cv2.imencode(".png", counts)[1].tobytes())
    image = Decoder("", bridge, CV_BRIDGE_ENCODINGS).compressed(source, BitDepth())
    assert np.array_equal(image, decode_compressed(source, BitDepth()))
    with pytest.raises(ImageError, match="do not decode"):
        Decoder("", bridge, CV_BRIDGE_ENCODINGS).compressed(SimpleNamespace(format="jpeg", data=b"no jpeg"))


# --- a real cv_bridge, where there is one ----------------------------------------------------------------------------


@dataclass(frozen=True)
class RealBridge:
    bridge: Any
    encodings: tuple[str, ...]


@pytest.fixture(scope="module")
def real() -> RealBridge:
    probe = probe_cv_bridge(Machine())
    if probe.fault:
        pytest.skip(probe.fault)
    return RealBridge(new_bridge(), probe.encodings)


@pytest.mark.parametrize("big", [False, True], ids=["little", "big"])
@pytest.mark.parametrize("padding", [0, 5, 12])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_with_a_real_cv_bridge_every_message_gives_the_same_picture(
    real: RealBridge, encoding: str, padding: int, big: bool
) -> None:
    source = message(encoding, padding=padding, big=big)
    image = Decoder("", real.bridge, real.encodings).raw(source, BitDepth())
    assert np.abs(image.astype(int) - decode_image(source, BitDepth())).max() <= TOLERANCE


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_a_real_cv_bridge_alone_makes_of_an_encoding(real: RealBridge, encoding: str) -> None:
    """The same, or nothing: that is why only some encodings are its."""
    source = message(encoding)
    is_colour_of_16_bits = encoding in SIXTEEN_BITS and not encoding.startswith("16U")
    if encoding not in real.encodings and not is_colour_of_16_bits:
        with pytest.raises(Exception, match=r"not a color format|Unrecognized image encoding"):
            real.bridge.imgmsg_to_cv2(source, "rgb8")
        return
    theirs = real.bridge.imgmsg_to_cv2(source, "rgb8")
    assert np.abs(decode_image(source, BitDepth()).astype(int) - theirs).max() <= TOLERANCE


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_real_cv_bridge_decompresses_a_picture_of_8_bits_as_we_do(real: RealBridge, suffix: str) -> None:
    """With the same function of the same library, so it is not called."""
    pixels = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
    source = SimpleNamespace(format=suffix[1:], data=cv2.imencode(suffix, pixels)[1].tobytes())
    assert np.array_equal(real.bridge.compressed_imgmsg_to_cv2(source)[..., ::-1], decode_compressed(source))
