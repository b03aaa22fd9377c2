"""The whole of training on a tiny tree: it repeats, resumes, runs on several processes, and breaks cleanly."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch import Callback
from safetensors.torch import load_file
from small_worlds import texture
from tiny_training import LABEL_MAPS, content, write_label_maps, write_places, write_teacher_and_student

from training.attention.deattention import DeAttention
from training.catalog import open_sources
from training.fitting import run, segmentation
from training.fitting.checkpoint_file import save_checkpoint
from training.fitting.module import PlaceTraining
from training.fitting.run import train
from training.models.network_file import load_network, read_metadata, save_network
from training.models.place_network import PlaceNetwork
from training.models.torchvision_wheel import import_torchvision
from training.options import parse_overrides
from training.recipe import Recipe, read_recipe
from training.train import main
from vpr_ros.errors import ConfigError, ModelError, OutputError, TrainingError

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_places(tmp_path_factory.mktemp("data"))


def tiny(data: Path, **changes: Any) -> Recipe:
    return Recipe.checked(content(data, **changes), "tiny")


def losses(out: Path) -> dict[int, float]:
    """Loss by step, of every part of a run that was resumed."""
    found = {}
    for path in sorted(out.glob("metrics/*/metrics.csv")):
        with path.open() as file:
            found |= {int(row["step"]): float(row["loss"]) for row in csv.DictReader(file) if row.get("loss")}
    return found


class Killed(Callback):
    """Ends a run as abruptly as an exception can."""

    def __init__(self, at: int) -> None:
        self.at = at

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.at:
            raise KeyError("killed")


def kill_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    make = run.make_trainer

    def make_and_kill(*arguments: Any) -> Any:
        trainer = make(*arguments)
        trainer.callbacks.append(Killed(step))
        return trainer

    monkeypatch.setattr(run, "make_trainer", make_and_kill)


def test_a_run_repeats_and_learns(data: Path, tmp_path: Path) -> None:
    recipe = tiny(data, loop__steps=12)
    networks = [load_file(train(recipe, tmp_path / name)) for name in ("a", "b")]
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    assert all(torch.equal(networks[0][key], networks[1][key]) for key in networks[0])
    found = list(losses(tmp_path / "a").values())
    assert len(found) == 12
    assert sum(found[-3:]) < sum(found[:3])


def test_another_seed_is_another_run(data: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        train(tiny(data, seed=seed, loop__steps=2), tmp_path / str(seed))
    assert losses(tmp_path / "0") != losses(tmp_path / "1")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"loop__accumulate": 2, "loop__workers": 1},
        {
            "sampling": {"kind": "mined_triplets", "tuples": 2, "negatives": 2, "refresh_queries": 6, "margin": 1.5},
            "loss": {"kind": "triplet"},
        },
    ],
    ids=["groups", "accumulated", "mined"],
)
def test_a_killed_run_resumes_to_the_same_losses(
    data: Path, tmp_path: Path, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny(data, **changes)
    whole = load_file(train(recipe, tmp_path / "whole"))
    with monkeypatch.context() as patch:
        kill_at(patch, 5)  # one step after the checkpoint of step 4, in the middle of a mining round
        with pytest.raises(KeyError, match="killed"):
            train(recipe, tmp_path / "killed")
    assert not (tmp_path / "killed" / "network.safetensors").exists()
    resumed = load_file(train(recipe, tmp_path / "killed", resume=True))
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_a_run_killed_before_its_first_checkpoint_starts_again(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny(data)
    whole = load_file(train(recipe, tmp_path / "whole"))
    with monkeypatch.context() as patch:
        kill_at(patch, 1)
        with pytest.raises(KeyError, match="killed"):
            train(recipe, tmp_path / "killed")
    resumed = load_file(train(recipe, tmp_path / "killed", resume=True))
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_an_unreadable_image_that_mining_meets_is_said(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = data / "places" / "0000.jpg"
    good = broken.read_bytes()
    broken.write_bytes(b"no image")
    sampling = {"kind": "mined_triplets", "tuples": 2, "negatives": 2, "refresh_queries": 18, "margin": 1.5}
    try:
        train(tiny(data, sampling=sampling, loss={"kind": "triplet"}), tmp_path)
    finally:
        broken.write_bytes(good)
    assert capsys.readouterr().out.count(f"cannot read {broken}") == 1


def test_kill_9_loses_nothing_before_the_last_checkpoint(data: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(content(data, loop__steps=400, loop__checkpoint_every=3)))
    out = tmp_path / "out"
    process = subprocess.Popen([sys.executable, "-m", "training.train", recipe, "--out", out], cwd=ROOT)
    while not (out / "last.ckpt").exists():
        assert process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    state = torch.load(out / "last.ckpt", weights_only=True)
    assert state["global_step"] % 3 == 0
    assert state["batches_done"] == state["global_step"]


def test_a_run_is_not_overwritten(data: Path, tmp_path: Path) -> None:
    train(tiny(data, loop__steps=2), tmp_path)
    with pytest.raises(TrainingError, match="holds a run already: --resume goes on with it"):
        train(tiny(data, loop__steps=2), tmp_path)


def test_another_recipe_cannot_resume(data: Path, tmp_path: Path) -> None:
    train(tiny(data, loop__steps=2), tmp_path)
    with pytest.raises(TrainingError, match=r"another recipe: optimiser\.learning_rate differ"):
        train(tiny(data, loop__steps=2, optimiser__learning_rate=0.5), tmp_path, resume=True)


def test_what_changes_no_loss_may_change(data: Path, tmp_path: Path) -> None:
    train(tiny(data), tmp_path)
    train(tiny(data, loop__workers=1), tmp_path, resume=True)


def test_other_data_cannot_resume(data: Path, tmp_path: Path) -> None:
    extra = data / "places" / "0900.jpg"
    train(tiny(data, loop__steps=2), tmp_path)
    cv2.imwrite(str(extra), texture(0, 96, 72))
    try:
        with pytest.raises(TrainingError, match="made with other data"):
            train(tiny(data, loop__steps=2), tmp_path, resume=True)
    finally:
        extra.unlink()


def test_a_file_that_is_no_checkpoint_is_refused(data: Path, tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").write_bytes(b"not a checkpoint")
    with pytest.raises(TrainingError, match=r"last\.ckpt cannot be read"):
        train(tiny(data), tmp_path, resume=True)


def test_a_pickle_is_never_run(data: Path, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"state_dict": Bomb()}, tmp_path / "last.ckpt")
    with pytest.raises(TrainingError, match=r"last\.ckpt cannot be read"):
        train(tiny(data), tmp_path, resume=True)
    assert not (tmp_path / "ran").exists()


def test_a_loss_that_is_not_finite_stops_training(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TrainingError, match=r"the loss is nan at step \d.*lower optimiser\.learning_rate"):
        train(tiny(data, optimiser__learning_rate=1e30, loop__checkpoint_every=1), tmp_path)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] >= 1


def test_a_full_disk_leaves_the_last_checkpoint(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fills between the first and the second checkpoint."""

    def fsync(file: int) -> None:
        if (tmp_path / "last.ckpt").exists():
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("vpr_ros.files.os.fsync", fsync)
    with pytest.raises(TrainingError, match="No space left on device; the last one is intact: make room"):
        train(tiny(data), tmp_path)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 2
    assert not list(tmp_path.glob("*.part"))


