from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import onnx
import pytest
from masked_models import CELLS, save_masked_grid_model
from onnx import TensorProto, helper, numpy_helper
from small_worlds import save_grid_model

from vpr_ros.engines.describe import describe_image, describe_image_with_mask, describe_images
from vpr_ros.engines.open import open_reference
from vpr_ros.errors import ModelError
from vpr_ros.model import FORMAT, PlaceModel, shipped_model


def test_a_model_says_what_it_is(grid_model_path: Path) -> None:
    model = PlaceModel.open(grid_model_path)
    assert (model.name, model.width, model.height, model.dim) == ("grid", 64, 48, 144)
    assert model.id == hashlib.sha256(grid_model_path.read_bytes()).hexdigest()


def test_the_engine_returns_unit_descriptors_whatever_the_batch(grid_model: PlaceModel) -> None:
    engine = open_reference(grid_model, threads=1)
    images = np.random.default_rng(0).integers(0, 256, (3, 48, 64, 3), dtype=np.uint8)
    together = engine.describe(images)
    assert together.shape == (3, 144)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-4)
    for image, descriptor in zip(images, together, strict=True):
        np.testing.assert_allclose(describe_image(engine, image), descriptor, atol=1e-6)


def test_an_image_of_any_size_is_resized(grid_model: PlaceModel) -> None:
    engine = open_reference(grid_model)
    small = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    large = np.kron(small, np.ones((4, 4, 1), np.uint8))
    np.testing.assert_allclose(describe_image(engine, large), describe_image(engine, small), atol=1e-5)


def test_images_of_any_sizes_are_described_in_one_call(grid_model: PlaceModel) -> None:
    engine = open_reference(grid_model, threads=1)
    counted = Mock(wraps=engine, model=grid_model)
    rng = np.random.default_rng(0)
    images = [
        rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for height, width in ((48, 64), (90, 70), (20, 9))
    ]
    together = describe_images(counted, images)
    assert counted.describe.call_count == 1
    for image, descriptor in zip(images, together, strict=True):
        np.testing.assert_allclose(describe_image(engine, image), descriptor, atol=1e-6)


def test_a_mask_comes_with_the_descriptors_that_come_without_it(tmp_path: Path, grid_model: PlaceModel) -> None:
    model = PlaceModel.open(save_masked_grid_model(tmp_path / "masked.onnx"))
    assert model.mask_size == CELLS
    assert model.dim == grid_model.dim
    engine = open_reference(model, threads=1)
    images = np.random.default_rng(0).integers(0, 256, (3, 48, 64, 3), dtype=np.uint8)
    descriptors, masks = engine.describe_with_mask(images)
    np.testing.assert_array_equal(descriptors, engine.describe(images))
    cells = images.reshape(3, CELLS[0], 8, CELLS[1], 8, 3)
    np.testing.assert_allclose(masks, cells.mean((2, 4, 5)) / 255, atol=1e-6)
    assert masks.dtype == np.float32
    descriptor, mask = describe_image_with_mask(engine, np.kron(images[1], np.ones((4, 4, 1), np.uint8)))
    np.testing.assert_allclose(descriptor, descriptors[1], atol=1e-5)
    np.testing.assert_allclose(mask, masks[1], atol=1e-5)


def test_a_model_without_a_mask_has_none_to_give(grid_model: PlaceModel) -> None:
    assert grid_model.mask_size is None
    images = np.zeros((1, 48, 64, 3), np.uint8)
    with pytest.raises(ModelError, match="model grid has no mask"):
        open_reference(grid_model).describe_with_mask(images)


@pytest.mark.parametrize(
    ("kind", "shape", "last", "has"),
    [
        (TensorProto.DOUBLE, ["n", *CELLS], ("Cast", {"to": TensorProto.DOUBLE}), r"tensor\(double\) \['n', 6, 8\]"),
        (TensorProto.FLOAT, ["n", 48], ("Flatten", {}), r"tensor\(float\) \['n', 48\]"),
        (TensorProto.FLOAT, ["n", 5, 8], ("Relu", {}), r"tensor\(float\) \['n', None, 8\]"),  # its graph makes 6
    ],
)
def test_a_mask_that_is_none_is_refused(
    tmp_path: Path, kind: int, shape: list[int | str], last: tuple[str, dict[str, int]], has: str
) -> None:
    path = save_masked_grid_model(tmp_path / "masked.onnx", ("mask", kind, shape), last)
    with pytest.raises(ModelError, match=rf"masked\.onnx: its mask must be float \(N, h, w\) .*; it is {has}"):
        PlaceModel.open(path)


def test_other_outputs_are_ignored(tmp_path: Path, grid_model: PlaceModel) -> None:
    path = save_masked_grid_model(
        tmp_path / "more.onnx", ("cells_of_grey", TensorProto.FLOAT, ["n", 48]), ("Flatten", {})
    )
    model = PlaceModel.open(path)
    assert (model.mask_size, model.dim) == (None, grid_model.dim)


