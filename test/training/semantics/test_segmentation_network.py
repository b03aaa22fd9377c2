"""The network answers for every size of image, and its ONNX file answers the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from training.models.backbones import Backbone
from training.semantics.export import export
from training.semantics.network import SegmentationNetwork, SegmentationOptions
from training.semantics.onnx_segmenter import FORMAT, SegmentationFile
from vpr_ros.errors import ConfigError, ModelError

SKIPS = ("features.3", "features.6")


def make(skips: tuple[str, ...] = SKIPS, name: str = "mobilenet_v2", last: str = "features.7") -> SegmentationNetwork:
    torch.manual_seed(0)
    backbone = Backbone(name=name, weights="none", last_block=last)
    options = SegmentationOptions(width=64, height=32, backbone=backbone, skips=skips, channels=8)
    return SegmentationNetwork(options, classes=5)


def random_images(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8))


@pytest.fixture(scope="module")
def network() -> SegmentationNetwork:
    return make().eval()


@pytest.mark.parametrize(("height", "width"), [(32, 64), (64, 32), (50, 37)])
def test_classes_as_fine_as_the_first_skip(network: SegmentationNetwork, height: int, width: int) -> None:
    with torch.no_grad():
        logits = network(random_images(2, height, width))
    assert logits.shape == (2, 5, -(-height // 4), -(-width // 4))


def test_every_part_learns() -> None:
    network = make()
    network(random_images(2, 32, 64)).square().mean().backward()
    without = [name for name, value in network.named_parameters() if value.grad is None or not value.grad.any()]
    assert without == []


@pytest.mark.parametrize(
    ("skips", "message"),
    [
        (("features.6", "features.3"), "network.skips must name the finest features first"),
        (("features.7",), "'features.7' does not come before features.7, where the backbone stops"),
        (("layer1",), "'layer1' does not come before features.7"),
    ],
)
def test_impossible_skips_are_refused(skips: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(skips)


def test_a_backbone_without_numbered_blocks_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"resnet18 has no blocks features.0, features.1, \.\.\.: use mobilenet_v2"):
        make(name="resnet18", last="layer2")


def test_the_file_answers_as_torch_does(network: SegmentationNetwork, tmp_path: Path) -> None:
    export(network, tmp_path / "a.onnx", {"name": "tiny", "table": "camvid"})
    file = SegmentationFile.open(tmp_path / "a.onnx")
    assert file.metadata.items() >= {"name": "tiny", "format": FORMAT, "width": "64", "height": "32"}.items()
    assert file.metadata["parity"].startswith("largest difference of a logit ")
    for shape in ((1, 32, 64), (3, 96, 50)):
        images = random_images(*shape)
        (found,) = file.session.run(None, {"images": images.numpy()})
        with torch.no_grad():
            np.testing.assert_allclose(found, network(images).numpy(), atol=1e-4)


class Random(SegmentationNetwork):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images) + len(images) ** 2  # tracing makes a constant of it


def test_a_file_that_differs_is_not_written(network: SegmentationNetwork, tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"older")
    changed = Random(network.options, classes=5)
    with pytest.raises(ModelError, match=r"differs from torch: a logit by 3; .*a\.onnx is not written"):
        export(changed, tmp_path / "a.onnx", {})
    assert (tmp_path / "a.onnx").read_bytes() == b"older"


def test_the_shipped_network_runs_and_says_what_it_is() -> None:
    path = Path(__file__).parents[3] / "models/segmentation/mobilenetv2_camvid.onnx"
    session = onnxruntime.InferenceSession(path)
    metadata = session.get_modelmeta().custom_metadata_map
    assert (metadata["format"], metadata["table"]) == (FORMAT, "camvid")
    (logits,) = session.run(None, {"images": random_images(1, 64, 96).numpy()})
    assert logits.shape == (1, 11, 16, 24)