def test_an_unreadable_image_is_said_and_left_out(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = data / "places" / "0000.jpg"
    good = broken.read_bytes()
    broken.write_bytes(b"no image")
    try:
        train(tiny(data, loop__steps=12), tmp_path)
    finally:
        broken.write_bytes(good)
    assert capsys.readouterr().out.count(f"cannot read {broken}: left out of its batches (1 such images so far)") == 1
    assert len(losses(tmp_path)) == 12


def test_a_checkpoint_says_what_made_it(data: Path, tmp_path: Path) -> None:
    recipe = tiny(data, loop__steps=2)
    path = train(recipe, tmp_path)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)["vpr_ros"]
    metadata = read_metadata(path)
    assert saved["recipe"] == json.loads(metadata["recipe"]) == recipe.model_dump(mode="json")
    assert saved["data"] == metadata["data"]
    assert len(saved["data"]) == 64
    assert saved["commit"] == metadata["commit"]
    assert metadata["trained_on"] == "places (18 images)"
    assert read_recipe(tmp_path / "recipe.yaml") == recipe


@pytest.fixture(scope="module")
def second_stage(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """Goes on from a student that a teacher of label maps teaches."""
    root = write_label_maps(write_places(tmp_path_factory.mktemp("second")))
    plain = content(root)
    plain["sources"][0]["label_maps"] = LABEL_MAPS
    teacher, student = write_teacher_and_student(Recipe.checked(plain, "tiny"), root)
    second = {"start": str(student), "distillation": {"teacher": str(teacher), "align": False}}
    return Recipe.checked({**plain, **second, "optimiser": {"learning_rate": 0.01}}, "second")


def test_a_second_stage_begins_with_the_student_and_pulls_it_to_the_teacher(
    second_stage: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    update = {"loop": second_stage.loop.model_copy(update={"steps": 0}), "whitening": None}
    untouched = load_file(train(second_stage.model_copy(update=update), tmp_path / "none"))
    start = load_file(second_stage.start)
    assert all(torch.equal(start[name], untouched[name]) for name in start)
    train(second_stage, tmp_path / "run")
    said = capsys.readouterr().out
    assert "distillation: 36 samples: D1" in said
    assert "of 18 queries the teacher solves 18" in said
    assert (tmp_path / "run" / "distillation.html").exists()
    (path,) = (tmp_path / "run").glob("metrics/*/metrics.csv")
    with path.open() as file:
        curve = [float(row["loss/distillation"]) for row in csv.DictReader(file) if row.get("loss/distillation")]
    assert len(curve) == 6
    assert curve[-1] < curve[0]


def test_a_second_stage_resumes_to_the_same_losses(
    second_stage: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(second_stage, tmp_path / "whole")
    with monkeypatch.context() as patched:
        kill_at(patched, 5)
        with pytest.raises(KeyError, match="killed"):
            train(second_stage, tmp_path / "killed")
    train(second_stage, tmp_path / "killed", resume=True)
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")


def test_another_teacher_cannot_resume(second_stage: Recipe, tmp_path: Path) -> None:
    assert second_stage.distillation
    teacher = second_stage.distillation.teacher
    before = teacher.read_bytes()
    train(second_stage, tmp_path / "run")
    save_network(load_network(teacher), teacher, {"trained": "longer"})
    with pytest.raises(TrainingError, match="made with other data"):
        train(second_stage, tmp_path / "run", resume=True)
    teacher.write_bytes(before)


def test_a_start_that_is_another_network_is_refused(second_stage: Recipe, tmp_path: Path) -> None:
    network = second_stage.network.model_copy(update={"dim": 3, "width": 96})
    with pytest.raises(ConfigError, match=r"another network than the recipe's: network\.width, network\.dim differ"):
        train(second_stage.model_copy(update={"network": network}), tmp_path / "run")
    with pytest.raises(ConfigError, match="distillation is a second stage: `start` names the trained network"):
        Recipe.checked({**second_stage.model_dump(), "start": None}, "recipe")


def guided(root: Path, **changes: Any) -> Recipe:
    plain = content(root, **changes)
    plain["sources"][0]["label_maps"] = LABEL_MAPS
    plain["network"]["attention"] = {"kind": "deattention"}
    return Recipe.checked({**plain, "guidance": {"categories": ["building", "sky", "vehicle"], "weight": 5}}, "guided")


def column(out: Path, name: str) -> list[float]:
    (path,) = out.glob("metrics/*/metrics.csv")
    with path.open() as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]


def test_guidance_teaches_the_mask(tmp_path: Path) -> None:
    root = write_label_maps(write_places(tmp_path))
    train(guided(root, loop__steps=30, optimiser__learning_rate=0.01), tmp_path / "run")
    loss = column(tmp_path / "run", "loss/mask")
    assert len(loss) == 30
    assert sum(loss[-5:]) < sum(loss[:5])


@pytest.mark.parametrize(
    ("bias", "said"), [(-9.0, "is 0 nearly everywhere at step 0"), (9.0, "is 1 nearly everywhere")]
)
def test_a_degenerate_mask_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], bias: float, said: str
) -> None:
    def prepared(network: PlaceNetwork, *_: Any) -> None:
        torch.nn.init.constant_(network.attention.accumulation[2].bias, bias)

    monkeypatch.setattr(run, "prepare", prepared)
    train(guided(write_label_maps(write_places(tmp_path)), loop__steps=2, whitening=None), tmp_path / "run")
    assert capsys.readouterr().out.count(said) == 1


