"""The parts of a page: templates that escape, plots that follow the page's colours, pictures that are small."""

from __future__ import annotations

import base64
from pathlib import Path

import cv2
import jinja2
import matplotlib
import numpy as np
import pytest
from html_pages import check_page
from matplotlib.figure import Figure

from vpr_ros.evaluation.figures import GREEN, INK, STYLE, data_uri, render, svg
from vpr_ros.types import Image


def test_templates_escape_text_and_insist_on_every_name(tmp_path: Path) -> None:
    template = tmp_path / "page.html.j2"
    template.write_text("<p>{{ text }}</p>")
    assert render(template, text="a < b") == "<p>a &lt; b</p>"
    with pytest.raises(jinja2.UndefinedError, match="'text' is undefined"):
        render(template, words="a")


def plot() -> str:
    with matplotlib.rc_context(STYLE):
        figure = Figure()
        figure.add_subplot(xlabel="recall").plot([0, 1], color=GREEN)
        return svg(figure, "A line")


def test_a_plot_is_inline_in_the_ink_of_the_page() -> None:
    drawn = plot()
    check_page(f"<main>{drawn}</main>")
    assert drawn.startswith('<svg role="img" aria-label="A line"')
    assert ">recall<" in drawn, "text stays text"
    assert GREEN in drawn
    assert "currentColor" in drawn
    assert INK not in drawn


def test_the_same_plot_is_the_same_text() -> None:
    assert plot() == plot()


def decoded(uri: str) -> Image:
    kind, _, data = uri.partition(",")
    assert kind == "data:image/jpeg;base64"
    bgr = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def test_a_picture_keeps_its_colours_and_proportions() -> None:
    small = np.full((48, 64, 3), (200, 40, 90), np.uint8)
    np.testing.assert_allclose(decoded(data_uri(small)), small, atol=3)
    assert decoded(data_uri(np.zeros((300, 1000, 3), np.uint8))).shape == (144, 480, 3)
    assert decoded(data_uri(small, 32)).shape == (24, 32, 3)
    assert decoded(data_uri(np.zeros((1, 1000, 3), np.uint8))).shape == (1, 480, 3)
