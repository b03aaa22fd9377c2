"""A recipe of seconds and the images it trains on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from small_worlds import texture

from training.models.network_file import save_network
from training.models.place_network import PlaceNetwork
from training.recipe import Recipe

PLACES, SESSIONS = 6, 3


def write_places(root: Path) -> Path:
    """`root`/places: six named places in three sessions, each session a little darker than the last."""
    (root / "places").mkdir()
    for session in range(SESSIONS):
        for place in range(PLACES):
            image = cv2.convertScaleAbs(texture(place, 96, 72), alpha=1 - 0.1 * session)
            cv2.imwrite(str(root / "places" / f"{session:02d}{place:02d}.jpg"), image)
    return root


def content(data: Path, **changes: Any) -> dict[str, Any]:
    """A recipe of a few seconds."""
    places = {
        "reader": {
            "kind": "named_places",
            "path": "places",
            "place": r"\d\d(?P<place>\d\d)",
            "pattern": "*.jpg",
        },
        "labels": {"kind": "same_place"},
    }
    plain: dict[str, Any] = {
        "name": "tiny",
        "data_root": str(data),
        "cache": str(data / "cache"),
        "network": {
            "width": 64,
            "height": 64,
            "dim": 4,
            "backbone": {"name": "resnet18", "weights": "none", "last_block": "layer1"},
        },
        "whitening": {"images": 18},
        "sources": [places],
        "sampling": {"kind": "groups", "groups": 3},
        "optimiser": {"learning_rate": 1e-3, "warmup_steps": 2},
        "loop": {"steps": 6, "checkpoint_every": 2, "workers": 0},
    }
    for key, value in changes.items():
        at = plain
        *parents, last = key.split("__")
        for parent in parents:
            at = at[parent]
        at[last] = value
    return plain


def write_label_maps(root: Path) -> Path:
    """`root`/maps: a label map of every image of `write_places`, which tells its place in any light."""
    (root / "maps").mkdir()
    for path in (root / "places").iterdir():
        blocks = np.random.default_rng(int(path.stem[2:])).integers(0, 11, (6, 8)).astype(np.uint8)
        label_map = cv2.resize(blocks, (48, 36), interpolation=cv2.INTER_NEAREST)
        cv2.imwrite(str(root / "maps" / f"{path.stem}.png"), label_map)
    return root


LABEL_MAPS = {"path": "maps", "images": "places", "table": "camvid"}


def write_teacher_and_student(recipe: Recipe, folder: Path, **teacher_changes: Any) -> tuple[Path, Path]:
    """A teacher that sees label maps, and a student to which nearly all images look alike, so that it has much to learn."""
    torch.manual_seed(0)
    options = {**recipe.network.model_dump(), "input": {"kind": "semantic"}, **teacher_changes}
    teacher, student = PlaceNetwork(type(recipe.network).model_validate(options)), PlaceNetwork(recipe.network)
    with torch.no_grad():
        student.projection.weight.mul_(1e-6)  # leaves the bias
    paths = folder / "teacher.safetensors", folder / "student.safetensors"
    for path, network in zip(paths, (teacher, student), strict=True):
        save_network(network, path, {})
    return paths