def test_guidance_needs_a_mask_and_label_maps(data: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"guidance teaches the mask of an attention: set network\.attention to deatt"
    ):
        Recipe.checked({**content(data), "guidance": {}}, "recipe")
    recipe = guided(data)
    bare = recipe.model_copy(
        update={"sources": tuple(s.model_copy(update={"label_maps": None}) for s in recipe.sources)}
    )
    with pytest.raises(ConfigError, match="guidance needs label maps"):
        train(bare, tmp_path / "run")


def test_layers_that_nobody_pretrained_may_learn_faster(data: Path) -> None:
    recipe = tiny(data, optimiser={"learning_rate": 1e-3, "head_factor": 20, "warmup_steps": 0, "schedule": "constant"})
    network = PlaceNetwork(recipe.network)
    optimiser = PlaceTraining(recipe, network, []).configure_optimizers()["optimizer"]
    rate = {id(p): group["lr"] for group in optimiser.param_groups for p in group["params"]}
    assert rate[id(network.backbone.conv1.weight)] == 1e-3
    assert rate[id(network.projection.weight)] == rate[id(network.pool.p)] == 2e-2


def test_mining_may_leave_attention_out(data: Path, tmp_path: Path) -> None:
    """The original's quirk: the cache is then that of the same network without attention."""
    sampling = {"kind": "mined_triplets", "tuples": 2, "refresh_queries": 8, "pool": 18, "margin": 2}
    with_it, without = (
        tiny(data, sampling={**sampling, "with_attention": flag}, loss={"kind": "triplet"}, loop__steps=1)
        for flag in (True, False)
    )
    seen = []
    for recipe in (with_it, without):
        network = recipe.network.model_copy(update={"attention": DeAttention()})
        torch.manual_seed(0)
        recipe = recipe.model_copy(update={"network": network})
        sources = open_sources(recipe.sources, recipe.data_root, recipe.cache)
        seen.append(PlaceTraining(recipe, PlaceNetwork(network), sources).describe(0, np.arange(4)))
    assert np.abs(seen[0] - seen[1]).max() > 1e-4