def test_a_missing_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot read model"):
        PlaceModel.open(tmp_path / "none.onnx")


@pytest.mark.parametrize("size", [0, 10, 500])
def test_a_truncated_model(tmp_path: Path, grid_model_path: Path, size: int) -> None:
    path = tmp_path / "cut.onnx"
    path.write_bytes(grid_model_path.read_bytes()[:size])
    with pytest.raises(ModelError, match=r"corrupt or no ONNX model|must map|was not exported"):
        PlaceModel.open(path)


def test_a_foreign_model(tmp_path: Path) -> None:
    path = save_grid_model(tmp_path / "foreign.onnx", metadata={"author": "somebody"})
    with pytest.raises(ModelError, match=f"was not exported for vpr_ros.*{FORMAT}"):
        PlaceModel.open(path)


def test_the_shipped_model_opens() -> None:
    model = PlaceModel.open(shipped_model())
    assert len(model.content) <= 12e6
    assert {"name", "recipe", "commit", "trained_on"} <= set(model.metadata)


def changed(source: Path, path: Path, change: Callable[[onnx.ModelProto], object]) -> Path:
    model = onnx.load(source)
    change(model)
    path.write_bytes(model.SerializeToString())
    return path


def nan_at_the_end(model: onnx.ModelProto) -> None:
    """descriptors = (d - d) / (d - d)"""
    (last,) = (node for node in model.graph.node if "descriptors" in node.output)
    last.output[0] = "d"
    model.graph.node.append(helper.make_node("Sub", ["d", "d"], ["zero"]))
    model.graph.node.append(helper.make_node("Div", ["zero", "zero"], ["descriptors"]))


def doubled_at_the_end(model: onnx.ModelProto) -> None:
    (last,) = (node for node in model.graph.node if "descriptors" in node.output)
    last.output[0] = "d"
    model.graph.node.append(helper.make_node("Add", ["d", "d"], ["descriptors"]))


def never_at_the_end(model: onnx.ModelProto) -> None:
    (last,) = (node for node in model.graph.node if "descriptors" in node.output)
    last.output[0] = "d"
    nodes = [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Identity", ["x"], ["x_on"])]
    info = helper.make_tensor_value_info
    ins = [info("i", TensorProto.INT64, []), info("go", TensorProto.BOOL, []), info("x", TensorProto.FLOAT, None)]
    outs = [info("go_on", TensorProto.BOOL, []), info("x_on", TensorProto.FLOAT, None)]
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "true"))
    body = helper.make_graph(nodes, "body", ins, outs)
    model.graph.node.append(helper.make_node("Loop", ["", "true", "d"], ["descriptors"], body=body))


def external(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda model: setattr(model, "ir_version", 99), "is too old for it: .*pip install --upgrade onnxruntime"),
        (lambda model: setattr(model.opset_import[0], "version", 99), "is too old for it"),
        (external, r"keeps weights in other files \(external data\)"),
        (nan_at_the_end, "answers NaN or infinity"),
        (doubled_at_the_end, "descriptors of length 2, not 1"),
        (lambda model: model.graph.ClearField("output"), "has no output"),
        (
            lambda model: setattr(model.graph.node[0], "domain", "evil.ops"),
            "an operator that|corrupt or no ONNX model.*evil",
        ),
    ],
)
def test_a_refusal_has_its_true_reason(
    tmp_path: Path, grid_model_path: Path, change: Callable[[onnx.ModelProto], object], reason: str
) -> None:
    with pytest.raises(ModelError, match=rf"bad\.onnx:? .*({reason})") as error:
        PlaceModel.open(changed(grid_model_path, tmp_path / "bad.onnx", change))
    assert "\n" not in str(error.value)


def test_a_model_that_never_answers(tmp_path: Path, grid_model_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vpr_ros.model.TRIAL_S", 0.2)
    with pytest.raises(ModelError, match="has no answer for one image"):
        PlaceModel.open(changed(grid_model_path, tmp_path / "endless.onnx", never_at_the_end))


def test_metadata_that_is_not_utf_8(tmp_path: Path, grid_model_path: Path) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(grid_model_path.read_bytes().replace(FORMAT.encode(), FORMAT[:-1].encode() + b"\xff"))
    with pytest.raises(ModelError, match=r"bad\.onnx"):
        PlaceModel.open(path)


def test_a_name_does_not_steer_a_terminal(tmp_path: Path) -> None:
    path = save_grid_model(tmp_path / "name.onnx", metadata={"format": FORMAT, "name": "\x1b[31mred"})
    assert PlaceModel.open(path).name == r"\x1b[31mred"
