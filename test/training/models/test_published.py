"""Networks of other people, made here: a hub folder and ONNX files whose descriptors are known by hand."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from training.models.published import open_published, read_published
from vpr_ros.errors import ConfigError, ModelError

READY_MADE = sorted((Path(__file__).resolve().parents[3] / "training" / "published").glob("*.yaml"))
WIDTH, HEIGHT = 6, 4
HUBCONF = """
import torch
from torch import nn

class Mean(nn.Module):
    def __init__(self, axes=(2, 3), gain=1.0):
        super().__init__()
        self.axes = axes
        self.gain = nn.Parameter(torch.tensor(gain))
    def forward(self, x):
        return self.gain * x.mean(self.axes)

class Apply(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function
    def forward(self, x):
        return self.function(x)

def mean(**options): return Mean(**options)
def mean_nhwc(): return Mean((1, 2))
def one_pixel(): return Apply(lambda x: x.mean((2, 3), keepdim=True))
def pair(): return Apply(lambda x: (x.mean((2, 3)), x))
def named(): return Apply(lambda x: {"global": x.mean((2, 3)), "local": x})
def feature_map(): return Apply(lambda x: x)
def one_for_all(): return Apply(lambda x: x.mean((2, 3))[:1])
def divides_by_contrast(): return Apply(lambda x: x.mean((2, 3)) / x.std((2, 3)))
def zero(): return Apply(lambda x: 0 * x.mean((2, 3)))
def no_network(): return "weights"
def asks(): return input("trust another repository?")
def raises(): raise KeyError("weights")
"""


def pixels(n: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (n, HEIGHT, WIDTH, 3), dtype=np.uint8)


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "hubconf.py").write_text(HUBCONF)
    return tmp_path / "hub"


def description(path: Path, source: dict[str, Any], normalise_output: bool = True, **changes: Any) -> Path:
    """A description whose preprocessing has `changes`."""
    preprocessing = {"width": WIDTH, "height": HEIGHT, "mean": [0.5, 0.4, 0.3], "std": [0.1, 0.2, 0.3]}
    content = {
        "name": "theirs",
        "source": source,
        "preprocessing": preprocessing | changes,
        "normalise_output": normalise_output,
    }
    path.write_text(yaml.safe_dump(content))
    return path


def hub_model(hub: Path, entry: str, **changes: Any) -> Path:
    options = {key: changes.pop(key) for key in ("arguments", "output") if key in changes}
    source = {"kind": "torch_hub", "repo": hub.name, "local": True, "trust_repo": True, "entry": entry} | options
    return description(hub.parent / f"{entry}.yaml", source, **changes)


def mean_graph(
    shape: list[int | str | None],
    *,
    outputs: tuple[str, ...] = ("mean",),
    axes: tuple[int, ...] = (2, 3),
    keepdims: int = 0,
    element: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """The mean over the image, to every one of `outputs`; times a weight of ones in an initializer."""
    nodes = [helper.make_node("Mul", ["images", "ones"], ["weighed"])]
    nodes += [helper.make_node("ReduceMean", ["weighed"], [name], axes=axes, keepdims=keepdims) for name in outputs]
    graph = helper.make_graph(
        nodes,
        "mean",
        [helper.make_tensor_value_info("images", element, shape)],
        [helper.make_tensor_value_info(name, element, None) for name in outputs],
        [numpy_helper.from_array(np.ones(1, helper.tensor_dtype_to_np_dtype(element)), "ones")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def onnx_model(folder: Path, graph: onnx.ModelProto, output: str | None = None, **changes: Any) -> Path:
    onnx.save(graph, folder / "theirs.onnx")
    source = {"kind": "onnx", "path": "theirs.onnx"} | ({"output": output} if output else {})
    return description(folder / "theirs.yaml", source, **changes)


def by_hand(images: NDArray[np.uint8], *, bgr: bool = False, scale: float = 1 / 255) -> NDArray[np.float64]:
    """The unit vector of the mean colour, normalised by the mean and std of `description`."""
    rows = []
    for image in images:
        colour = [scale * np.mean(image[..., channel]) for channel in ((2, 1, 0) if bgr else (0, 1, 2))]
        row = np.array([(c - m) / s for c, m, s in zip(colour, (0.5, 0.4, 0.3), (0.1, 0.2, 0.3), strict=True)])
        rows.append(row / np.sqrt(np.sum(row**2)))
    return np.array(rows)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("channels", ["rgb", "bgr"])
@pytest.mark.parametrize("scale", [1 / 255, 1.0])
@pytest.mark.parametrize("source", ["torch_hub", "onnx"])
def test_preprocessing_is_what_is_declared(hub: Path, source: str, scale: float, channels: str, layout: str) -> None:
    how = {"scale": scale, "channels": channels, "layout": layout}
    if source == "torch_hub":
        path = hub_model(hub, "mean" if layout == "nchw" else "mean_nhwc", **how)
    elif layout == "nchw":
        path = onnx_model(hub, mean_graph(["n", 3, "h", "w"]), **how)
    else:
        path = onnx_model(hub, mean_graph(["n", HEIGHT, WIDTH, 3], axes=(1, 2)), **how)
    model = open_published(path)
    assert (model.name, model.width, model.height) == ("theirs", WIDTH, HEIGHT)
    found = model.describe(pixels())
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, by_hand(pixels(), bgr=channels == "bgr", scale=scale), atol=1e-5)


@pytest.mark.parametrize(("entry", "output"), [("one_pixel", None), ("pair", 0), ("named", "global")])
def test_the_descriptor_among_what_a_network_returns(hub: Path, entry: str, output: int | str | None) -> None:
    model = open_published(hub_model(hub, entry, output=output))
    np.testing.assert_allclose(model.describe(pixels()), by_hand(pixels()), atol=1e-5)


@pytest.mark.parametrize(
    ("graph", "output"),
    [
        (mean_graph([1, 3, HEIGHT, WIDTH]), None),
        (mean_graph(["n", 3, None, None], keepdims=1), None),
        (mean_graph(["n", 3, HEIGHT, WIDTH], outputs=("other", "mean")), "mean"),
        (mean_graph(["n", 3, HEIGHT, WIDTH], element=TensorProto.DOUBLE), None),
    ],
    ids=["one image at a time", "1 x 1 map", "two outputs", "double"],
)
def test_onnx_files_of_many_makes(tmp_path: Path, graph: onnx.ModelProto, output: str | None) -> None:
    model = open_published(onnx_model(tmp_path, graph, output))
    np.testing.assert_allclose(model.describe(pixels()), by_hand(pixels()), atol=1e-5)


def test_weights_beside_the_onnx_file(tmp_path: Path) -> None:
    path = onnx_model(tmp_path, mean_graph(["n", 3, HEIGHT, WIDTH]))
    inside = open_published(path)
    options = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0}
    onnx.save(mean_graph(["n", 3, HEIGHT, WIDTH]), tmp_path / "theirs.onnx", **options)
    assert (tmp_path / "weights.bin").exists()
    outside = open_published(path)
    np.testing.assert_array_equal(outside.describe(pixels()), inside.describe(pixels()))
    (tmp_path / "weights.bin").write_bytes(np.full(1, 2, np.float32).tobytes())
    assert open_published(path).id != outside.id
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ModelError, match=r"theirs\.onnx is no whole ONNX model.*weights\.bin"):
        open_published(path)


def test_the_id_changes_with_weights_and_preprocessing_only(hub: Path) -> None:
    ids = [open_published(hub_model(hub, "mean", arguments={"gain": gain})).id for gain in (1.0, 1.0, 2.0)]
    ids += [open_published(hub_model(hub, "mean", channels="bgr", arguments={"gain": 1.0})).id]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3
    graph = mean_graph(["n", 3, HEIGHT, WIDTH])
    first = open_published(onnx_model(hub, graph)).id
    graph.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.full(1, 2, np.float32), "ones"))
    assert open_published(onnx_model(hub, graph)).id != first


def test_two_repositories_with_modules_of_one_name(tmp_path: Path) -> None:
    for name, sign in (("first", 1), ("second", -1)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "hubconf.py").write_text("from networks import Net\n\ndef net():\n    return Net()\n")
        (tmp_path / name / "networks.py").write_text(
            f"from torch import nn\n\nclass Net(nn.Module):\n    def forward(self, x):\n"
            f"        return {sign} * x.mean((2, 3))\n"
        )
    first, second = (open_published(hub_model(tmp_path / name, "net")) for name in ("first", "second"))
    np.testing.assert_allclose(first.describe(pixels()), by_hand(pixels()), atol=1e-5)
    np.testing.assert_allclose(second.describe(pixels()), -by_hand(pixels()), atol=1e-5)


def test_a_repository_must_be_trusted(hub: Path) -> None:
    path = description(hub.parent / "x.yaml", {"kind": "torch_hub", "repo": "hub", "local": True, "entry": "mean"})
    with pytest.raises(ConfigError, match=r"run the code of hub .*`trust_repo: true`"):
        open_published(path)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("nothing", "entry 'nothing' of hub does not load: Cannot find callable nothing"),
        ("raises", "entry 'raises' of hub does not load: 'weights'"),
        ("no_network", "made a str, no network"),
    ],
)
def test_entries_that_do_not_load(hub: Path, entry: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        open_published(hub_model(hub, entry))


def test_a_repository_that_loads_another_without_a_terminal(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with pytest.raises(ModelError, match=r"loads another repository .*: run this once in a terminal"):
        open_published(hub_model(hub, "asks"))


@pytest.mark.parametrize(
    ("entry", "options", "message"),
    [
        ("pair", {}, r"theirs returns a tuple, not one vector per image.*`output`"),
        ("pair", {"output": 2}, "has no output 2"),
        ("named", {"output": "gobal"}, "has no output 'gobal'"),
        ("feature_map", {}, r"returns \(3, 3, 4, 6\), not one vector"),
        ("one_for_all", {}, r"returns \(1, 3\) for 3 images"),
        ("zero", {}, "descriptor of an image has length 0, not 1"),
        ("mean", {"normalise_output": False}, r"has length \d.*, not 1"),
    ],
)
def test_networks_that_return_something_else(hub: Path, entry: str, options: dict[str, Any], message: str) -> None:
    model = open_published(hub_model(hub, entry, **options))
    with pytest.raises(ModelError, match=message):
        model.describe(pixels())


def test_a_network_that_divides_by_contrast_fails_under_a_lens_cap(hub: Path) -> None:
    model = open_published(hub_model(hub, "divides_by_contrast"))
    assert np.isfinite(model.describe(pixels())).all()
    with pytest.raises(ModelError, match="descriptor of an image of one colour is not finite"):
        model.describe(np.zeros((1, HEIGHT, WIDTH, 3), np.uint8))


def test_images_of_another_size(hub: Path) -> None:
    with pytest.raises(ValueError, match=r"takes \(N, 4, 6, 3\) images"):
        open_published(hub_model(hub, "mean")).describe(np.zeros((1, WIDTH, HEIGHT, 3), np.uint8))


@pytest.mark.parametrize(
    ("shape", "how", "message"),
    [
        (["n", 3, 224, 224], {}, r"takes \['n', 3, 224, 224\], but its description declares \['N', 3, 4, 6\]"),
        (["n", HEIGHT, WIDTH, 3], {}, r"\(nchw\)"),
        (["n", 3, HEIGHT, WIDTH], {"layout": "nhwc"}, r"declares \['N', 4, 6, 3\] \(nhwc\)"),
        (["n", 3 * HEIGHT * WIDTH], {}, r"takes \['n', 72\]"),
        ([4, 3, HEIGHT, WIDTH], {}, "takes exactly 4 images at a time"),
    ],
)
def test_onnx_files_that_take_something_else(
    tmp_path: Path, shape: list[Any], how: dict[str, Any], message: str
) -> None:
    axes = tuple(range(1, len(shape)))[-2:]
    with pytest.raises(ModelError, match=message):
        open_published(onnx_model(tmp_path, mean_graph(shape, axes=axes), **how))


def test_an_onnx_file_that_takes_whole_numbers(tmp_path: Path) -> None:
    graph = mean_graph(["n", 3, HEIGHT, WIDTH], element=TensorProto.INT32)
    with pytest.raises(ModelError, match=r"batch of float images; it takes images tensor\(int32\)"):
        open_published(onnx_model(tmp_path, graph))


@pytest.mark.parametrize(("outputs", "output"), [(("a", "b"), None), (("a", "b"), "c"), (("a",), "c")])
def test_an_output_that_is_not_there_or_not_chosen(
    tmp_path: Path, outputs: tuple[str, ...], output: str | None
) -> None:
    with pytest.raises(ModelError, match=r"choose `output` of \['a'"):
        open_published(onnx_model(tmp_path, mean_graph(["n", 3, HEIGHT, WIDTH], outputs=outputs), output))


def test_an_onnx_file_that_returns_maps(tmp_path: Path) -> None:
    model = open_published(onnx_model(tmp_path, mean_graph(["n", 3, HEIGHT, WIDTH], axes=(2,))))
    with pytest.raises(ModelError, match=r"returns \(3, 3, 6\), not one vector per image"):
        model.describe(pixels())


def test_an_onnx_file_that_needs_another_size_inside(tmp_path: Path) -> None:
    graph = mean_graph(["n", 3, "h", "w"])
    graph.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ones((1, 3, 8, 8), np.float32), "ones"))
    model = open_published(onnx_model(tmp_path, graph))
    with pytest.raises(ModelError, match=r"does not run on \(3, 3, 4, 6\)"):
        model.describe(pixels())


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot read .*theirs.onnx"), (b"not an onnx file", "no whole ONNX"), (b"", "ONNX Runtime cannot load")],
)
def test_files_that_are_no_onnx(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "theirs.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=message):
        open_published(description(tmp_path / "theirs.yaml", {"kind": "onnx", "path": "theirs.onnx"}))


GOOD = """
name: x
source: {kind: onnx, path: x.onnx}
preprocessing: {width: 8, height: 8, mean: [0, 0, 0], std: [1, 1, 1]}
"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "licens: MIT\n", "licens: Extra inputs"),
        (GOOD.replace("onnx,", "caffe,"), "source: Input tag 'caffe'"),
        (GOOD.replace("path", "file"), "source.onnx.path: Field required"),
        (GOOD.replace("std: [1, 1, 1]", "std: [1, 0, 1]"), "preprocessing.std.1: Input should be greater than 0"),
        (GOOD.replace(", std: [1, 1, 1]", ""), "preprocessing.std: Field required"),
        (GOOD.replace("width: 8", "width: 0"), "preprocessing.width: Input should be greater than 0"),
        ("- a list\n", "holds no mapping"),
        ("name: [", "is not YAML: .*line 1"),
    ],
)
def test_descriptions_that_are_wrong(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=rf"broken\.yaml.*{message}"):
        read_published(path)


def test_a_description_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*none\.yaml"):
        read_published(tmp_path / "none.yaml")


@pytest.mark.parametrize("path", READY_MADE, ids=lambda path: path.stem)
def test_ready_made_descriptions_name_a_commit_and_a_licence(path: Path) -> None:
    declaration = read_published(path)
    assert declaration.source.kind == "torch_hub"
    commit = declaration.source.repo.partition(":")[2]
    assert len(bytes.fromhex(commit)) == 20
    assert declaration.licence
