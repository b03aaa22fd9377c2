"""The page holds the numbers, loads nothing, and copes with whatever is missing."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from html_pages import check_page
from small_worlds import texture

from training.data.image_set import ImageSet
from training.labels.field_of_view import FieldOfView
from training.labels.page import write_page
from training.labels.rules import Clips, SamePlace


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    folder = tmp_path_factory.mktemp("street")
    paths = [folder / f"{i:02}.jpg" for i in range(20)]
    for seed, path in enumerate(paths[:-1]):
        cv2.imwrite(str(path), texture(seed, 64, 48))
    paths[-1].write_text("no image")
    positions = np.column_stack([3.0 * np.arange(20), np.zeros(20)])
    return ImageSet.of(
        "street <1>", paths, positions_m=positions, headings_rad=np.zeros(20), places=np.arange(20) // 10
    )


def test_the_page_counts_pairs_and_shows_some(tmp_path: Path, street: ImageSet) -> None:
    rule = FieldOfView()
    psi = rule.similarity(street)
    out = write_page([(street, psi, rule.model_dump_json())], tmp_path / "labels.html")
    html = out.read_text(encoding="utf-8")
    check_page(html)
    assert "street &lt;1&gt;" in html
    assert "field_of_view" in html
    dense = np.triu(psi.toarray(), k=1)
    positive, soft = int((dense >= 0.5).sum()), int(((dense > 0) & (dense < 0.5)).sum())
    for count in (positive, soft, 190 - positive - soft):
        assert f">{count} pairs<" in html
    assert f"{100 * positive / 190:.3g} %" in html
    assert "Mean psi over relative pose" in html
    assert html.count("<figure>") > 4
    assert html.count("data:image/jpeg") >= html.count("<figure>")
    for value, metres in re.findall(r"psi (0\.\d+|1\.00) · (\d+\.\d) m · 0°", html):
        i = round(float(metres) / 3.0)
        assert float(value) == pytest.approx(psi[0, i], abs=0.006)


def test_unknown_pairs_and_missing_poses(tmp_path: Path, street: ImageSet) -> None:
    lone = ImageSet.of("clip", street.paths[:4])
    html = write_page([(lone, Clips().similarity(lone), "clips")], tmp_path / "labels.html").read_text()
    assert "100 %" in html
    assert ">6 pairs<" in html
    assert "Mean psi" not in html
    assert "<figure>" not in html


def test_binary_labels_show_pairs_of_one_place_and_images_that_cannot_be_read(tmp_path: Path, street: ImageSet) -> None:
    last = street.take(np.arange(18, 20))
    html = write_page([(last, SamePlace().similarity(last), "same place")], tmp_path / "labels.html").read_text()
    assert "psi about 1.0" in html
    assert html.count("<figure>") == 1
    assert html.count("cannot be read") == 1


def test_one_image_alone(tmp_path: Path, street: ImageSet) -> None:
    one = street.take([0])
    html = write_page([(one, FieldOfView().similarity(one), "")], tmp_path / "labels.html").read_text()
    assert html.count(">0 pairs<") == 4
