"""The command: every image gets its label map, once, and what stands in the way is said."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from small_worlds import texture

from training.data.classes import read_label_map
from training.segment import main

CLASSES = np.array([[0, 1], [5, 11]], np.uint8)
"""Of camvid: sky, building, tree, void."""


@pytest.fixture
def camvid(tmp_path: Path) -> Path:
    """Three images of 32 x 32 px in two folders, and their label images."""
    for name in ("a", "town/b", "town/c"):
        for folder, pixels in (
            ("images", texture(1, 32, 32)),
            ("labels", np.kron(CLASSES, np.ones((16, 16), np.uint8))),
        ):
            path = tmp_path / folder / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), pixels)
    return tmp_path


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """Answers with building everywhere, and says of itself that its classes are CamVid's."""
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMax", ["float"], ["bright"], axes=[3], keepdims=1),
            helper.make_node("Mul", ["bright", "classes"], ["logits"]),
        ],
        "buildings",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, [1, 32, 32, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 32, 32, 11])],
        [helper.make_tensor("classes", TensorProto.FLOAT, [11], np.eye(11, dtype=np.float32)[1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"table": "camvid"})
    onnx.save(model, tmp_path / "buildings.onnx")
    return tmp_path / "buildings.onnx"


def run(root: Path, *arguments: str) -> None:
    main([str(root / "images"), "--out", str(root / "out"), *arguments])


def from_labels(root: Path, *arguments: str) -> None:
    run(root, "--labels", str(root / "labels"), "--table", "camvid", *arguments)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.*"))


def test_existing_labels_become_small_maps(camvid: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from_labels(camvid)
    assert files(camvid / "out") == ["a.png", "label_maps.json", "town/b.png", "town/c.png"]
    labels = read_label_map(camvid / "out/town/b.png")
    np.testing.assert_array_equal(labels, np.kron(CLASSES, np.ones((4, 4), np.uint8)))
    said = capsys.readouterr().out.splitlines()
    assert f"3 label maps in {camvid}/out" in said
    shares = sorted(line.split() for line in said if "25.00%" in line)
    assert shares == sorted(
        ["25.00%", name] for name in ("sky", "sky", "building", "building", "vegetation", "tree", "void", "void")
    )
    record = json.loads((camvid / "out/label_maps.json").read_text())
    assert record == {"table": "camvid", "scale": 0.25, "labels": str(camvid / "labels")}


def test_a_network_that_says_what_its_classes_are(camvid: Path, network: Path) -> None:
    run(camvid, "--model", str(network), "--scale", "0.5")
    labels = read_label_map(camvid / "out/a.png")
    assert labels.shape == (16, 16)
    assert (labels == 1).all()
    record = json.loads((camvid / "out/label_maps.json").read_text())
    assert (record["table"], record["model"], len(record["sha256"])) == ("camvid", "buildings.onnx", 64)


def test_it_goes_on_where_it_stopped(camvid: Path, network: Path) -> None:
    run(camvid, "--model", str(network))
    kept, gone = camvid / "out/a.png", camvid / "out/town/c.png"
    cv2.imwrite(str(kept), np.full((8, 8), 5, np.uint8))  # a map that this network would not make
    gone.unlink()
    run(camvid, "--model", str(network))
    assert (read_label_map(kept) == 5).all()
    assert (read_label_map(gone) == 1).all()


def test_maps_inside_the_image_folder_are_no_images(camvid: Path) -> None:
    for _ in range(2):
        main(
            [
                str(camvid / "images"),
                "--out",
                str(camvid / "images/maps"),
                "--labels",
                str(camvid / "labels"),
                "--table",
                "camvid",
            ]
        )
    assert files(camvid / "images/maps") == ["a.png", "label_maps.json", "town/b.png", "town/c.png"]


def test_maps_made_otherwise_are_not_mixed(camvid: Path, network: Path) -> None:
    run(camvid, "--model", str(network))
    with pytest.raises(
        SystemExit, match=r"segment: .*out holds label maps that were made otherwise \(scale differ\): choose"
    ):
        run(camvid, "--model", str(network), "--scale", "0.5")
    with pytest.raises(SystemExit, match=r"made otherwise \(.*sha256.*labels differ\)"):
        from_labels(camvid)


def test_unreadable_images_are_left_out_and_named(
    camvid: Path, network: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (camvid / "images/broken.jpg").write_bytes(b"no image")
    run(camvid, "--model", str(network))
    said = capsys.readouterr()
    assert f"3 label maps in {camvid}/out" in said.out
    assert f"left out: {camvid}/images/broken.jpg: 8 bytes do not decode" in said.err
    assert not (camvid / "out/broken.png").exists()


def test_the_table_must_know_every_id(camvid: Path) -> None:
    cv2.imwrite(str(camvid / "labels/town/b.png"), np.full((32, 32), 37, np.uint8))
    with pytest.raises(SystemExit, match=r"segment: .*town/b\.png holds class id 37, which the table has not"):
        from_labels(camvid)
    assert files(camvid / "out") == ["a.png", "label_maps.json"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--labels", "labels"], "what do the class ids mean\\? --table names a table"),
        (["--labels", "labels", "--table", "town"], "no table of classes is called 'town'; there are ade20k"),
        (["--model", "nowhere.onnx"], "cannot read model nowhere.onnx"),
        (["--model", "buildings.onnx", "--size", "64x64"], "takes images of 32 x 32 px only"),
        (["--model", "buildings.onnx", "--table", "ade20k"], "the table has 150 classes: is it of this network"),
    ],
)
def test_refusals_are_one_line(
    camvid: Path, network: Path, arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(camvid)
    with pytest.raises(SystemExit, match=f"segment: .*{message}") as refused:
        run(camvid, *arguments)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--labels", "x", "--scale", "2"], r"'2' is not a share in (0, 1]"),
        (["--labels", "x", "--scale", "small"], r"'small' is not a share in (0, 1]"),
        (["--model", "x", "--size", "64"], "'64' is not WIDTHxHEIGHT"),
        (["--model", "x", "--labels", "y"], "not allowed with"),
        ([], "one of the arguments --model --transformers --labels is required"),
    ],
)
def test_options_that_make_no_sense(
    camvid: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run(camvid, *arguments)
    assert message in capsys.readouterr().err


def test_two_images_of_one_name(camvid: Path) -> None:
    cv2.imwrite(str(camvid / "images/a.jpg"), texture(1, 32, 32))
    with pytest.raises(SystemExit, match=r"a\.\w+ and .*a\.\w+ would have one label map"):
        from_labels(camvid)


def test_a_preview_shows_images_beside_their_classes(camvid: Path) -> None:
    from_labels(camvid, "--preview", str(camvid / "preview.png"))
    sheet = cv2.imread(str(camvid / "preview.png"))
    assert sheet.shape == (3 * 320, 2 * 320, 3)
    sky, void = sheet[20:140, 340:460].reshape(-1, 3), sheet[180:300, 500:620].reshape(-1, 3)
    assert np.abs(sky.mean(axis=0) - void.mean(axis=0)).max() > 50


def test_the_shipped_network_on_real_images(shared_data: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    frame = shared_data / "kitti/sequences/00/image_0/000300.jpg"
    (tmp_path / "images/000300.jpg").write_bytes(frame.read_bytes())
    model = Path(__file__).parents[3] / "models/segmentation/mobilenetv2_camvid.onnx"
    run(tmp_path, "--model", str(model), "--scale", "0.5")
    found = read_label_map(tmp_path / "out/000300.png")
    assert found.shape == (94, 310)
    assert 3 in found[-20:]  # a road, where a car drives


def test_a_relative_out_inside_the_images(camvid: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(camvid / "images")
    for _ in range(2):
        main([str(camvid / "images"), "--out", "maps", "--labels", str(camvid / "labels"), "--table", "camvid"])
    assert files(camvid / "images/maps") == ["a.png", "label_maps.json", "town/b.png", "town/c.png"]
