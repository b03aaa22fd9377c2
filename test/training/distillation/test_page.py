"""The page holds the numbers of a distillation and pictures of its samples, and copes with what cannot be read."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from html_pages import check_page
from numpy.typing import NDArray
from scipy.sparse import csr_array
from small_worlds import texture

from training.data.classes import ClassTable
from training.data.image_set import ImageSet, LabelMaps
from training.data.source import Source
from training.distillation import Audit, Distillation, Distiller, Samples
from training.distillation.distiller import Prepared
from training.distillation.page import write_page

N = 3
RANKS = ((1, 9), (3, 4), (2, 2), (1, 3), (2, 1), (3, 1), (4, 1), (9, 9), (5, 40), (8, 2))
"""x, y of the samples of images (0, 1), (1, 2), ...: two each of D1, D2, D3, and four of D4."""
TABLE = ClassTable.model_validate(
    {
        "classes": {
            0: {"name": "road", "cluster": "ground"},
            1: {"name": "sky", "cluster": "sky"},
            2: {"name": "hood", "cluster": "void"},
            3: {"name": "corridor", "cluster": "indoors <1>"},
        }
    }
)


def samples_of(ranks: tuple[tuple[int, int], ...] = RANKS) -> Samples:
    x, y = np.array(ranks, np.int64).reshape(-1, 2).T
    return Samples(np.arange(len(x)), np.arange(len(x)) + 1, x, y)


def prepared_of(*samples: Samples, **options: object) -> Prepared:
    distillation = Distillation.model_validate({"teacher": "seg<1>.safetensors", "threshold": N, **options})
    audit = sum(map(Audit.of, samples), Audit(0, 0, 0, 0))
    return Prepared(distillation, Distiller([], [], 1.0), samples, audit)


def write_images(folder: Path) -> ImageSet:
    """Eleven images whose label maps are half sky, half road, with a hood and a corridor."""
    for i in range(len(RANKS) + 1):
        cv2.imwrite(str(folder / f"{i}.jpg"), texture(i, 64, 48))
        labels = np.repeat([1, 0], [12, 12]).astype(np.uint8)[:, None].repeat(32, axis=1)
        labels[16:, :16], labels[16:, 16:] = 2, 3
        cv2.imwrite(str(folder / f"{i}.png"), labels)
    count = len(RANKS) + 1
    maps = LabelMaps.of([folder / f"{i}.png" for i in range(count)], TABLE)
    return ImageSet.of("street <1> $", [folder / f"{i}.jpg" for i in range(count)], label_maps=maps)


@pytest.fixture
def images(tmp_path: Path) -> ImageSet:
    return write_images(tmp_path)


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page about all samples."""
    folder = tmp_path_factory.mktemp("shown_street", numbered=False)
    return page(folder, prepared_of(samples_of()), write_images(folder))


def source_of(images: ImageSet) -> Source:
    return Source(images, csr_array((len(images), len(images)), dtype=np.float32))


def page(tmp_path: Path, prepared: Prepared, *sets: ImageSet) -> str:
    out = write_page(tmp_path / "distillation.html", prepared, [source_of(images) for images in sets])
    html = out.read_text(encoding="utf-8")
    check_page(html)
    return html


def captions(html: str) -> list[tuple[int, int, float]]:
    """x, y and weight below each example."""
    found = re.findall(r"rank (\d+) under the teacher, (\d+) under the student · weight (\d\.\d\d)", html)
    return [(int(x), int(y), float(weight)) for x, y, weight in found]


