"""Camera messages and image files -> RGB images; and the one resize that training, export and the robot share.

Messages are duck-typed: anything with the attributes of `sensor_msgs/Image`, `CompressedImage` or `CameraInfo` will do,
whether it comes from rclpy, rosbags or a test.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vpr_ros.calibration import Calibration, camera_for_image
from vpr_ros.encoded_images import check_size, ended_again, ended_jpegs, is_cut_jpeg
from vpr_ros.errors import ImageError
from vpr_ros.files import read_regular_file
from vpr_ros.printable import on_one_line, printable
from vpr_ros.types import Camera, Image, Mask


@dataclass(frozen=True, slots=True)
class _Layout:
    """How an encoding stores a pixel. `conversion` is OpenCV's code to RGB, None where it is RGB already."""

    channels: int
    conversion: int | None
    bits: int = 8
    multiple_of: int = 1
    """Width (and height, where chroma is halved in both) must be a multiple of it."""
    semi_planar: bool = False
    """A plane of luma, then one of interleaved chroma with half the rows (4:2:0)."""
    doubled: bool = False
    """Chroma in full (4:4:4), which OpenCV does not read: as the 4:2:0 image of twice the size, of which every second pixel is it."""


_LAYOUTS = {
    "rgb8": _Layout(3, None),
    "bgr8": _Layout(3, cv2.COLOR_BGR2RGB),
    "rgba8": _Layout(4, cv2.COLOR_RGBA2RGB),
    "bgra8": _Layout(4, cv2.COLOR_BGRA2RGB),
    "mono8": _Layout(1, cv2.COLOR_GRAY2RGB),
    "8UC1": _Layout(1, cv2.COLOR_GRAY2RGB),
    "8UC3": _Layout(3, cv2.COLOR_BGR2RGB),
    "8UC4": _Layout(4, cv2.COLOR_BGRA2RGB),
    "rgb16": _Layout(3, None, bits=16),
    "bgr16": _Layout(3, cv2.COLOR_BGR2RGB, bits=16),
    "rgba16": _Layout(4, cv2.COLOR_RGBA2RGB, bits=16),
    "bgra16": _Layout(4, cv2.COLOR_BGRA2RGB, bits=16),
    "mono16": _Layout(1, cv2.COLOR_GRAY2RGB, bits=16),
    "16UC1": _Layout(1, cv2.COLOR_GRAY2RGB, bits=16),
    "16UC3": _Layout(3, cv2.COLOR_BGR2RGB, bits=16),
    "16UC4": _Layout(4, cv2.COLOR_BGRA2RGB, bits=16),
    "uyvy": _Layout(2, cv2.COLOR_YUV2RGB_UYVY, multiple_of=2),
    "yuv422": _Layout(2, cv2.COLOR_YUV2RGB_UYVY, multiple_of=2),
    "yuyv": _Layout(2, cv2.COLOR_YUV2RGB_YUY2, multiple_of=2),
    "yuv422_yuy2": _Layout(2, cv2.COLOR_YUV2RGB_YUY2, multiple_of=2),
    "nv12": _Layout(1, cv2.COLOR_YUV2RGB_NV12, multiple_of=2, semi_planar=True),
    "nv21": _Layout(1, cv2.COLOR_YUV2RGB_NV21, multiple_of=2, semi_planar=True),
    "nv24": _Layout(1, cv2.COLOR_YUV2RGB_NV12, doubled=True),
}
# ROS names a mosaic after its first two rows; OpenCV after the second row's second and third pixel: RGGB is "BayerBG".
for _pattern, _conversion in {
    "rggb": cv2.COLOR_BayerBG2RGB,
    "bggr": cv2.COLOR_BayerRG2RGB,
    "gbrg": cv2.COLOR_BayerGR2RGB,
    "grbg": cv2.COLOR_BayerGB2RGB,
}.items():
    _LAYOUTS[f"bayer_{_pattern}8"] = _Layout(1, _conversion)
    _LAYOUTS[f"bayer_{_pattern}16"] = _Layout(1, _conversion, bits=16)

