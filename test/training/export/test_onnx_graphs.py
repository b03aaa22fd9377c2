"""Published ONNX files of many makes become our graph; torch networks do by whichever exporter of torch knows how."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import yaml
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from training.export.place_model import export, export_published
from training.models.published import open_published
from vpr_ros.engines.open import open_reference
from vpr_ros.errors import ModelError

WIDTH, HEIGHT, DIM = 24, 16, 8


def pixels(n: int = 5) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (n, HEIGHT, WIDTH, 3), dtype=np.uint8)


def described(folder: Path, graph: onnx.ModelProto, output: str | None = None, **changes: Any) -> Path:
    onnx.save(graph, folder / "theirs.onnx")
    return description(folder, output, **changes)


def description(folder: Path, output: str | None = None, **changes: Any) -> Path:
    preprocessing = {"width": WIDTH, "height": HEIGHT, "mean": [0.5, 0.4, 0.3], "std": [0.1, 0.2, 0.3]} | changes
    source = {"kind": "onnx", "path": "theirs.onnx", "output": output}
    path = folder / "theirs.yaml"
    path.write_text(yaml.safe_dump({"name": "theirs", "source": source, "preprocessing": preprocessing}))
    return path


def network_graph(
    shape: tuple[int | str, ...] = ("n", 3, HEIGHT, WIDTH),
    *,
    opset: int = 17,
    ir: int = 8,
    layout: str = "nchw",
    ending: str = "flatten",
    names: tuple[str, str] = ("x", "y"),
    element: type[np.generic] = np.float32,
) -> onnx.ModelProto:
    """Convolution, ReLU, mean over the image, and one of several endings that real files have."""
    rng = np.random.default_rng(0)
    taken, returned = names
    constants = {
        "weight": rng.normal(size=(DIM, 3, 5, 5)).astype(element),
        "mean": rng.normal(size=DIM).astype(element),  # a bias, with a name that our graph has too
    }
    nodes = [] if layout == "nchw" else [helper.make_node("Transpose", [taken], ["planes"], perm=[0, 3, 1, 2])]
    nodes += [
        helper.make_node("Conv", [taken if layout == "nchw" else "planes", "weight", "mean"], ["conv"], strides=[4, 4]),
        helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("GlobalAveragePool", ["relu"], ["pooled"]),
    ]
    match ending:
        case "map":  # (N, D, 1, 1)
            nodes += [helper.make_node("Identity", ["pooled"], [returned])]
        case "flatten":
            nodes += [helper.make_node("Flatten", ["pooled"], [returned])]
        case "reshape":
            constants["shape"] = np.array([1, -1])
            nodes += [helper.make_node("Reshape", ["pooled", "shape"], [returned])]
        case "reshape to a node":
            value = numpy_helper.from_array(np.array([1, DIM]))
            nodes += [helper.make_node("Constant", [], ["shape"], value=value)]
            nodes += [helper.make_node("Reshape", ["pooled", "shape"], [returned])]
        case "class token":  # as in a transformer that was exported for one image
            constants["token"] = rng.normal(size=(1, 2, 1, 1)).astype(element)
            nodes += [helper.make_node("Concat", ["pooled", "token"], ["joined"], axis=1)]
            nodes += [helper.make_node("Flatten", ["joined"], [returned])]
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(element))
    inputs = [helper.make_tensor_value_info(taken, kind, shape)]
    if ir < 4:  # initializers had to be inputs too
        inputs += [helper.make_tensor_value_info(key, kind, value.shape) for key, value in constants.items()]
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    outputs = [helper.make_tensor_value_info(returned, kind, None)]
    graph = helper.make_graph(nodes, "net", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)


def test_no_preprocessing_is_left_to_the_robot(tmp_path: Path) -> None:
    """Against torch, which has nothing to do with how the file was made."""
    path = described(
        tmp_path, network_graph(layout="nhwc", shape=("n", HEIGHT, WIDTH, 3)), layout="nhwc", channels="bgr"
    )
    model = export_published(open_published(path), tmp_path / "ours.onnx")
    constants = {
        tensor.name: torch.tensor(numpy_helper.to_array(tensor)) for tensor in network_graph().graph.initializer
    }
    normalised = (torch.tensor(pixels()[..., ::-1] / 255.0) - torch.tensor([0.5, 0.4, 0.3])) / torch.tensor(
        [0.1, 0.2, 0.3]
    )
    maps = nn.functional.conv2d(
        normalised.permute(0, 3, 1, 2).float(), constants["weight"], constants["mean"], stride=4
    )
    expected = nn.functional.normalize(maps.relu().mean((2, 3)), dim=1).numpy()
    np.testing.assert_allclose(open_reference(model).describe(pixels()), expected, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"shape": ("batch", 3, "height", "width")},
        {"ending": "map"},
        {"names": ("images", "descriptors")},
        {"element": np.float16},
        {"shape": (1, 3, HEIGHT, WIDTH)},
        {"shape": (1, 3, HEIGHT, WIDTH), "ending": "reshape"},
        {"shape": (1, 3, "height", "width"), "ending": "reshape to a node"},
        {"opset": 9, "ir": 3},
        {"opset": 7},
        {"opset": 11},
        {"opset": 13},
        {"opset": 18},
        {"opset": 22, "ir": 10},
        {"opset": 24, "ir": 11},
    ],
    ids=str,
)
def test_our_file_says_what_theirs_does_for_any_number_of_images(tmp_path: Path, options: dict[str, Any]) -> None:
    published = open_published(described(tmp_path, network_graph(**options)))
    model = export_published(published, tmp_path / "ours.onnx")
    assert (model.width, model.height, model.dim) == (WIDTH, HEIGHT, DIM)
    engine = open_reference(model)
    for images in (pixels(1), pixels(5)):
        np.testing.assert_allclose(
            engine.describe(images), published.describe(images), atol=2e-3 if "element" in options else 1e-5
        )


def test_weights_beside_the_file_come_into_ours(tmp_path: Path) -> None:
    onnx.save(network_graph(), tmp_path / "theirs.onnx", save_as_external_data=True, location="w", size_threshold=0)
    published = open_published(description(tmp_path))
    model = export_published(published, tmp_path / "ours" / "ours.onnx")
    assert [file.name for file in (tmp_path / "ours").iterdir()] == ["ours.onnx"]
    np.testing.assert_allclose(open_reference(model).describe(pixels()), published.describe(pixels()), atol=1e-5)


def test_only_the_chosen_output_is_left(tmp_path: Path) -> None:
    graph = network_graph()
    graph.graph.output.append(helper.make_tensor_value_info("relu", TensorProto.FLOAT, None))
    published = open_published(described(tmp_path, graph, output="y"))
    ours = onnx.load(export_published(published, tmp_path / "ours.onnx").path)
    assert [value.name for value in ours.graph.input] == ["images"]
    assert [value.name for value in ours.graph.output] == ["descriptors"]


def test_a_batch_size_that_cannot_be_freed_is_refused(tmp_path: Path) -> None:
    published = open_published(described(tmp_path, network_graph((1, 3, HEIGHT, WIDTH), ending="class token")))
    assert published.describe(pixels()).shape == (5, DIM + 2)
    with pytest.raises(ModelError, match="does not run on 8 images: is the batch size in its graph"):
        export_published(published, tmp_path / "ours.onnx")


def test_an_operator_set_from_before_broadcasting_is_refused(tmp_path: Path) -> None:
    published = open_published(described(tmp_path, network_graph(opset=6)))
    with pytest.raises(ModelError, match="operator set 6; export it again with 7 or newer"):
        export_published(published, tmp_path / "ours.onnx")


class Network(nn.Module):
    """Convolution, then `pool`."""

    def __init__(self, pool: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution = nn.Conv2d(3, DIM, 5, stride=4)
        self.pool = pool

    def forward(self, images: Tensor) -> Tensor:
        x = self.convolution(images.permute(0, 3, 1, 2) / 255.0)
        return nn.functional.normalize(self.pool(x).flatten(1), dim=1)


def learnt_gem(x: Tensor) -> Tensor:
    """As in CosPlace: the kernel is the size of the map, which tracing does not know for any number of images."""
    power = torch.full((1,), 2.3)
    return nn.functional.avg_pool2d(x.clamp(min=1e-6).pow(power), (x.size(-2), x.size(-1))).pow(1.0 / power)


class Attention(nn.Module):
    """In a network without gradients torch runs it as one fused operator, which ONNX does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.TransformerEncoderLayer(DIM, 2, 16, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder(x.flatten(2).transpose(1, 2)).mean(1)


@pytest.mark.parametrize("pool", [learnt_gem, Attention().eval(), nn.Sequential(nn.Flatten(), nn.Dropout(0.5))])
def test_torch_networks_that_are_hard_to_export(
    pool: Callable[[Tensor], Tensor], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    network = Network(pool).requires_grad_(False)
    model = export(network, tmp_path / "ours.onnx", width=WIDTH, height=HEIGHT, metadata={})
    assert not network.training
    with torch.no_grad():
        expected = network(torch.from_numpy(pixels())).numpy()
    assert model.dim == expected.shape[1]
    np.testing.assert_allclose(open_reference(model).describe(pixels()), expected, atol=1e-5)
    assert "graph(" not in capfd.readouterr().out
    assert str(Path(__file__).parent).encode() not in model.content


def test_a_network_that_torch_cannot_export(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="torch cannot export the network"):
        export(
            Network(lambda x: torch.linalg.eigvals(x @ x.mT).real),
            tmp_path / "x",
            width=WIDTH,
            height=HEIGHT,
            metadata={},
        )
