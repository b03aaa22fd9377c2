"""The experiment runner on tiny runs: same data, budget and seeds, and a verdict with its uncertainty."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from small_worlds import texture
from tiny_pittsburgh import write_pittsburgh
from tiny_training import content, write_places

from training.compare import main
from training.data.image_set import ImageSet
from training.data.protocol import Part, RetrievalProtocol, within_frames
from training.evaluation.bootstrap import Units
from training.experiment import VariantAnswers, contrast, report


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Contrastive against graded on six places, judged on two aligned passes of twelve other images."""
    root = tmp_path_factory.mktemp("experiment")
    write_places(root)
    for name, alpha in (("map", 1.0), ("queries", 0.8)):
        (root / name).mkdir()
        for i in range(12):
            path = root / name / f"{i:02d}.jpg"
            cv2.imwrite(str(path), cv2.convertScaleAbs(texture(50 + i, 96, 72), alpha=alpha))
    (root / "base.yaml").write_text(yaml.safe_dump(content(root, loop__steps=2)))
    path = root / "losses.yaml"
    plain = {
        "recipe": "base.yaml",
        "seeds": [0, 1],
        "variants": {"contrastive": {"loss": {"kind": "contrastive"}}, "gcl": {}},
        "protocols": [f"aligned={root / 'map'},{root / 'queries'},0"],
        "whitened_dim": 3,
    }
    path.write_text(yaml.safe_dump(plain))
    return path


def test_every_variant_and_seed_is_trained_once_and_compared(
    experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(experiment), "--out", str(tmp_path)])
    table = capsys.readouterr().out
    names = ["untrained", "untrained, whitened", "contrastive", "contrastive, whitened", "gcl", "gcl, whitened"]
    (results,) = json.loads((tmp_path / "results.json").read_text()).values()
    assert sorted(results) == sorted(names)
    assert [len(results[name]["seeds"]) for name in ("untrained", "contrastive", "gcl, whitened")] == [1, 2, 2]
    assert "minus contrastive" in table
    assert "12 queries with an answer" in table
    assert cv2.imread(str(tmp_path / "recall.png")).std() > 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("network.safetensors")}
    assert len(before) == 10
    main([str(experiment), "loop.checkpoint_every=1", "--out", str(tmp_path)])
    assert {path: path.stat().st_mtime_ns for path in before} == before
    with pytest.raises(SystemExit, match=r"another recipe: loop.steps differ; --out chooses another folder"):
        main([str(experiment), "loop.steps=3", "--out", str(tmp_path)])


def test_the_attention_table_runs_on_a_pittsburgh_tree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The experiment's own file, on a small tree in the format of Pitts30k, with a network of seconds."""
    data = write_pittsburgh(tmp_path / "data", places=4)
    experiment = Path(__file__).parents[2] / "training" / "experiments" / "deattention_pitts30k.yaml"
    small = "network.width=64 network.height=64 network.pool.clusters=4 network.backbone.weights=none"
    shallow = (
        "network.backbone.last_block=features.9 network.backbone.train_from=features.7 loop.steps=1 loop.workers=0"
    )
    mined = "sampling.tuples=2 sampling.negatives=2 sampling.refresh_queries=4 sampling.margin=2"
    paths = f"data_root={data} cache={tmp_path / 'cache'}"
    settings = f"{paths} {small} {shallow} {mined}".split()
    main([str(experiment), *settings, "--seeds", "0", "--out", str(tmp_path / "out")])
    table = capsys.readouterr().out
    rows = ["untrained", "baseline", "crn", "bam", "cbam", "se", "deattention", "deattention_stml"]
    (results,) = json.loads((tmp_path / "out" / "results.json").read_text()).values()
    assert list(results) == rows
    assert "pitts30k_test; right: at most 25 m away; 8 queries with an answer, database 8" in table
    assert "deattention_stml minus deattention" in table


def test_the_table_says_what_the_numbers_are() -> None:
    images = ImageSet.of("drive", [Path(f"{i}.jpg") for i in range(4)])
    protocol = RetrievalProtocol("a drive", "+-0 images", (Part(images, images, within_frames(4, 4, 0)),))
    units = Units(np.array([0, 0, 1, 1]), "2 blocks of 2 images")
    rows = [
        VariantAnswers("contrastive", np.array([[True, False, False, False], [True, True, False, False]])),
        VariantAnswers("gcl", np.array([[True, True, True, True], [True, True, True, True]])),
    ]
    text = report(protocol, rows, units, "contrastive")
    assert "a drive; right: +-0 images; 4 queries with an answer, database 4" in text
    assert "0.375" in text  # three of eight
    assert "0.250 0.500" in text  # each seed
    assert "+0.625 (+0.250 .. +1.000)" in text


def test_stages_come_first_and_are_not_judged(
    experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = yaml.safe_load(experiment.read_text())
    plain |= {
        "seeds": [1],
        "whitened_dim": None,
        "stages": {"first": {"loss": {"kind": "contrastive"}}},
        "variants": {"stays": {"start": "{first}", "loop.steps": 0, "whitening": None}, "moves": {"start": "{first}"}},
        "contrasts": [["moves", "stays"]],
    }
    path = experiment.with_name("stages.yaml")
    path.write_text(yaml.safe_dump(plain))
    main([str(path), "--out", str(tmp_path)])
    said = capsys.readouterr().out
    first, stays, moves = (
        load_file(tmp_path / f"{name}-1/network.safetensors") for name in ("first", "stays", "moves")
    )
    assert all(torch.equal(first[name], stays[name]) for name in first)
    assert not all(torch.equal(first[name], moves[name]) for name in first)
    (results,) = json.loads((tmp_path / "results.json").read_text()).values()
    assert sorted(results) == ["moves", "stays", "untrained"]
    assert "moves minus stays: " in said


def test_a_difference_by_hand() -> None:
    rows = [
        VariantAnswers("a", np.array([[True, True, False, False]])),
        VariantAnswers("b", np.array([[False, True, False, False]])),
    ]
    assert contrast(rows, Units(np.array([0, 1, 2, 3]), "images"), "a", "b").startswith("a minus b: +0.250 (")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "recipe: base.yaml\nvariants: {a: {start: '{b}'}}\nprotocols: [a=b]",
            "{b} names no stage that is trained before",
        ),
        (
            "recipe: x.yaml\nvariants: {a: {}}\ncontrasts: [[a, b]]\nprotocols: [a=b]",
            "contrasts: there is no variant 'b'",
        ),
        ("seeds: [0]", "recipe: Field required"),
        ("recipe: x.yaml\nvariants: {}\nprotocols: [a=b]", "variants: .*at least 1"),
        ("[", "experiment.yaml is not YAML"),
    ],
)
def test_a_broken_experiment_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "experiment.yaml"
    path.write_text(text)
    with pytest.raises(SystemExit, match=message):
        main([str(path)])