ENCODINGS = tuple(_LAYOUTS)
"""The encodings of `sensor_msgs/Image` that `decode_image` reads."""

_VIDEO_CODECS = (
    "theora",
    "h264",
    "x264",
    "avc1",
    "h265",
    "x265",
    "hevc",
    "av1",
    "vp8",
    "vp9",
    "mp4",
    "mpeg4",
    "ffmpeg",
)
_NOT_PICTURES = {"compresseddepth": "it is a depth image; choose the colour or grey image topic"} | dict.fromkeys(
    _VIDEO_CODECS, "it is a video stream; republish it as jpeg (image_transport republish)"
)
"""What `CompressedImage.format` may hold, in letters and digits."""

_DEPTHS = (8, 10, 12, 14, 16)
"""Of sensors, in bits."""
_HOT_PIXELS = 1e-3
"""Share of an image's values that may lie above what its sensor's bits can hold: defects, and lamps that are clipped anyway."""


class BitDepth:
    """How many bits the 16-bit images of one stream really hold.

    By definition `mono16`, `bayer_*16` and the 16-bit colours fill their 16 bits, but many cameras publish counts of 10, 12 or
    14 bits as they are, which read as 16 are nearly black. So the stream's highest value so far tells the bits: the fewest of
    8, 10, 12, 14 and 16 that hold all but a few hot pixels. They only ever grow, so a dark image never changes the
    brightness of those after it.
    """

    def __init__(self) -> None:
        self.bits = 0
        """0 until an image that is not black has been seen."""
        self._before = 0

    def learn(self, pixels: NDArray[np.uint16]) -> None:
        """Take in the next image (without alpha)."""
        if self.bits == _DEPTHS[-1] or int(pixels.max()) < (1 << self.bits):
            return
        allowed = _HOT_PIXELS * pixels.size
        needed = next(bits for bits in _DEPTHS if np.count_nonzero(pixels >> bits if bits < 16 else 0) <= allowed)
        if needed > self.bits:
            self._before, self.bits = self.bits, needed

    @property
    def remark(self) -> str:
        """One line for logs and notes; empty where the images fill their 16 bits from the start."""
        if self.bits == 0 or (self.bits == _DEPTHS[-1] and self._before == 0):
            return ""
        before = f" now, {self._before} before" if self._before else ""
        return f"the 16-bit images hold {self.bits} bits{before}: 0 to {self.highest} becomes 0 to 255"

    @property
    def highest(self) -> int:
        """The count that becomes white."""
        return (1 << (self.bits or _DEPTHS[-1])) - 1


def decode_image(message: Any, depth: BitDepth | None = None) -> Image:
    """The picture in a `sensor_msgs/Image`: (H, W, 3) uint8 RGB, C-contiguous, never an alias of `message.data`.

    16 bits become 8 in one of two ways. `mono16`, `bayer_*16` and the 16-bit colours are divided by what the bits that they
    really hold can reach (`BitDepth`; by 257 for all 16, as cv_bridge does). A stream is decoded with one `depth`, so
    brightness stays comparable from image to image, and changes only where more bits show; without `depth` an image is a
    stream of its own. `16UC1` is raw counts of unknown range and offset (a thermal camera, say): its 1st to 99th
    percentile is stretched over 0..255, image by image.

    Raises `ImageError`: an encoding not in `ENCODINGS`, zero size, a `step` or `data` too short, a size that the
    encoding cannot have.
    """
    layout = _layout_of(message)
    pixels = _pixels(message, layout)
    if layout.bits == 16:
        pixels = _eight_bits(pixels, None if message.encoding == "16UC1" else depth or BitDepth())
    if layout.conversion is None:  # plain rgb8 could still be a view of the message; what cvtColor returns never is
        return pixels.copy()
    try:
        if layout.doubled:
            return np.ascontiguousarray(cv2.cvtColor(pixels, cv2.COLOR_YUV2RGB_NV12)[::2, ::2])
        return cv2.cvtColor(pixels, layout.conversion)
    except cv2.error as error:  # a single pixel, which OpenCV before 4.7 refuses
        size = f"{message.encoding} image of {message.width} x {message.height} px"
        raise ImageError(f"{size}: OpenCV {cv2.__version__} does not convert it: {on_one_line(error)}") from None


