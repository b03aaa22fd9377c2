"""Which decoder turns camera messages into pictures: cv_bridge where it works and knows the encoding, ours elsewhere.

What cv_bridge is handed is checked and packed by us: it shears or shifts pictures with padded rows, and fails on messages that are
marked as big-endian with NumPy 2. Only encodings of 8 bits are its: how 16 bits become 8 is `BitDepth`'s to
decide. Compressed images are always decoded by us: there cv_bridge only calls `cv2.imdecode`, with flags that drop 8 of 16 bits in
Humble and ignore EXIF in later distributions.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vpr_ros.errors import ImageError
from vpr_ros.images import BitDepth, decode_compressed, decode_image, packed_pixels
from vpr_ros.printable import on_one_line
from vpr_ros.types import Image

CV_BRIDGE_ENCODINGS = (
    "rgb8", "bgr8", "rgba8", "bgra8", "mono8", "yuv422", "yuv422_yuy2",
    "bayer_rggb8", "bayer_bggr8", "bayer_gbrg8", "bayer_grbg8",
)  # fmt: skip
"""Those of 8 bits that some cv_bridge converts to rgb8. None converts 8UC1, 8UC3, 8UC4, uyvy, yuyv, nv12 or nv21."""
TOLERANCE = 2
"""Grey levels by which the decoders may differ: versions of OpenCV round YUV and mosaics differently."""


@dataclass(frozen=True, slots=True)
class PackedImage:
    """A `sensor_msgs/Image` without padding, in native byte order: what every version of cv_bridge reads alike."""

    encoding: str
    height: int
    width: int
    step: int
    data: NDArray[np.uint8]
    is_bigendian: int = int(sys.byteorder == "big")


class Decoder:
    """Camera messages -> RGB: raw ones in the encodings `bridged` by cv_bridge, all others by `vpr_ros.images`."""

    def __init__(self, description: str, bridge: Any = None, bridged: tuple[str, ...] = ()) -> None:
        """`bridge` is a `cv_bridge.CvBridge`."""
        self.description = description
        """For logs and /diagnostics."""
        self.bridged = bridged
        self._bridge = bridge

    def raw(self, message: Any, depth: BitDepth | None = None) -> Image:
        """As `decode_image`, with the same errors; whatever cv_bridge raises is an `ImageError`, too."""
        return self._bridged(message) if message.encoding in self.bridged else decode_image(message, depth)

    def compressed(self, message: Any, depth: BitDepth | None = None) -> Image:
        """As `decode_compressed`."""
        return decode_compressed(message, depth)

    def _bridged(self, message: Any) -> Image:
        pixels = packed_pixels(message)
        height, width = pixels.shape[:2]
        packed = PackedImage(message.encoding, height, width, pixels[0].nbytes, pixels.reshape(-1))
        try:
            picture = self._bridge.imgmsg_to_cv2(packed, "rgb8")
        except Exception as error:  # NumPy's, OpenCV's or Boost's: of any type
            what = f"{message.encoding} image of {width} x {height} px"
            raise ImageError(f"{what}: cv_bridge fails: {named(error)}") from None
        if not isinstance(picture, np.ndarray) or picture.shape != (height, width, 3) or picture.dtype != np.uint8:
            got = f"{getattr(picture, 'dtype', type(picture).__name__)} {getattr(picture, 'shape', '')}".strip()
            raise ImageError(f"{message.encoding} image of {width} x {height} px: cv_bridge made {got} of it, not rgb8")
        is_view = np.may_share_memory(picture, pixels)
        return picture.copy() if is_view or not picture.flags.writeable else np.ascontiguousarray(picture)


def checked_encodings() -> tuple[list[str], str]:
    """The encodings in which the installed cv_bridge makes the same picture as we do, and why not in the first other.

    Imports cv_bridge, which can end the process.
    """
    decoder = Decoder("probe", new_bridge(), CV_BRIDGE_ENCODINGS)
    height, width = 8, 12
    random = np.random.default_rng(0)
    agreed, fault = [], ""
    for encoding in CV_BRIDGE_ENCODINGS:
        data = random.integers(0, 256, height * width * 4, np.uint8)
        message = PackedImage(encoding, height, width, width * 4, data)  # padded, unless it has four channels
        try:
            apart = np.abs(decoder.raw(message).astype(int) - decode_image(message)).max()
        except ImageError as error:
            fault = fault or str(error)
            continue
        if apart <= TOLERANCE:
            agreed.append(encoding)
        else:
            fault = fault or f"a picture in {encoding} differs by {apart} grey levels"
    return agreed, fault


def new_bridge() -> Any:
    """A `cv_bridge.CvBridge`. Raises whatever its import raises, or ends the process."""
    from cv_bridge import CvBridge

    return CvBridge()


def named(error: Exception) -> str:
    """Type and text, on one line."""
    return on_one_line(f"{type(error).__name__}: {error}")
