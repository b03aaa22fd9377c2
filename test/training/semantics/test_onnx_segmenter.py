"""Any segmentation file: what it takes is found out, what it answers becomes a label map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from training.data.classes import ClassTable
from training.semantics.onnx_segmenter import FORMAT, OnnxSegmenter, SegmentationFile, channel_counts, fitted, largest
from vpr_ros.errors import ConfigError, ModelError

TABLE = ClassTable.checked(
    {"classes": {i: {"name": name, "cluster": name} for i, name in enumerate(("red", "green", "blue"))}}, "three"
)
"""The networks here answer with the strongest colour: logits are the image itself."""
HEIGHT, WIDTH = 32, 64


def save_network(
    path: Path, taken: str = "float nchw", answer: str = "nchw", size: Any = (HEIGHT, WIDTH), **metadata: str
) -> SegmentationFile:
    """Of `taken` images (float or uint8, nchw or nhwc) and an `answer`: logits nchw or nhwc, or labels."""
    element, layout = taken.split()
    kind = {"uint8": TensorProto.UINT8, "float": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}[element]
    shape = [1, 3, *size] if layout == "nchw" else [1, *size, 3]
    nodes = [helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT)]
    if layout == "nhwc":
        nodes.append(helper.make_node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2]))
    else:
        nodes.append(helper.make_node("Identity", ["float"], ["planes"]))
    kind_out, last = TensorProto.FLOAT, ["n", "c", "h", "w"]
    if answer == "nchw":
        nodes.append(helper.make_node("Identity", ["planes"], ["answer"]))
    elif answer == "nhwc":
        nodes.append(helper.make_node("Transpose", ["planes"], ["answer"], perm=[0, 2, 3, 1]))
    else:
        kind_out, keep = TensorProto.INT64, int(answer == "labels nchw")
        last = ["n", "one", "h", "w"] if keep else ["n", "h", "w"]
        nodes.append(helper.make_node("ArgMax", ["planes"], ["answer"], axis=1, keepdims=keep))
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("images", kind, shape)],
        [helper.make_tensor_value_info("answer", kind_out, last)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, metadata)
    onnx.save(model, path)
    return SegmentationFile.open(path)


def flag() -> np.ndarray:
    """Three upright stripes, 96 x 40: green, red, blue."""
    image = np.zeros((40, 96, 3), np.uint8)
    for stripe, colour in enumerate((1, 0, 2)):
        image[:, stripe * 32 : (stripe + 1) * 32, colour] = 200
    return image


STRIPES = np.repeat([1, 0, 2], 8)[None].repeat(10, axis=0)
"""Of the flag at a quarter."""


@pytest.mark.parametrize("taken", ["float nchw", "float nhwc", "float16 nchw", "uint8 nhwc"])
@pytest.mark.parametrize("answer", ["nchw", "nhwc", "labels", "labels nchw"])
@pytest.mark.parametrize("size", [(HEIGHT, WIDTH), ("h", "w")], ids=["fixed", "free"])
def test_every_kind_of_network(tmp_path: Path, taken: str, answer: str, size: Any) -> None:
    file = save_network(tmp_path / "a.onnx", taken, answer, size)
    cv2.imwrite(str(tmp_path / "flag.png"), flag()[..., ::-1])
    labels = OnnxSegmenter(file, TABLE).label_map(tmp_path / "flag.png", 0.25)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, STRIPES)


def test_channel_order_mean_and_std(tmp_path: Path) -> None:
    file = save_network(tmp_path / "a.onnx")
    blue_first = OnnxSegmenter(file, TABLE, channels="bgr").labels(flag(), 10, 24)
    np.testing.assert_array_equal(blue_first, np.array([2, 1, 0])[STRIPES])
    dimmed = OnnxSegmenter(file, TABLE, mean=(0.0, 5.0, 0.0), std=(1.0, 1.0, 1.0)).labels(flag(), 10, 24)
    np.testing.assert_array_equal(dimmed == 1, np.zeros_like(STRIPES, bool))
    bytes_file = save_network(tmp_path / "b.onnx", "uint8 nhwc")
    np.testing.assert_array_equal(
        OnnxSegmenter(bytes_file, TABLE, channels="bgr").labels(flag(), 10, 24), np.array([2, 1, 0])[STRIPES]
    )


def seen(segmenter: OnnxSegmenter) -> tuple[int, int]:
    """Height and width of what the network is given for the flag."""
    return segmenter.prepared(flag()).shape[-2:]


def test_a_free_network_sees_images_in_their_shape(tmp_path: Path) -> None:
    file = save_network(tmp_path / "a.onnx", size=("h", "w"))
    assert seen(OnnxSegmenter(file, TABLE)) == (32, 96)
    assert seen(OnnxSegmenter(file, TABLE, size=(256, 256))) == (160, 384)
    ours = save_network(tmp_path / "b.onnx", size=("h", "w"), format=FORMAT, width="256", height="256")
    assert seen(OnnxSegmenter(ours, TABLE)) == (160, 384)
    fixed = save_network(tmp_path / "c.onnx")
    assert seen(OnnxSegmenter(fixed, TABLE)) == (HEIGHT, WIDTH)
    with pytest.raises(ConfigError, match=r"c\.onnx takes images of 64 x 32 px only: leave --size out"):
        OnnxSegmenter(fixed, TABLE, size=(256, 256))


def test_fitted_sizes_are_multiples_of_32() -> None:
    assert fitted(640, 480, None) == (640, 480)
    assert fitted(620, 188, (480, 360)) == (768, 224)
    assert fitted(5, 3000, (64, 64)) == (32, 1568)


def test_a_network_of_other_classes_is_refused(tmp_path: Path) -> None:
    four = ClassTable.checked({"classes": {i: {"name": str(i), "cluster": "sky"} for i in range(4)}}, "four")
    file = save_network(tmp_path / "a.onnx")
    with pytest.raises(ModelError, match=r"answers with \(1, 3, 32, 64\), but the table has 4 classes: is it of"):
        OnnxSegmenter(file, four).labels(flag(), 10, 24)


def test_networks_may_answer_with_the_void_class_too() -> None:
    classes = {0: {"name": "road", "cluster": "ground"}, 1: {"name": "sky", "cluster": "sky"}}
    void = {"name": "other", "cluster": "void"}
    assert channel_counts(ClassTable.checked({"classes": {**classes, 2: void, 255: void}}, "")) == {2, 3}


@pytest.mark.parametrize(("taken", "size"), [("uint8 nchw", (32, 64)), ("float nchw", (32,))])
def test_a_file_that_takes_no_image_is_refused(tmp_path: Path, taken: str, size: Any) -> None:
    file = save_network(tmp_path / "a.onnx", taken, size=size)
    with pytest.raises(ModelError, match=r"a\.onnx takes tensor\(.*\) \[1, 3.*\]: one image as uint8 \(1, H, W, 3\)"):
        OnnxSegmenter(file, TABLE)


def test_labels_that_are_no_ids_are_refused(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Cast", ["images"], ["answer"], to=TensorProto.INT64)],
        "pixels",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, [1, HEIGHT, WIDTH, 3])],
        [helper.make_tensor_value_info("answer", TensorProto.INT64, [1, HEIGHT, WIDTH, 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "a.onnx")
    segmenter = OnnxSegmenter(SegmentationFile.open(tmp_path / "a.onnx"), TABLE)
    with pytest.raises(ModelError, match=r"answers with int64 \(1, 32, 64, 3\): no label map of ids 0-255"):
        segmenter.labels(flag(), 10, 24)


def test_a_network_that_does_not_run_says_so(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["images", "shape"], ["answer"])],
        "narrow",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, "h", "w"])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, [1, 3, 2, 2])],
        [helper.make_tensor("shape", TensorProto.INT64, [4], [1, 3, 2, 2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "a.onnx")
    with pytest.raises(ModelError, match=r"a\.onnx does not run on an image: "):
        OnnxSegmenter(SegmentationFile.open(tmp_path / "a.onnx"), TABLE).labels(flag(), 10, 24)


def test_no_model_and_no_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot read model .*No such file"):
        SegmentationFile.open(tmp_path / "a.onnx")
    (tmp_path / "a.onnx").write_bytes(b"no")
    with pytest.raises(ModelError, match="does not open as an ONNX model"):
        SegmentationFile.open(tmp_path / "a.onnx")


def test_logits_are_interpolated_before_the_largest_is_taken() -> None:
    logits = np.zeros((1, 2, 1, 2), np.float32)
    logits[0, :, 0, 0], logits[0, :, 0, 1] = (3, 0), (0, 1)  # so the border lies three quarters to the right
    assert largest(logits, 1, 8).tolist() == [[0, 0, 0, 0, 0, 1, 1, 1]]


def test_what_the_maps_were_made_with(tmp_path: Path) -> None:
    file = save_network(tmp_path / "a.onnx", size=("h", "w"))
    made_by = OnnxSegmenter(file, TABLE, size=(64, 32)).made_by
    assert made_by["sha256"] == file.id
    assert (made_by["model"], made_by["size"], made_by["channels"]) == ("a.onnx", [64, 32], "rgb")