def packed_pixels(message: Any) -> NDArray[Any]:
    """What `decode_image` converts: (rows, W) or (rows, W, channels) uint8 or uint16 in native order, without padding, C-contiguous.

    A view of `message.data` where it can be. Raises `ImageError` as `decode_image` does.
    """
    return np.ascontiguousarray(_pixels(message, _layout_of(message)))


def decode_compressed(message: Any, depth: BitDepth | None = None) -> Image:
    """The picture in a `sensor_msgs/CompressedImage`: (H, W, 3) uint8 RGB, C-contiguous.

    JPEG, PNG and whatever else OpenCV reads; grey becomes three equal channels, alpha is dropped, 16 bits become 8 as
    in `decode_image` (`format` names the original encoding). Pixels stay as the sensor has them, to which its calibration
    belongs: a tag of orientation is not followed, as in image_transport.

    A JPEG without its end marker is read if all of the picture is there. Raises `ImageError`: depth, video, bytes that do
    not decode, half a JPEG, more pixels than `encoded_images.MAX_PIXELS`.
    """
    original, _, compression = message.format.partition(";")
    kind = "".join(filter(str.isalnum, message.format.lower()))
    for name, advice in _NOT_PICTURES.items():
        if name in kind:
            raise ImageError(f"format {message.format!r} cannot be read: {advice}")
    # compressed_image_transport's word for "the encoder was handed RGB where it expects BGR".
    swapped = "compressed rgb" in compression
    depth = None if original == "16UC1" else depth or BitDepth()
    return _decode_bytes(bytes(message.data), f"format {message.format!r}", depth, swapped=swapped, upright=False)


def read_image(path: Path | str, depth: BitDepth | None = None) -> Image:
    """The picture in an image file: (H, W, 3) uint8 RGB, turned upright where EXIF says so.

    16 bits become 8 as in `decode_image`: files of one recording share a `depth`.

    Raises `ImageError`: a file that is missing, unreadable, not a regular file, or not an image that `decode_compressed` reads.
    """
    what = printable(path)
    try:
        data = read_regular_file(path)
    except OSError as error:
        raise ImageError(f"{what}: {error.strerror}") from None
    return _decode_bytes(data, what, depth or BitDepth())


def decode_grey(data: bytes) -> NDArray[np.uint8] | None:
    """The (H, W) uint8 picture in the bytes of an image file, as it is stored; None where there is none, or too large a one."""
    try:
        check_size(data, "image")
    except ImageError:
        return None
    return _imdecode(data, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION)


def camera_from_info(message: Any) -> Camera | None:
    """Intrinsics of an image of the size that a `sensor_msgs/CameraInfo` announces: `roi` cut, then binned.

    None where `camera_for_image` finds none. An image at hand is judged by that function, with its own size.
    """
    calibration = Calibration.of_info(message)
    return camera_for_image(calibration, *calibration.announced_size).camera


BLACK = 8
"""Grey levels of 255: a picture whose brightest pixel is darker shows nothing."""


def is_black(image: Image) -> bool:
    """Whether an image shows nothing, by every eighth pixel of every eighth row."""
    return bool(image[::8, ::8].max() < BLACK)


