"""A stand-in for cv_bridge, as a module's code, with faults to put in."""

from __future__ import annotations

from pathlib import Path

CODE = """
import sys
{at_import}
import numpy as np
class CvBridge:
    def imgmsg_to_cv2(self, message, encoding):
        {at_call}
        pixels = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, -1)
        if message.encoding == "rgb8":
            return pixels
        if message.encoding == "bgr8":
            return pixels[..., ::-1]
        if message.encoding == "mono8":
            return np.repeat(pixels, 3, axis=2)
        raise RuntimeError(f"Unrecognized image encoding [{{message.encoding}}]")
"""
ENCODINGS = ("rgb8", "bgr8", "mono8")
"""What the stand-in decodes."""
ABORTS = "import os; os.abort()"
SEGFAULTS = "import os; os.kill(os.getpid(), 11)"
COMPLAINS = "sys.stderr.write('AttributeError: _ARRAY_API not found')"
"""As NumPy 2 does of a module that was built for NumPy 1, and goes on."""


def code(at_import: str = "", at_call: str = "") -> str:
    return CODE.format(at_import=at_import, at_call=at_call or "pass")


def install(folder: Path, version: str = "9.8.7", *, at_import: str = "", at_call: str = "") -> Path:
    """A folder for PYTHONPATH that holds the stand-in."""
    folder.mkdir(exist_ok=True)
    (folder / "cv_bridge.py").write_text(code(at_import, at_call))
    about = folder / f"cv_bridge-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: cv_bridge\nVersion: {version}\n")
    return folder
