"""What a user names becomes something that describes images."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from small_worlds import save_grid_model, texture

from training.evaluation import describers
from training.evaluation.describers import PatchThumbnail, open_describer
from vpr_ros.engines.describe import describe_image
from vpr_ros.engines.open import open_reference
from vpr_ros.errors import ModelError
from vpr_ros.model import PlaceModel
from vpr_ros.types import Image


def slow_thumbnail(image: Image) -> np.ndarray:
    small = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (64, 32), interpolation=cv2.INTER_AREA).astype(float)
    patches = []
    for top in range(0, 32, 8):
        for left in range(0, 64, 8):
            patch = small[top : top + 8, left : left + 8].ravel()
            patches.append((patch - patch.mean()) / (patch.std() + 1e-6))
    flat = np.concatenate(patches)
    return flat / np.linalg.norm(flat)


def test_thumbnail_is_its_definition() -> None:
    images = [texture(1, 80, 60), texture(2, 200, 150)]
    described = PatchThumbnail().describe(images)
    assert described.dtype == np.float32
    np.testing.assert_allclose(described, [slow_thumbnail(image) for image in images], atol=1e-5)


def test_thumbnail_of_one_colour_is_zero_not_nan() -> None:
    described = PatchThumbnail().describe([np.full((60, 80, 3), 90, np.uint8)])
    np.testing.assert_array_equal(described, np.zeros((1, 2048)))


def test_onnx_file_describes_as_the_robot_does(tmp_path: Path) -> None:
    path = save_grid_model(tmp_path / "grid.onnx")
    engine = open_reference(PlaceModel.open(path))
    images = [texture(1, 80, 60), texture(2, 200, 150), texture(3, 64, 48)]
    describer = open_describer(str(path))
    assert describer.id == engine.model.id
    assert describer.name == f"grid ({engine.model.id[:8]})"
    np.testing.assert_allclose(
        describer.describe(images), [describe_image(engine, image) for image in images], atol=1e-6
    )


class HalfSize(torch.nn.Module):
    """Descriptor of a 4 x 2 image: is the left half brighter?"""

    options = SimpleNamespace(width=4, height=2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert images.dtype == torch.uint8
        assert images.shape[1:] == (2, 4, 3)
        halves = images.float().mean(dim=(1, 3)).unflatten(1, (2, 2)).mean(dim=2)
        return torch.nn.functional.normalize(halves, dim=1)


def test_network_is_fed_at_its_size_and_named_after_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(describers, "load_network", lambda path: HalfSize().eval())
    ids = []
    for content in (b"one", b"two"):
        path = tmp_path / "gcl_seed1" / "network.safetensors"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        describer = open_describer(str(path))
        ids.append(describer.id)
        assert describer.name == f"gcl_seed1 ({describer.id[:8]})"
    assert ids[0] != ids[1]
    left = np.zeros((60, 80, 3), np.uint8)
    left[:, :40] = 200
    np.testing.assert_allclose(describer.describe([left, left[:, ::-1]]), [[1, 0], [0, 1]], atol=1e-6)


def test_published_model_is_described_by_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def describe(images: np.ndarray) -> np.ndarray:
        return np.ones((len(images), images.shape[1] * images.shape[2]), np.float32)

    def published(path: Path) -> SimpleNamespace:
        return SimpleNamespace(name=path.stem, id="0123456789", width=4, height=2, describe=describe)

    monkeypatch.setattr(describers, "open_published", published)
    describer = open_describer(str(tmp_path / "boq.yaml"))
    assert (describer.name, describer.id) == ("boq (01234567)", "0123456789")
    assert describer.describe([texture(1, 80, 60)]).shape == (1, 8)


def test_anything_else_is_refused() -> None:
    with pytest.raises(
        ModelError, match=r"'model\.pth' is no model: it must be thumbnail or a file ending in \.onnx, "
    ):
        open_describer("model.pth")