def resize(image: Image, width: int, height: int) -> Image:
    """THE resize: what training, export and the robot all feed the network with. (height, width, 3) uint8, contiguous.

    An axis that shrinks is averaged (`INTER_AREA`: no aliasing), one that grows is interpolated (`INTER_LINEAR`);
    OpenCV does either well but not both at once, hence two steps. An image of that size is returned as it is.

    Raises `ImageError` where a size is not positive.
    """
    if width <= 0 or height <= 0 or image.size == 0:
        raise ImageError(f"cannot resize {image.shape[1]} x {image.shape[0]} px to {width} x {height} px")
    smaller = (min(image.shape[1], width), min(image.shape[0], height))
    for size, interpolation in ((smaller, cv2.INTER_AREA), ((width, height), cv2.INTER_LINEAR)):
        if image.shape[1::-1] != size:
            image = cv2.resize(image, size, interpolation=interpolation)
    return np.ascontiguousarray(image)


IGNORED_COLOUR = (255, 0, 0)
IGNORED_OPACITY = 0.6
"""Of that colour where a mask is 0: what is ignored can still be recognised."""


def overlay(image: Image, mask: Mask) -> Image:
    """(H, W, 3): the image, the redder the less a mask (h, w) over the whole of it lets count."""
    size = image.shape[1::-1]
    opacity = IGNORED_OPACITY * (1 - cv2.resize(mask, size, interpolation=cv2.INTER_LINEAR))
    return cv2.blendLinear(image, np.full_like(image, IGNORED_COLOUR), 1 - opacity, opacity)


def _layout_of(message: Any) -> _Layout:
    layout = _LAYOUTS.get(message.encoding)
    if layout is None:
        known = ", ".join(ENCODINGS)
        raise ImageError(f"encoding {message.encoding!r} is not a picture that can be read; use one of {known}")
    return layout


