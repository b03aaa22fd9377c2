"""Exporting is checked, whole or not at all, and says where a model came from."""

from __future__ import annotations

import errno
import json
import re
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import onnx
import pytest
import torch
import yaml
from onnx import TensorProto, helper
from small_worlds import texture
from torch import Tensor, nn

from training.export.__main__ import main
from training.export.place_model import export, export_file, parity_images, read_images
from training.models.place_network import NetworkOptions, PlaceNetwork
from vpr_ros.engines.open import open_reference
from vpr_ros.errors import ModelError, SourceError
from vpr_ros.images import read_image, resize
from vpr_ros.model import FORMAT, PlaceModel

WIDTH, HEIGHT, DIM = 24, 16, 8


class Tiny(nn.Module):
    """(N, H, W, 3) uint8 -> (N, 8), unit length: what training.models.network_file would load."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.options = SimpleNamespace(width=WIDTH, height=HEIGHT)
        self.convolution = nn.Conv2d(3, DIM, 5, stride=4)
        self.power = nn.Parameter(torch.tensor(2.2))  # an exporter that loses the learnt power of GeM shows

    def maps(self, images: Tensor) -> Tensor:
        return self.convolution(images.permute(0, 3, 1, 2) / 255.0)

    def forward(self, images: Tensor) -> Tensor:
        pooled = self.maps(images).clamp(min=1e-6).pow(self.power).mean((2, 3)).pow(1 / self.power)
        return nn.functional.normalize(pooled, dim=1)


class Maps(Tiny):
    def forward(self, images: Tensor) -> Tensor:
        return self.maps(images)


class Unnormalised(Tiny):
    def forward(self, images: Tensor) -> Tensor:
        return 3 * super().forward(images)


class Contrast(Tiny):
    def forward(self, images: Tensor) -> Tensor:
        pooled = self.maps(images).mean((2, 3)) / images.float().std((1, 2, 3))[:, None]
        return nn.functional.normalize(pooled, dim=1)


class Attentive(PlaceNetwork):
    """A real network, for images of 64 x 48 px and a mask of 6 x 8."""

    def __init__(self, attention: str = "deattention") -> None:
        torch.manual_seed(0)
        backbone = {"name": "resnet18", "weights": "none", "last_block": "layer2"}
        network = {"width": 64, "height": 48, "backbone": backbone, "attention": {"kind": attention}}
        super().__init__(NetworkOptions.model_validate(network))


class MaskOfTheBatch(Attentive):
    def with_mask(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        descriptors, mask = super().with_mask(images)
        return descriptors, mask / len(images)  # tracing makes a constant of it


class MaskInPercent(Attentive):
    def with_mask(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        descriptors, mask = super().with_mask(images)
        return descriptors, 100 * mask


class BrightnessOfTheBatch(Tiny):
    def forward(self, images: Tensor) -> Tensor:
        pooled = self.maps(images).mean((2, 3)) + 9 * len(images)  # tracing makes a constant of it
        return nn.functional.normalize(pooled * torch.arange(DIM) ** len(images), dim=1)


def export_tiny(path: Path, network: nn.Module | None = None, **metadata: str) -> PlaceModel:
    return export(network or Tiny(), path, width=WIDTH, height=HEIGHT, metadata=metadata)


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """The description of an ONNX file that averages the image."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["descriptors"]),
    ]
    graph = helper.make_graph(
        nodes,
        "mean",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, HEIGHT, WIDTH])],
        [helper.make_tensor_value_info("descriptors", TensorProto.FLOAT, ["n", 3])],
    )
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), tmp_path / "theirs.onnx")
    content = {
        "name": "theirs",
        "licence": "MIT",
        "trained_on": "streets",
        "source": {"kind": "onnx", "path": "theirs.onnx"},
        "preprocessing": {"width": WIDTH, "height": HEIGHT, "mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]},
    }
    path = tmp_path / "theirs.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def camera(tmp_path: Path) -> Path:
    folder = tmp_path / "camera"
    folder.mkdir()
    for i in range(40):
        cv2.imwrite(str(folder / f"{i}.png"), texture(i, 32, 20))
    return folder


def test_the_file_equals_torch_and_says_so(tmp_path: Path) -> None:
    network = Tiny()
    model = export_tiny(tmp_path / "new" / "model.onnx", network, name="tiny", recipe="{}", commit="abc", trained_on="")
    assert (model.name, model.width, model.height, model.dim) == ("tiny", WIDTH, HEIGHT, DIM)
    assert {key: model.metadata[key] for key in ("format", "recipe", "commit")} == {
        "format": FORMAT,
        "recipe": "{}",
        "commit": "abc",
    }
    assert "trained_on" not in model.metadata
    assert model.metadata["exported_with"].startswith(f"torch {torch.__version__}, onnx {onnx.__version__}")
    assert float(model.metadata["parity"].split()[2]) > 0.9999
    images = np.random.default_rng(1).integers(0, 256, (5, HEIGHT, WIDTH, 3), dtype=np.uint8)
    with torch.no_grad():
        expected = network(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(open_reference(model).describe(images), expected, atol=1e-5)
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("attention", ["deattention", "crn", "cbam"])
def test_a_mask_is_a_second_output(tmp_path: Path, attention: str) -> None:
    network = Attentive(attention)
    recipe = json.dumps({"guidance": {"categories": ["human", "sky"]}})
    model = export(network, tmp_path / "model.onnx", width=64, height=48, metadata={"recipe": recipe})
    assert model.mask_size == (6, 8)
    assert model.metadata["ignores"] == "human, sky"
    parity = re.fullmatch(r"cosine >= (\S+) over 9 images, mask within (\S+)", model.metadata["parity"])
    assert parity
    assert float(parity[1]) > 0.9999
    assert float(parity[2]) < 1e-3
    images = np.stack([texture(seed, 64, 48) for seed in range(3)])
    with torch.no_grad():
        expected, mask = network.with_mask(torch.from_numpy(images))
    descriptors, masks = open_reference(model).describe_with_mask(images)
    np.testing.assert_allclose(descriptors, expected, atol=1e-5)
    np.testing.assert_allclose(masks, mask[:, 0], atol=1e-5)


@pytest.mark.parametrize("attention", ["bam", "se"])
def test_attention_without_a_mask_has_one_output(tmp_path: Path, attention: str) -> None:
    recipe = json.dumps({"guidance": None})
    model = export(Attentive(attention), tmp_path / "model.onnx", width=64, height=48, metadata={"recipe": recipe})
    assert model.mask_size is None
    assert "mask" not in model.metadata["parity"]
    assert [output.name for output in onnx.load(model.path).graph.output] == ["descriptors"]


def test_a_mask_that_nothing_guided_ignores_nothing_in_particular(tmp_path: Path) -> None:
    for metadata in ({}, {"recipe": '{"guidance": null}'}):
        model = export(Attentive("crn"), tmp_path / "model.onnx", width=64, height=48, metadata=metadata)
        assert "ignores" not in model.metadata


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (MaskOfTheBatch, r"exported mask differs from the network's by 0\.\d+, at most 0\.001 is allowed"),
        (MaskInPercent, r"mask of the network goes from \d\S* to \d\S*, not 0 to 1"),
    ],
)
def test_a_mask_that_is_not_the_networks_is_refused(tmp_path: Path, network: type[Attentive], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        export(network(), tmp_path / "model.onnx", width=64, height=48, metadata={})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Maps(), r"returns \(2, 8, 3, 5\) for 2 images, not \(N, D\)"),
        (Unnormalised(), "descriptor of an image has length 3, not 1"),
        (Contrast(), "descriptor of an image of one colour is not finite"),
        (BrightnessOfTheBatch(), r"differs from the network: cosine 0\.\d+, at least 0\.9999 is needed"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_refused_export_leaves_the_older_file(tmp_path: Path, network: nn.Module, message: str) -> None:
    older = export_tiny(tmp_path / "model.onnx")
    with pytest.raises(ModelError, match=message):
        export_tiny(tmp_path / "model.onnx", network)
    assert (tmp_path / "model.onnx").read_bytes() == older.content
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


def test_a_parity_that_is_no_number_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.export.place_model.parity", lambda *_: float("nan"))
    with pytest.raises(ModelError, match="cosine nan"):
        export_tiny(tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_older_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    older = export_tiny(tmp_path / "model.onnx")

    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("vpr_ros.files.os.fsync", full)
    with pytest.raises(ModelError, match=r"cannot write .*model\.onnx: No space left on device"):
        export_tiny(tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").read_bytes() == older.content
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


def test_parity_is_measured_where_networks_go_wrong() -> None:
    images = parity_images(WIDTH, HEIGHT)
    assert images.shape == (9, HEIGHT, WIDTH, 3)
    of_one_colour = [int(image.min()) for image in images if image.min() == image.max()]
    assert of_one_colour == [0, 255]


def test_real_images_come_from_all_over_the_folder(camera: Path) -> None:
    images = read_images(camera, WIDTH, HEIGHT)
    assert images is not None
    assert len(images) == 32
    for found, name in ((images[0], "0.png"), (images[-1], "39.png")):
        np.testing.assert_array_equal(found, resize(read_image(camera / name), WIDTH, HEIGHT))


def test_a_network_of_ours_with_its_metadata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metadata = {"format": "vpr_ros.network.1", "name": "first", "recipe": "{}", "trained_on": "streets"}
    monkeypatch.setattr("training.export.place_model.load_network", lambda _: Tiny())
    monkeypatch.setattr("training.export.place_model.read_metadata", lambda _: metadata)
    model = export_file(tmp_path / "network.safetensors", tmp_path / "model.onnx")
    assert (
        model.metadata.items() >= {"format": FORMAT, "name": "first", "recipe": "{}", "trained_on": "streets"}.items()
    )
    assert export_file(tmp_path / "network.safetensors", tmp_path / "model.onnx", name="second").name == "second"


def test_a_published_model_from_the_command_line(
    published: Path, camera: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(published), str(tmp_path / "ours.onnx"), "--images", str(camera)])
    model = PlaceModel.open(tmp_path / "ours.onnx")
    said = capsys.readouterr().out
    assert f"wrote {tmp_path}/ours.onnx" in said
    assert f"id {model.id[:12]}: cosine >= " in said
    assert "over 41 images" in said
    assert model.metadata.items() >= {"name": "theirs", "licence": "MIT", "trained_on": "streets"}.items()
    assert json.loads(model.metadata["published"])["source"]["path"] == "theirs.onnx"
    main([str(published), str(tmp_path / "ours.onnx"), "--name", "mine"])
    assert PlaceModel.open(tmp_path / "ours.onnx").name == "mine"


def test_the_published_file_is_not_overwritten(published: Path) -> None:
    theirs = published.with_suffix(".onnx")
    before = theirs.read_bytes()
    with pytest.raises(ModelError, match="is the published file itself"):
        export_file(published, theirs)
    assert theirs.read_bytes() == before


def test_what_cannot_be_exported_is_said_in_one_line(published: Path, tmp_path: Path) -> None:
    with pytest.raises(
        SystemExit, match=r"export: .*theirs\.onnx must be network\.safetensors .* or the YAML"
    ) as refused:
        main([str(published.with_suffix(".onnx")), str(tmp_path / "ours.onnx")])
    assert "\n" not in str(refused.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="no images"):
        export_file(published, tmp_path / "ours.onnx", images=tmp_path / "empty")