def test_overrides_may_stand_anywhere(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(content(data)))
    main([str(path), "loop.steps=0", "--out", str(tmp_path / "run"), "seed=3"])
    assert yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())["seed"] == 3


def test_validation_keeps_the_best_and_stops_early(data: Path, tmp_path: Path) -> None:
    sources = [
        {
            "reader": {
                "kind": "named_places",
                "path": "places",
                "place": r"\d\d(?P<place>\d\d)",
                "pattern": r"*.jpg",
            },
            "labels": {"kind": "same_place"},
        }
    ]
    reader = sources[0]["reader"]
    assert isinstance(reader, dict)
    reader["place"] = r"(?P<session>\d\d)(?P<place>\d\d)"
    recipe = tiny(
        data,
        loop__steps=40,
        optimiser__learning_rate=1e-9,  # nothing improves
        validation={"sources": sources, "every": 2, "patience": 2},
    )
    path = train(recipe, tmp_path)
    assert len(losses(tmp_path)) == 6  # the first validation is the best, two more have no better recall
    best = torch.load(tmp_path / "best.ckpt", weights_only=True)
    assert best["global_step"] == 2
    load_network(path)


def test_half_precision_runs(data: Path, tmp_path: Path) -> None:
    train(tiny(data, loop__precision="bf16-mixed", loop__steps=2), tmp_path)
    assert len(losses(tmp_path)) == 2


