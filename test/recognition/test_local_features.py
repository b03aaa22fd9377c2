"""Features of networks small enough to compute by hand, and of XFeat on real loops."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from small_worlds import texture

from vpr_ros.config import VerificationConfig
from vpr_ros.errors import ModelError
from vpr_ros.images import read_image
from vpr_ros.recognition.local_features import OnnxFeatures, Orb, Sift, open_features
from vpr_ros.recognition.verification import GeometricVerifier

DIM = 5
KERNELS = np.random.default_rng(0).normal(0, 1, (DIM, 1, 8, 8)).astype(np.float32)
GAIN = 20.0


def save(path: Path, nodes, constants, shape, outputs, kind=TensorProto.FLOAT) -> Path:
    graph = helper.make_graph(
        nodes,
        "local features",
        [helper.make_tensor_value_info("image", kind, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def save_dense(path: Path, height: int | str, width: int | str, *, channels: int = 1, reliable: bool = True) -> Path:
    """Bright pixels are points, "nowhere" is as likely as a black pixel, and brightness is reliable."""
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["grey"], axes=[1], keepdims=1),
        helper.make_node("SpaceToDepth", ["grey"], ["cells"], blocksize=8),
        helper.make_node("Mul", ["cells", "gain"], ["pixels"]),
        helper.make_node("AveragePool", ["grey"], ["brightness"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Mul", ["brightness", "zero"], ["nowhere"]),
        helper.make_node("Concat", ["pixels", "nowhere"], ["logits"], axis=1),
        helper.make_node("Conv", ["grey", "kernels"], ["descriptors"], strides=[8, 8]),
    ]
    constants = {"gain": np.float32(GAIN), "zero": np.float32(0), "kernels": KERNELS}
    outputs = ["descriptors", "brightness", "logits"] if reliable else ["logits", "descriptors"]
    return save(path, nodes, constants, [1, channels, height, width], outputs)


def save_constant(path: Path, outputs: dict[str, NDArray[np.float32]], height: int = 64, width: int = 64) -> Path:
    """The same outputs whatever the image."""
    nodes = [helper.make_node("Identity", [f"the {name}"], [name]) for name in outputs]
    return save(path, nodes, {f"the {k}": v for k, v in outputs.items()}, [1, 1, height, width], outputs)


def slow_dense(grey: NDArray[np.uint8], reliable: bool) -> tuple[list[tuple[int, int]], NDArray[np.float64]]:
    """Points x, y and descriptors of `save_dense`, pixel by pixel; the strongest first."""
    height, width = grey.shape
    value = grey / 255
    odds = np.exp(GAIN * value)
    likelihood = np.zeros((height, width))
    brightness = np.zeros((height // 8, width // 8), np.float32)
    maps = np.zeros((height // 8, width // 8, DIM))
    for i, j in product(range(height // 8), range(width // 8)):
        cell = slice(8 * i, 8 * i + 8), slice(8 * j, 8 * j + 8)
        likelihood[cell] = odds[cell] / (odds[cell].sum() + 1)
        brightness[i, j] = value[cell].mean()
        maps[i, j] = (KERNELS[:, 0] * value[cell]).sum((1, 2))
        maps[i, j] /= np.linalg.norm(maps[i, j])
    found = []
    for y, x in product(range(height), range(width)):
        around = likelihood[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3]
        if likelihood[y, x] == around.max() and likelihood[y, x] > 1 / 65:
            u, v = np.float32((x + 0.5) / 8 - 0.5), np.float32((y + 0.5) / 8 - 0.5)
            sampled = [
                cv2.remap(plane, np.array([[u]]), np.array([[v]]), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
                for plane in (brightness, *maps.transpose(2, 0, 1).astype(np.float32))
            ]
            weight, *descriptor = (float(plane[0, 0]) for plane in sampled)
            found.append((likelihood[y, x] * (weight if reliable else 1), (x, y), descriptor))
    found.sort(key=lambda one: -one[0])
    descriptors = np.array([one[2] for one in found])
    return [one[1] for one in found], descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("reliable", [True, False])
def test_dense_maps_are_read_as_pixel_by_pixel(tmp_path: Path, channels: int, reliable: bool) -> None:
    grey = texture(1, 96, 64)[:, :, 0]
    extractor = OnnxFeatures(save_dense(tmp_path / "d.onnx", "h", "w", channels=channels, reliable=reliable), 1000)
    features = extractor.extract(grey)
    points, descriptors = slow_dense(grey, reliable)
    assert len(points) > 20
    assert sorted(features.points.tolist()) == sorted([list(point) for point in points])
    order = [points.index(tuple(point)) for point in features.points.tolist()]
    assert np.abs(np.array(order) - np.arange(len(order))).max() <= 1, "equally likely ones may change places"
    np.testing.assert_allclose(
        features.descriptors, descriptors[order], atol=0.02
    )  # OpenCV interpolates in steps of 1/32
    assert features.descriptors.dtype == np.float32


def test_a_network_of_any_size_is_shown_multiples_of_32(tmp_path: Path) -> None:
    """And points come back in px of the image, x and y scaled apart."""
    grey = np.zeros((75, 110), np.uint8)  # shown 64 x 96
    grey[20:23, 40:43] = 255
    (point, *_) = OnnxFeatures(save_dense(tmp_path / "d.onnx", "h", "w"), 10).extract(grey).points
    np.testing.assert_allclose(point, [41, 21], atol=1.0)


def test_an_image_is_stretched_to_a_fixed_size(tmp_path: Path) -> None:
    outputs = {
        "keypoints": np.array([[[0, 0], [63, 63], [31.5, 15.5]]], np.float32),
        "scores": np.array([[0.1, 0.3, 0.2]], np.float32),
        "descriptors": np.array([[[3, 4], [0, 2], [-5, 0]]], np.float32),
    }
    path = save_constant(tmp_path / "s.onnx", outputs)
    grey = np.zeros((32, 128), np.uint8)
    features = OnnxFeatures(path, 100).extract(grey)
    # twice as wide as the network's 64 px, half as high; the image ends half a pixel around the outer centres
    np.testing.assert_allclose(features.points, [[126.5, 31.25], [63.5, 7.5], [0.5, -0.25]])
    np.testing.assert_allclose(features.descriptors, [[0, 1], [-1, 0], [0.6, 0.8]], atol=1e-6)
    assert OnnxFeatures(path, 2).extract(grey).points.tolist() == features.points[:2].tolist()
    without_batch = save_constant(tmp_path / "b.onnx", {name: value[0] for name, value in outputs.items()})
    np.testing.assert_array_equal(OnnxFeatures(without_batch, 100).extract(grey).points, features.points)


def test_no_point_is_likelier_than_chance_in_a_black_image(tmp_path: Path) -> None:
    features = OnnxFeatures(save_dense(tmp_path / "d.onnx", 64, 96), 100).extract(np.zeros((64, 96), np.uint8))
    assert features.points.shape == (0, 2)
    assert features.descriptors.shape == (0, DIM)


def test_name_and_id_are_those_of_the_file(tmp_path: Path) -> None:
    small, large = (OnnxFeatures(save_dense(tmp_path / f"{w}.onnx", 64, w), 10) for w in (64, 128))
    assert (small.name, large.name) == ("64", "128")
    assert small.id != large.id
    assert small.id == OnnxFeatures(tmp_path / "64.onnx", 99).id


def test_the_builtin_ones_have_names() -> None:
    assert isinstance(open_features("sift", 10), Sift)
    assert isinstance(open_features("orb", 10), Orb)


@pytest.mark.parametrize("kind", [Sift, Orb])
def test_the_strongest_are_kept(kind) -> None:
    grey = texture(2, 320, 240)[:, :, 1]
    many, few = kind(300).extract(grey), kind(20).extract(grey)
    assert len(few) == 20
    assert len(many) > 100
    assert few.descriptors.dtype == np.uint8


def test_vectors_of_bits_are_hamming_apart() -> None:
    orb = Orb(50)
    features = orb.extract(texture(2, 320, 240)[:, :, 1])
    vectors = orb.vectors(features)
    hamming = cv2.norm(features.descriptors[0], features.descriptors[1], cv2.NORM_HAMMING)
    assert np.square(vectors[0] - vectors[1]).sum() == hamming > 0


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as refused:
        OnnxFeatures(path, 10)
    return str(refused.value)


def test_files_that_are_no_network(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.onnx") == (
        f"cannot read local features {tmp_path / 'none.onnx'}: No such file or directory; built in are sift and orb"
    )
    (tmp_path / "text.onnx").write_text("no network")
    assert refusal(tmp_path / "text.onnx") == f"{tmp_path / 'text.onnx'} is corrupt or no ONNX model"


def test_a_place_model_has_another_input(grid_model_path: Path) -> None:
    text = refusal(grid_model_path)
    assert "must take one image, float (1, 1 or 3, H, W); it takes images tensor(uint8) ['n', 48, 64, 3]" in text


def test_a_network_that_fails_on_an_image(tmp_path: Path) -> None:
    nodes = [helper.make_node("Reshape", ["image", "shape"], ["logits"])]
    path = save(tmp_path / "r.onnx", nodes, {"shape": np.array([7])}, [1, 1, "h", "w"], ["logits"])
    assert refusal(path).startswith(f"{path} cannot be run on an image of 256 x 256 px: ")


N = 4
SPARSE = {"keypoints": (N, 2), "scores": (N,), "descriptors": (N, 3)}
CELLS = (8, 8)
DENSE = {"a": (1, 65, *CELLS), "b": (1, 3, *CELLS)}


@pytest.mark.parametrize(
    "shapes",
    [
        {"classes": (1, 10)},
        SPARSE | {"keypoints": (N, 3)},
        SPARSE | {"scores": (N - 1,)},
        SPARSE | {"descriptors": (3, N)},
        {name: shape for name, shape in SPARSE.items() if name != "scores"},
        {"a": (1, 64, *CELLS), "b": (1, 3, *CELLS)},
        {"a": (1, 65, *CELLS)},
        DENSE | {"c": (1, 4, *CELLS)},
        DENSE | {"c": (1, 3, *CELLS)},
        DENSE | {"c": (2, 1, *CELLS)},
        {"a": (1, 65, 4, 4), "b": (1, 3, 4, 4)},
    ],
)
def test_outputs_of_another_form_are_named(tmp_path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    path = save_constant(tmp_path / "m.onnx", {name: np.zeros(shape, np.float32) for name, shape in shapes.items()})
    found = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    assert refusal(path).startswith(f"{path} has no outputs of local features: for 64 x 64 px it makes {found}; ")


@pytest.fixture(scope="module")
def xfeat(shared_data: Path) -> GeometricVerifier:
    config = VerificationConfig()
    return GeometricVerifier(config, open_features(str(shared_data / "weights" / "xfeat.onnx"), config.max_features))


def test_xfeat_finds_a_shifted_picture_again(xfeat: GeometricVerifier) -> None:
    wide = texture(3, 720, 480)
    left, right = (xfeat.extract(np.ascontiguousarray(wide[:, x : x + 640])) for x in (0, 80))
    pairs = xfeat.match(left, right)
    shift = left.points[pairs[:, 0]] - right.points[pairs[:, 1]]
    assert len(pairs) > 50
    assert np.mean(np.linalg.norm(shift - [80, 0], axis=1) < 3.0) > 0.8


def test_xfeat_tells_a_loop_from_another_street(xfeat: GeometricVerifier, shared_data: Path) -> None:
    """Also where one image is what a map keeps of it."""
    frames = {i: read_image(shared_data / f"kitti/sequences/00/image_0/{i:06d}.jpg") for i in (1580, 135, 700)}
    query = xfeat.extract(frames[1580])
    loop, kept, elsewhere = (
        xfeat.verify(query, None, xfeat.extract(image), None).inliers
        for image in (frames[135], xfeat.thumbnail(frames[135]), frames[700])
    )
    assert min(loop, kept) > 200
    assert elsewhere < VerificationConfig().min_inliers