def pictures(html: str) -> list[NDArray[np.uint8]]:
    """RGB, in their order."""
    encoded = re.findall(r"<img src=\"data:image/jpeg;base64,([^\"]+)", html)
    files = [np.frombuffer(base64.b64decode(each), np.uint8) for each in encoded]
    return [cv2.cvtColor(cv2.imdecode(file, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB) for file in files]


def test_shares_audit_and_two_samples_of_each_group(html: str) -> None:
    assert html.count("20.00 %") == 3
    for text in ("40.00 %", "poster 4.11 %", "poster 50.67 %", "poster 14.77 %", "poster 30.45 %", "N = 3."):
        assert text in html
    tiles = dict(re.findall(r"<b>([\d,]+)</b><span>([^<]+)", html)[i][::-1] for i in range(5))
    assert tiles == {
        "queries": "10",
        "solved by the teacher": "2",  # by its x = 1
        "solved by the student": "3",
        "by the teacher alone": "2",
        "by the student alone": "3",
    }
    assert "street &lt;1&gt; $ (10)" in html
    assert "seg&lt;1&gt;.safetensors" in html
    sample = {ranks: weight for ranks, weight in zip(RANKS, samples_of().weights(N, 0.5, 1.0), strict=True)}
    shown = captions(html)
    assert [int(samples_of(((x, y),)).groups(N)[0]) for x, y, _ in shown] == [1, 1, 2, 2, 3, 3, 4, 4]
    assert len({(x, y) for x, y, _ in shown}) == 8
    assert [weight for *_, weight in shown] == pytest.approx([sample[x, y] for x, y, _ in shown], abs=0.006)


def test_the_same_samples_make_the_same_page(tmp_path: Path, html: str) -> None:
    again = tmp_path / "shown_street"  # the name is on the page
    again.mkdir()
    assert page(again, prepared_of(samples_of()), write_images(again)) == html


def test_a_label_map_below_each_image_in_the_colours_of_the_legend(html: str) -> None:
    legend = {
        name.strip(): np.array([int(colour[i : i + 2], 16) for i in (0, 2, 4)])
        for colour, name in re.findall(r"background: #(\w{6})\"></i>([^<]+)", html.partition("Examples")[2])
    }
    assert legend.keys() == {"ground", "sky", "indoors &lt;1&gt;"}
    shown = pictures(html)
    assert len(shown) == 8 * 4
    for map_of_one in shown[1::2]:
        assert map_of_one.shape == (24, 32, 3)
        for cluster, row, column in (("sky", 6, 16), ("ground", 14, 16), ("indoors &lt;1&gt;", 20, 26)):
            np.testing.assert_allclose(map_of_one[row, column], legend[cluster], atol=12)
        np.testing.assert_allclose(map_of_one[20, 6], 0, atol=12)  # void


def test_the_images_are_those_of_the_sample(html: str) -> None:
    names = re.findall(r"/(\d+)\.jpg</span>", html)
    queries, positives = names[::2], names[1::2]
    assert [RANKS[int(query)] for query in queries] == [(x, y) for x, y, _ in captions(html)]
    assert [int(positive) for positive in positives] == [int(query) + 1 for query in queries]


def test_files_that_cannot_be_read_leave_gaps(tmp_path: Path, images: ImageSet) -> None:
    for i in range(0, len(images), 2):
        images.paths[i].write_text("no image")
    for i in range(1, len(images), 2):
        (tmp_path / f"{i}.png").unlink()
    html = page(tmp_path, prepared_of(samples_of()), images)
    assert html.count("cannot be read") == len(pictures(html)) == 8 * 2


def test_a_source_without_label_maps_and_one_without_samples(tmp_path: Path, images: ImageSet) -> None:
    bare = ImageSet.of("bare", images.paths)
    html = page(tmp_path, prepared_of(samples_of(), samples_of(())), bare, ImageSet.of("clips", images.paths))
    assert len(pictures(html)) == 8 * 2
    assert "all sources (10)" in html
    assert "bare (10)" in html
    assert "clips (0)" in html
    assert "sky" not in html


def test_a_group_without_samples_has_no_example(tmp_path: Path, images: ImageSet) -> None:
    html = page(tmp_path, prepared_of(samples_of(((1, 1), (1, 2), (1, 3), (1, 2)))), images)
    assert len(captions(html)) == 2
    assert html.count("0.00 %") == 4  # one of them is that of 100.00 %


def test_the_weights_are_those_of_the_chosen_samples(tmp_path: Path, images: ImageSet) -> None:
    html = page(tmp_path, prepared_of(samples_of(), samples="S2", shuffled=True), images)
    assert [weight for *_, weight in captions(html)] == [0, 0, 0, 0, 0, 0, 1, 1]
    assert "without 6 of weight 0" in html
    assert "samples: S2, shuffled teacher" in html