def test_two_processes_train_what_one_does_that_accumulates(data: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    changes = {"loop__accelerator": "cpu", "loop__steps": 3, "loop__checkpoint_every": 3}
    plain = content(data, **changes)
    plain["optimiser"] |= {"kind": "sgd"}
    recipe.write_text(yaml.safe_dump(plain))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29631"]
    command += ["-m", "training.train", str(recipe), "loop.devices=2", "--out", str(tmp_path / "two")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    one = load_file(train(read_recipe(recipe, {"loop.accumulate": 2}), tmp_path / "one"))
    two = load_file(tmp_path / "two" / "network.safetensors")
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=1e-4, atol=1e-5, msg=key)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["loop.stepz=3"], r"loop\.stepz: Extra inputs are not permitted"),
        (["loss.margin=wide"], r"loss\..*margin: Input should be a valid number"),
        (["loss.kind=unknown"], r"loss: Input tag 'unknown'"),
        (["sources.7.share=2"], "'7' is not there"),
        (["loop.steps"], "is not key=value"),
    ],
)
def test_a_mistaken_override_is_named(data: Path, tmp_path: Path, overrides: list[str], message: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(content(data, loss={"kind": "graded_contrastive"})))
    with pytest.raises(ConfigError, match=message):
        read_recipe(path, parse_overrides(overrides))


def test_overrides_reach_every_level(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(content(data)))
    overrides = parse_overrides(["seed=5", "loss.kind=triplet", "loss.margin=0.3", "sources.0.share=2"])
    recipe = read_recipe(path, overrides)
    assert (recipe.seed, recipe.loss.kind, recipe.loss.margin, recipe.sources[0].share) == (5, "triplet", 0.3, 2)


