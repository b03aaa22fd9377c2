"""Distillation costs the robot nothing: a distilled network computes what one of the same recipe without a teacher does."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import torch
from small_worlds import texture
from tiny_training import content
from torch.utils.flop_counter import FlopCounterMode

from training.export.place_model import export_file
from training.fitting.run import train
from training.models.network_file import load_network
from training.models.place_network import PlaceNetwork
from training.recipe import Recipe

PLACES, SESSIONS = 4, 2


def write_data(root: Path) -> Path:
    """Images that have nothing of their place, with label maps that show it: only the teacher can know."""
    (root / "places").mkdir()
    (root / "labels").mkdir()
    rng = np.random.default_rng(0)
    for place in range(PLACES):
        labels = rng.integers(0, 19, (6, 8), dtype=np.uint8)
        for session in range(SESSIONS):
            cv2.imwrite(str(root / "places" / f"{session:02d}{place:02d}.jpg"), texture(9 * place + session, 64, 48))
            cv2.imwrite(str(root / "labels" / f"{session:02d}{place:02d}.png"), labels)
    return root


def trained(data: Path, out: str, **changes: Any) -> Path:
    plain = content(data, whitening=None, loop={"steps": 2, "workers": 0}, **changes)
    plain["sources"][0]["label_maps"] = {"path": "labels", "images": "places"}
    return train(Recipe.checked(plain, out), data / out)


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    data = write_data(tmp_path_factory.mktemp("data"))
    start, teacher = trained(data, "start"), trained(data, "teacher", network__input={"kind": "semantic"})
    baseline = trained(data, "baseline", start=str(start))
    student = trained(data, "student", start=str(start), distillation={"teacher": str(teacher), "threshold": 2})
    return {"baseline": baseline, "teacher": teacher, "student": student}


def parameters(network: PlaceNetwork) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@torch.no_grad()
def flops(network: PlaceNetwork, *shape: int) -> int:
    """Of one image."""
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(shape, dtype=torch.uint8))
    return counter.get_total_flops()


def test_parameters_and_flops_are_those_of_the_baseline(networks: dict[str, Path]) -> None:
    baseline, student, teacher = (load_network(networks[name]) for name in ("baseline", "student", "teacher"))
    of_baseline, of_student = baseline.state_dict(), student.state_dict()
    assert {name: value.shape for name, value in of_student.items()} == {
        name: value.shape for name, value in of_baseline.items()
    }
    assert not torch.equal(of_student["projection.weight"], of_baseline["projection.weight"])  # it was taught
    assert parameters(student) == parameters(baseline) < parameters(teacher)
    assert flops(student, 1, 64, 64, 3) == flops(baseline, 1, 64, 64, 3) < flops(teacher, 1, 64, 64)


def test_the_exported_operators_are_those_of_the_baseline(networks: dict[str, Path], tmp_path: Path) -> None:
    baseline, student = (
        onnx.load(export_file(networks[name], tmp_path / f"{name}.onnx").path).graph for name in ("baseline", "student")
    )
    operators = Counter(node.op_type for node in student.node)
    assert operators == Counter(node.op_type for node in baseline.node)
    assert operators["Conv"] == 5  # the stem of a ResNet-18 and its first stage
    assert Counter(tuple(w.dims) for w in student.initializer) == Counter(tuple(w.dims) for w in baseline.initializer)