def _pixels(message: Any, layout: _Layout) -> NDArray[Any]:
    """(rows, W) or (rows, W, channels) uint8 or uint16 in native order; a view of the message where it can be."""
    encoding, width, height, step = message.encoding, message.width, message.height, message.step
    if width == 0 or height == 0:
        raise ImageError(f"{encoding} image is {width} x {height} px: the driver published an empty image")
    if width % layout.multiple_of or (layout.semi_planar and height % layout.multiple_of):
        raise ImageError(f"{encoding} image is {width} x {height} px: its chroma is halved, so its size must be even")
    if layout.conversion in _DEMOSAIC and min(width, height) < 3:
        raise ImageError(f"{encoding} image is {width} x {height} px: demosaicing needs 3 x 3")
    row_bytes = width * layout.channels * layout.bits // 8
    if step < row_bytes:
        raise ImageError(f"{encoding} image of {width} px needs {row_bytes} bytes a row, but its step is {step}")
    rows = height * 3 // 2 if layout.semi_planar else 3 * height if layout.doubled else height
    data = np.frombuffer(message.data, np.uint8)
    last_row = 2 * row_bytes if layout.doubled else row_bytes
    needed = (rows - (2 if layout.doubled else 1)) * step + last_row  # which may come without its padding
    if data.size < needed:
        raise ImageError(
            f"{encoding} image of {width} x {height} px, step {step}, needs {needed} bytes but has {data.size}"
        )
    if layout.doubled:  # a row of chroma takes two steps
        luma = data[: height * step].reshape(height, step)[:, :width]
        chroma = np.lib.stride_tricks.as_strided(
            data[height * step :], (height, 2 * width), (2 * step, 1), writeable=False
        )
        return np.concatenate([luma.repeat(2, axis=0).repeat(2, axis=1), chroma])
    pixels: NDArray[Any] = np.lib.stride_tricks.as_strided(data, (rows, row_bytes), (step, 1), writeable=False)
    if layout.semi_planar and (luma_rows := _padded_luma_rows(data.size, step, height)) > height:
        plane = data[luma_rows * step : (luma_rows + height // 2) * step].reshape(-1, step)[:, :row_bytes]
        pixels = np.concatenate([pixels[:height], plane])
    if layout.bits == 16:
        order = ">u2" if message.is_bigendian else "<u2"
        pixels = np.ascontiguousarray(pixels).view(order).astype(np.uint16, copy=False)
    return pixels if layout.channels == 1 else pixels.reshape(rows, width, layout.channels)


_PLANE_ALIGNMENT = 8
_MOST_PADDED_ROWS = 64


def _padded_luma_rows(size: int, step: int, height: int) -> int:
    """Rows between the starts of both planes of a 4:2:0 image of `size` bytes: hardware decoders align them (1080 to 1088)."""
    rows, rest = divmod(size * 2, 3 * step)
    is_aligned = rest == 0 and rows % _PLANE_ALIGNMENT == 0
    return rows if is_aligned and height < rows < height + _MOST_PADDED_ROWS else height


_DEMOSAIC = frozenset(layout.conversion for name, layout in _LAYOUTS.items() if name.startswith("bayer"))


def _eight_bits(pixels: NDArray[np.uint16], depth: BitDepth | None) -> Image:
    """By the bits that the stream holds, or without a depth stretched between percentiles."""
    if depth is None:
        low, high = np.percentile(pixels, (1, 99))
    else:
        depth.learn(pixels[..., :3] if pixels.ndim == 3 else pixels)
        low, high = 0, depth.highest
    scale = 255 / (high - low) if high > low else 0.0
    return np.clip(np.rint((pixels - np.float32(low)) * np.float32(scale)), 0, 255).astype(np.uint8)


def _decode_bytes(
    data: bytes, what: str, depth: BitDepth | None, *, swapped: bool = False, upright: bool = True
) -> Image:
    if not data:
        raise ImageError(f"{what}: the image has no bytes")
    check_size(data, what)
    flags = (cv2.IMREAD_GRAYSCALE if depth is None else cv2.IMREAD_COLOR) | cv2.IMREAD_ANYDEPTH
    if not upright:
        flags |= cv2.IMREAD_IGNORE_ORIENTATION
    if is_cut_jpeg(data):
        # OpenCV up to 4.10 would show what its memory held before, later ones refuse even a whole picture.
        pixels, other = (_imdecode(ended, flags) for ended in ended_jpegs(data))
        if pixels is not None and (other is None or not np.array_equal(pixels, other)):
            raise ImageError(f"{what}: the JPEG breaks off after {len(data)} bytes, and part of the picture is missing")
    else:
        pixels = _imdecode(data, flags)
        if pixels is not None and _has_grey_corner(pixels):
            first, second = (_imdecode(ended, flags) if ended else None for ended in ended_again(data))
            if first is not None and second is not None and not np.array_equal(first, second):
                raise ImageError(f"{what}: part of the JPEG's picture is missing before the marker that ends it")
    if pixels is None:
        raise ImageError(f"{what}: {len(data)} bytes do not decode as an image; is it jpeg or png, and whole?")
    if pixels.dtype == np.uint16:
        pixels = _eight_bits(pixels, depth)
    if pixels.dtype != np.uint8:
        raise ImageError(f"{what}: {pixels.dtype} pixels are not a picture; use 8 or 16 bit images")
    if pixels.ndim == 2:
        return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
    return pixels if swapped else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def _has_grey_corner(pixels: NDArray[Any]) -> bool:
    """Whether some corner is of the very grey that a JPEG decoder puts where blocks are missing, as few pictures are.

    The last block is in a corner, whichever way the picture was turned. Brightness is exact there, colour may have spread
    from the block beside it.
    """
    if pixels.dtype != np.uint8:
        return False
    for rows in (slice(0, 4), slice(-4, None)):
        for columns in (slice(0, 4), slice(-4, None)):
            corner = pixels[rows, columns].astype(np.float32)
            brightness = corner if corner.ndim == 2 else corner @ np.array([0.114, 0.587, 0.299], np.float32)
            if np.abs(brightness - 128.0).max() <= 1.5:
                return True
    return False


def _imdecode(data: bytes, flags: int) -> NDArray[Any] | None:
    try:
        pixels: NDArray[Any] | None = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None
    return pixels
