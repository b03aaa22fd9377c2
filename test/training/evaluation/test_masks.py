from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from html_pages import check_page
from hypothesis import given, settings
from hypothesis import strategies as st
from small_worlds import texture

from training.evaluation.masks import MaskAgreement
from training.masks import main
from training.models.network_file import save_network
from training.models.place_network import NetworkOptions, PlaceNetwork


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_agreement_is_that_of_a_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    learned = rng.integers(0, 5, (2, 3, 2)).astype(np.float32) / 4  # ties
    true = rng.integers(0, 3, (2, 3, 2)).astype(np.float32) / 2
    found = MaskAgreement.of(learned, true)
    kept = [a for a, b in zip(learned.ravel(), true.ravel(), strict=True) if b >= 0.5]
    ignored = [a for a, b in zip(learned.ravel(), true.ravel(), strict=True) if b < 0.5]
    pairs = [(k > i) + 0.5 * (k == i) for k in kept for i in ignored]
    assert found.auc == pytest.approx(np.mean(pairs)) if pairs else np.isnan(found.auc)
    both = sum(i < 0.5 for i in ignored)
    either = len(ignored) + sum(k < 0.5 for k in kept)
    assert found.iou == pytest.approx(both / either) if either else np.isnan(found.iou)
    assert found.ignored == pytest.approx(len(ignored) / 12)


def test_a_mask_that_is_right_and_one_that_is_the_opposite() -> None:
    true = np.array([[[0.0, 1.0], [1.0, 0.0]]], np.float32)
    assert MaskAgreement.of(true, true) == MaskAgreement(auc=1.0, iou=1.0, ignored=0.5)
    assert MaskAgreement.of(1 - true, true) == MaskAgreement(auc=0.0, iou=0.0, ignored=0.5)


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Three images, the left half of each sky, the right half building; the labels of the last cannot be read."""
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    for i in range(3):
        cv2.imwrite(str(tmp_path / "images" / f"{i}.jpg"), texture(i, 96, 72))
        labels = np.repeat(np.arange(96)[None] >= 48, 72, axis=0).astype(np.uint8)
        cv2.imwrite(str(tmp_path / "labels" / f"{i}.png"), labels)
    (tmp_path / "labels" / "2.png").write_bytes(b"no image")
    return tmp_path


def network(folder: Path, **attention: object) -> Path:
    torch.manual_seed(0)
    plain = {"width": 96, "height": 64, "backbone": {"name": "resnet18", "weights": "none", "last_block": "layer2"}}
    path = folder / "network.safetensors"
    save_network(PlaceNetwork(NetworkOptions.model_validate({**plain, **attention})), path, {})
    return path


def test_a_page_shows_each_image_with_both_masks(labelled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = network(labelled, attention={"kind": "deattention"})
    arguments = [str(path), str(labelled / "images"), "--labels", str(labelled / "labels"), "--table", "camvid"]
    main([*arguments, "--out", str(labelled / "masks.html")])
    assert "2 images, 8 x 12 positions, 50.0% ignored: AUC " in capsys.readouterr().out
    html = (labelled / "masks.html").read_text()
    check_page(html)
    assert html.count("data:image/jpeg") == 6
    assert "50.0 % of the" in html


def test_a_network_without_a_mask_is_refused(labelled: Path) -> None:
    arguments = [str(network(labelled)), str(labelled / "images"), "--labels", str(labelled / "labels")]
    with pytest.raises(SystemExit, match="masks: this network has no mask"):
        main([*arguments, "--table", "camvid"])
