"""Label images and Hugging Face models. The library is not needed here: a stand-in shows how it is called."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from training.semantics.segmenters import LabelImages, TransformersSegmenter, scaled
from vpr_ros.errors import ImageError, ModelError, SourceError

LABELS = np.kron(np.array([[0, 5], [8, 11]], np.uint8), np.ones((8, 8), np.uint8))


def test_label_images_are_picked_never_averaged(tmp_path: Path) -> None:
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    cv2.imwrite(str(tmp_path / "labels/a.png"), LABELS)
    segmenter = LabelImages(tmp_path / "images", tmp_path / "labels")
    assert segmenter.label_map(tmp_path / "images/a.jpg", 0.25).tolist() == [
        *([[0, 0, 5, 5]] * 2),
        *([[8, 8, 11, 11]] * 2),
    ]
    assert segmenter.made_by == {"labels": str(tmp_path / "labels")}
    with pytest.raises(SourceError, match=r"b\.jpg has no label image"):
        segmenter.label_map(tmp_path / "images/b.jpg", 0.25)


def test_a_label_map_has_at_least_a_pixel() -> None:
    assert scaled((480, 360, 3), 0.25) == (120, 90)
    assert scaled((2, 1), 0.25) == (1, 1)


class Answers:
    """A processor and a model whose semantic map is 1 where the image is bright."""

    device = torch.device("cpu")
    config = SimpleNamespace(_commit_hash="abc")

    def __init__(self, known: bool = True) -> None:
        self.known = known

    def from_pretrained(self, name: str) -> Answers:
        if name == "nowhere":
            raise OSError("nowhere is not a local folder and is not a model\nsecond line")
        if not self.known:
            raise ValueError("Unrecognized configuration class")
        return self

    def to(self, _: Any) -> Answers:
        return self

    def eval(self) -> Answers:
        return self

    def __call__(self, images: Any = None, return_tensors: str | None = None, pixels: Any = None) -> Any:
        if images is not None:
            assert return_tensors == "pt"
            assert images.shape == (16, 16, 3)
            return Inputs(pixels=torch.from_numpy(images))
        return SimpleNamespace(logits=pixels)

    def post_process_semantic_segmentation(self, outputs: Any, target_sizes: list[tuple[int, int]]) -> list[Any]:
        (height, width), grey = target_sizes[0], outputs.logits[..., 0]
        return [(grey[:: 16 // height, :: 16 // width] > 99).long()]


class Inputs(dict[str, Any]):
    def to(self, _: Any) -> Inputs:
        return self


def install(monkeypatch: pytest.MonkeyPatch, semantic: Answers) -> None:
    module = ModuleType("transformers")
    module.AutoImageProcessor = module.AutoModelForUniversalSegmentation = Answers()  # type: ignore[attr-defined]
    module.AutoModelForSemanticSegmentation = semantic  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "transformers", module)


@pytest.mark.parametrize("semantic", [Answers(), Answers(known=False)], ids=["semantic", "universal"])
def test_a_hugging_face_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, semantic: Answers) -> None:
    install(monkeypatch, semantic)
    cv2.imwrite(str(tmp_path / "a.png"), LABELS * 20)
    segmenter = TransformersSegmenter("nvidia/some")
    labels = segmenter.label_map(tmp_path / "a.png", 0.25)
    assert labels.dtype == np.uint8
    assert labels.tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]]
    assert segmenter.made_by == {"model": "nvidia/some", "commit": "abc"}
    (tmp_path / "b.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"b\.png"):
        segmenter.label_map(tmp_path / "b.png", 0.25)


def test_a_model_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Answers())
    with pytest.raises(
        ModelError, match="transformers cannot load 'nowhere' for semantic segmentation: nowhere is not"
    ):
        TransformersSegmenter("nowhere")


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ModelError, match="pip install transformers"):
        TransformersSegmenter("nvidia/some")
