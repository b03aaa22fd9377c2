"""The whole of training on a tiny tree: it runs, it repeats, it refuses."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest
import torch
import yaml
from small_worlds import save_grid_model, texture

from training.evaluate import AlignedSet, evaluate, main, thumbnail
from training.export import load_network
from training.train import learning_rate_share, read_recipe, train
from vpr_ros.errors import ConfigError, SourceError

RECIPE = Path(__file__).resolve().parents[2] / "training" / "recipes" / "first_model.yaml"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four named places in two sessions, and two clips."""
    root = tmp_path_factory.mktemp("data")
    (root / "michigan").mkdir()
    (root / "ie_tower" / "floor1").mkdir(parents=True)
    for session in (1, 2):
        for place in range(1, 5):
            cv2.imwrite(str(root / "michigan" / f"{session:02d}{place:02d}.jpg"), texture(place, 96, 72))
    for clip in ("hall", "stairs"):
        for frame in range(5):
            path = root / "ie_tower" / "floor1" / f"f1_{clip}_frame_{frame:06d}.jpg"
            cv2.imwrite(str(path), texture(100 + frame, 96, 72))
    (root / "ie_tower" / "floor1" / "f1_broken_frame_000000.jpg").write_bytes(b"no image")
    return root


def overrides(data: Path, **changes: object) -> list[str]:
    values = {
        "data_root": str(data),
        "imagenet_weights": str(data / "none.pth"),
        "width": 64,
        "height": 64,
        "dim": 4,
        "steps": 3,
        "groups": 2,
        "warmup_steps": 1,
        "sources": [{"kind": "michigan", "share": 1}, {"kind": "ie_tower", "share": 1}],
    } | changes
    return [
        f"{key}={yaml.safe_dump(value, default_flow_style=True).removesuffix('...' + chr(10)).strip()}"
        for key, value in values.items()
    ]


def test_training_runs_and_repeats(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = read_recipe(RECIPE, overrides(data))
    checkpoints = [train(recipe, tmp_path / name) for name in ("a", "b")]
    said = capsys.readouterr().out
    assert "1 unreadable images skipped" in said
    assert "starts from random weights" in said
    logs = [(tmp_path / name / "log.csv").read_text() for name in ("a", "b")]
    assert logs[0] == logs[1]
    assert len(logs[0].splitlines()) == 4
    assert yaml.safe_load((tmp_path / "a" / "recipe.yaml").read_text()) == recipe
    network, saved = load_network(checkpoints[0])
    assert saved["sources"] == ["michigan", "ie_tower"]
    assert torch.isfinite(network.projection.weight).all()


def test_a_loss_that_is_not_finite_stops_with_advice(data: Path, tmp_path: Path) -> None:
    recipe = read_recipe(RECIPE, overrides(data, learning_rate=1e30, steps=5, warmup_steps=0))
    with pytest.raises(FloatingPointError, match="lower learning_rate"):
        train(recipe, tmp_path)


def test_an_unknown_key_or_kind_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no 'stepz'"):
        read_recipe(RECIPE, ["stepz=3"])
    with pytest.raises(SourceError, match="unknown kind of training data 'moon'"):
        train(read_recipe(RECIPE, overrides(data, sources=[{"kind": "moon", "share": 1}])), tmp_path)


def test_the_recipe_keeps_away_from_what_is_reported_on() -> None:
    recipe = yaml.safe_load(RECIPE.read_text())
    kinds = {source["kind"] for source in recipe["sources"]}
    assert kinds == {"kitti", "rendered", "michigan", "ie_tower", "camvid"}
    kitti = next(source for source in recipe["sources"] if source["kind"] == "kitti")
    assert kitti["first"] > 250
    assert kitti["last"] < 1350


def test_learning_rate_warms_up_and_ends_at_zero() -> None:
    recipe = {"steps": 100, "warmup_steps": 10}
    shares = [learning_rate_share(step, recipe) for step in range(101)]
    assert shares[9] == 1.0
    assert max(shares) <= 1.0
    assert shares[-1] == pytest.approx(0.0, abs=1e-9)


def test_recall_of_two_aligned_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder, order in (("map", range(8)), ("query", [0, 1, 2, 3, 7, 6, 5, 4])):
        (tmp_path / folder).mkdir()
        for i, place in enumerate(order):
            cv2.imwrite(str(tmp_path / folder / f"{i}.png"), texture(place, 160, 120))
    aligned = AlignedSet("tiny", tmp_path / "map", tmp_path / "query", 0)
    assert evaluate(thumbnail, aligned, "thumbnail")[1] == 0.5
    aligned = AlignedSet("tiny", tmp_path / "map", tmp_path / "query", 1)
    assert evaluate(thumbnail, aligned, "thumbnail")[1] == 0.75  # 5 for 4 and 6 for 5 are near enough
    model = save_grid_model(tmp_path / "grid.onnx")
    main([str(model), f"tiny={tmp_path}/map,{tmp_path}/query,0"])
    assert capsys.readouterr().out.count("recall@1 0.500") == 2


@pytest.mark.parametrize("text", ["x", "x=a,b", "x=a,b,c"])
def test_a_set_that_is_no_set(text: str) -> None:
    with pytest.raises(SourceError, match="is not NAME="):
        AlignedSet.parse(text)
