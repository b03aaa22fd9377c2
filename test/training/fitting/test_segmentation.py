"""A run of two steps: it leaves what it says, resumes to the same network, and refuses what does not belong to it."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from small_worlds import texture

from training.data.classes import read_table
from training.fitting.segmentation import accuracy_lines, class_weights, read_recipe, train
from training.semantics.onnx_segmenter import OnnxSegmenter, SegmentationFile
from training.train_segmentation import main
from vpr_ros.errors import ConfigError, TrainingError
from vpr_ros.images import read_image


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Four images, the upper half sky and the lower road; the smallest network that works."""
    labels = np.zeros((32, 64), np.uint8)
    labels[16:], labels[31] = 3, 11
    for i in range(4):
        for folder, pixels in (("images", texture(i, 64, 32)), ("labels", labels)):
            (tmp_path / folder).mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / folder / f"{i}.png"), pixels)
    folder = {"images": "images", "labels": "labels"}
    content = {
        "name": "tiny",
        "table": "camvid",
        "data_root": str(tmp_path),
        **{part: folder for part in ("train", "validation", "test")},
        "network": {
            "width": 64,
            "height": 32,
            "backbone": {"name": "mobilenet_v2", "weights": "none", "last_block": "features.4"},
            "skips": ["features.2"],
            "channels": 4,
        },
        "crop_width": 32,
        "crop_height": 32,
        "loop": {"steps": 2, "batch": 2, "workers": 0, "validate_every": 1},
    }
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(content))
    return tmp_path / "tiny.yaml"


def test_a_run_leaves_a_network_that_says_what_it_is(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    main([str(recipe), "--out", str(out)])
    assert {path.name for path in out.iterdir()} == {"recipe.yaml", "last.ckpt", "log.csv", "segmentation.onnx"}
    steps = [line.split(",")[0] for line in (out / "log.csv").read_text().split()]
    assert steps == ["step", "1", "2"]
    file = SegmentationFile.open(out / "segmentation.onnx")
    assert file.metadata.items() >= {"name": "tiny", "table": "camvid", "trained_on": "images (4 images)"}.items()
    assert json.loads(file.metadata["recipe"])["loop"]["steps"] == 2
    iou = json.loads(file.metadata["test_iou"])
    assert list(iou) == [read_table("camvid").classes[number].name for number in range(11)]
    assert iou["sky"] is not None
    assert None in iou.values()  # of eleven classes two are there; a network answers with few others after two steps
    said = capsys.readouterr().out
    assert f"mIoU  {float(file.metadata['test_miou']):.3f}" in said
    labels = OnnxSegmenter(file, read_table("camvid")).labels(read_image(tmp_path / "images/0.png"), 8, 16)
    assert labels.max() <= 10


def test_a_run_that_was_killed_goes_on_to_the_same_network(recipe: Path, tmp_path: Path) -> None:
    whole = train(read_recipe(recipe), tmp_path / "whole")
    first = read_recipe(recipe)
    broken = tmp_path / "broken"

    class Killed(Exception):
        pass

    def kill(*_: object) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.fitting.segmentation.log", kill)  # after the checkpoint of step 1
        with pytest.raises(Killed):
            train(first, broken)
    resumed = train(first, broken, resume=True)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_folder_that_holds_a_run_is_not_overwritten(recipe: Path, tmp_path: Path) -> None:
    train(read_recipe(recipe), tmp_path / "run")
    with pytest.raises(TrainingError, match="holds a run already: --resume goes on with it, --out chooses another"):
        train(read_recipe(recipe), tmp_path / "run")
    with pytest.raises(TrainingError, match=r"another recipe: optimiser\.learning_rate differ"):
        train(read_recipe(recipe, ["optimiser.learning_rate=0.5"]), tmp_path / "run", resume=True)
    (tmp_path / "run/last.ckpt").write_bytes(b"damaged")
    with pytest.raises(
        TrainingError, match=r"last\.ckpt cannot be read as a checkpoint of training.train_segmentation"
    ):
        train(read_recipe(recipe), tmp_path / "run", resume=True)


def test_a_loss_that_is_not_finite_stops_the_run(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.nn.functional.cross_entropy", lambda *_, **__: torch.tensor(float("nan")))
    with pytest.raises(TrainingError, match=r"the loss is nan at step 0; lower optimiser\.learning_rate"):
        train(read_recipe(recipe), tmp_path / "run")


def test_a_network_learns(recipe: Path, tmp_path: Path) -> None:
    overrides = ["loop.steps=12", "loop.validate_every=6", "optimiser.warmup_steps=0", "optimiser.learning_rate=0.01"]
    train(read_recipe(recipe, overrides), tmp_path / "run")
    losses = [float(line.split(",")[1]) for line in (tmp_path / "run/log.csv").read_text().split()[1:]]
    assert losses[1] < 0.7 * losses[0]


def test_rare_classes_weigh_more(recipe: Path) -> None:
    pairs = read_recipe(recipe).train.pairs(recipe.parent)
    weights = class_weights(pairs, read_table("camvid"), 1.1)
    shares = np.zeros(11)
    shares[[0, 3]] = 16 / 31, 15 / 31  # the last row is void
    np.testing.assert_allclose(weights, 1 / np.log(1.1 + shares), rtol=1e-5)


def test_the_table_of_a_result() -> None:
    counts = np.zeros((11, 11), np.int64)
    counts[0, 0], counts[1, 0], counts[1, 1] = 2, 1, 1
    lines = [" ".join(line.split()) for line in accuracy_lines(counts, read_table("camvid"))]
    assert lines[:3] == ["sky 0.667", "building 0.500", "pole nan"]
    assert lines[-2:] == ["mIoU 0.583", "pixel accuracy 0.750"]


def test_a_wrong_recipe_is_refused(recipe: Path) -> None:
    with pytest.raises(ConfigError, match=r"tiny\.yaml: loop\.steps: Input should be greater than or equal to 0"):
        read_recipe(recipe, ["loop.steps=-1"])
    with pytest.raises(SystemExit, match=r"train_segmentation: .*no table of classes is called 'mine'"):
        main([str(recipe), "table=mine", "--out", str(recipe.parent / "run")])