RECIPES = sorted((ROOT / "training" / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_can_be_read(path: Path) -> None:
    if path.stem.startswith("segmentation"):
        assert segmentation.read_recipe(path).name
    else:
        assert read_recipe(path).name == path.stem


@pytest.mark.parametrize("broken", [b"", b"no network", b"\xff" * 64])
def test_a_foreign_network_is_refused(tmp_path: Path, broken: bytes) -> None:
    path = tmp_path / "network.safetensors"
    path.write_bytes(broken)
    with pytest.raises(ModelError, match=r"is no network of training\.train"):
        load_network(path)


def validated(data: Path, **changes: Any) -> Recipe:
    places = content(data)["sources"][0]
    reader = {**places["reader"], "place": r"(?P<session>\d\d)(?P<place>\d\d)", **changes}
    return tiny(data, validation={"sources": [{**places, "reader": reader}], "every": 2})


def test_a_validation_in_which_nothing_can_be_right_is_refused(data: Path, tmp_path: Path) -> None:
    recipe = validated(data, place=r"(?P<place>(?P<session>\d\d)\d\d)")  # every image is a place of its own
    with pytest.raises(ConfigError, match="validation: nothing can be right: no query of places"):
        train(recipe, tmp_path / "out")
    assert not (tmp_path / "out" / "recipe.yaml").exists()


@pytest.mark.parametrize("broken", ["00", "01", "02"])
def test_a_validation_that_cannot_be_read_is_refused(data: Path, tmp_path: Path, broken: str) -> None:
    """`00` is the map, `01` and `02` ask: one of two that ask is enough."""
    root = tmp_path / "data"
    shutil.copytree(data / "places", root / "validation")
    shutil.copytree(data / "places", root / "places")
    for path in (root / "validation").glob(f"{broken}*.jpg"):
        path.write_bytes(b"")
    recipe = validated(root, path="validation")
    if broken == "00":
        with pytest.raises(ConfigError, match="validation: no query of validation can be read together"):
            train(recipe, tmp_path / "out")
    else:
        assert train(recipe, tmp_path / "out").exists()


def test_queries_of_which_no_right_answer_can_be_read_do_not_count(data: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(data / "places", root / "places")
    (root / "places" / "0003.jpg").write_bytes(b"")
    recipe = validated(root)
    sources = open_sources(recipe.sources, recipe.data_root, recipe.cache)
    (part,) = run.validation_parts(recipe)
    module = PlaceTraining(recipe, PlaceNetwork(recipe.network), sources, [part])
    d_ok = torch.tensor([path.stat().st_size > 0 for path in part.database.paths])
    queries = torch.zeros(len(part.queries), 4)
    module._described = {
        0: [(torch.zeros(len(d_ok), 4), d_ok)],
        1: [(queries, torch.ones(len(queries), dtype=torch.bool))],
    }
    assert len(module._right(0, 1, part)) == 2 * 5  # of two sessions with six places


def saved_weights(path: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    path.parent.mkdir(exist_ok=True)
    torch.save(import_torchvision().models.resnet18().state_dict(), path)
    return path


def test_pretrained_weights_may_lie_elsewhere_but_not_be_others(data: Path, tmp_path: Path) -> None:
    here = saved_weights(tmp_path / "a" / "weights.pth", 0)
    recipe = tiny(data, loop__steps=2, network__backbone__weights=str(here))
    train(recipe, tmp_path / "run")
    there = tmp_path / "b" / "w.pth"
    there.parent.mkdir()
    here.rename(there)
    train(recipe, tmp_path / "run", resume=True)  # the checkpoint has them
    moved = tiny(data, loop__steps=2, network__backbone__weights=str(there))
    train(moved, tmp_path / "run", resume=True)
    for path in (there, here):
        saved_weights(path, 1)
        others = tiny(data, loop__steps=2, network__backbone__weights=str(path))
        with pytest.raises(TrainingError, match=r"another recipe: network\.backbone\.weights differ"):
            train(others, tmp_path / "run", resume=True)


def test_a_start_may_lie_elsewhere_but_not_be_another(data: Path, tmp_path: Path) -> None:
    networks = [train(tiny(data, seed=seed, loop__steps=0), tmp_path / f"stage{seed}") for seed in (0, 1)]
    train(tiny(data, loop__steps=2, start=str(networks[0])), tmp_path / "run")
    copy = tmp_path / "copy.safetensors"
    shutil.copy(networks[0], copy)
    train(tiny(data, loop__steps=2, start=str(copy)), tmp_path / "run", resume=True)
    with pytest.raises(TrainingError, match="made with other data"):
        train(tiny(data, loop__steps=2, start=str(networks[1])), tmp_path / "run", resume=True)


@pytest.mark.parametrize("name", ["last.ckpt", "best.ckpt"])
def test_a_checkpoint_with_one_changed_byte_is_refused(data: Path, tmp_path: Path, name: str) -> None:
    recipe = validated(data)
    train(recipe, tmp_path)
    file = bytearray((tmp_path / name).read_bytes())
    file[len(file) // 2] ^= 0x10
    (tmp_path / name).write_bytes(file)
    with pytest.raises(TrainingError, match=f"{name} is damaged"):
        train(recipe, tmp_path, resume=True)


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.pop("vpr_ros"),
        lambda state: state.update(vpr_ros=3),
        lambda state: state.pop("state_dict"),
        lambda state: state.update(state_dict={"foreign": torch.zeros(3)}),
        lambda state: state.pop("batches_done"),
        lambda state: state.update(optimizer_states=[{}]),
        lambda state: state.update(callbacks=[]),
        lambda state: state.pop("loops"),
        lambda state: state.clear(),
    ],
)
def test_foreign_contents_are_refused_at_resume(data: Path, tmp_path: Path, change: Any) -> None:
    train(tiny(data, loop__steps=2), tmp_path)
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)
    change(state)
    save_checkpoint(state, tmp_path / "last.ckpt")
    with pytest.raises(TrainingError, match=r"last\.ckpt (is no checkpoint|does not fit)"):
        train(tiny(data, loop__steps=2), tmp_path, resume=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_one_line_before_the_work(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"loop\.accelerator is gpu, but torch sees none"):
        train(tiny(data, loop__accelerator="gpu"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_out_that_cannot_be_written_is_one_line_before_the_work(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"cannot write .*/file"):
        train(tiny(data), tmp_path / "file" / "out")
