"""What our self-contained HTML pages are made of: templates, plots and pictures, all inline."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import cv2
import jinja2
from matplotlib.figure import Figure

from vpr_ros.errors import ImageError
from vpr_ros.images import read_image
from vpr_ros.plot_style import AMBER, BLUE, GREEN, INK, RED, STYLE
from vpr_ros.types import Image

__all__ = ["AMBER", "BLUE", "GREEN", "INK", "RED", "STYLE", "data_uri", "render", "svg"]

_TEMPLATES = Path(__file__).with_name("templates")
_WIDTH_PX = 480
_JPEG_QUALITY = 80


def render(template: Path, **values: object) -> str:
    """HTML from a Jinja file, which may extend `base.html.j2` and import from `picture.html.j2` of the folder `templates`.

    Text is escaped, and a name that `values` lacks raises jinja2.UndefinedError.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, _TEMPLATES]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(GREEN=GREEN, RED=RED, AMBER=AMBER, BLUE=BLUE)
    return environment.get_template(template.name).render(values)


def svg(figure: Figure, title: str) -> str:
    """Inline SVG in the colours of the page; `title` is for readers who cannot see it."""
    buffer = io.StringIO()
    metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
    figure.savefig(buffer, format="svg", transparent=True, metadata=metadata)
    svg = buffer.getvalue().replace(INK, "currentColor")
    return svg[svg.index("<svg") :].replace("<svg", f'<svg role="img" aria-label="{title}"', 1)


def data_uri(image: Image, width_px: int = _WIDTH_PX) -> str:
    """An RGB image as a small JPEG, at most `width_px` wide, for the `src` of an `<img>`."""
    height, width = image.shape[:2]
    if width > width_px:
        image = cv2.resize(image, (width_px, max(1, round(height * width_px / width))), interpolation=cv2.INTER_AREA)
    encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1]
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode()


def file_uri(path: Path | None, width_px: int = _WIDTH_PX) -> str | None:
    """An image file as `data_uri` has it; None where there is none or it cannot be read."""
    if path is None:
        return None
    try:
        return data_uri(read_image(path), width_px)
    except ImageError:
        return None
