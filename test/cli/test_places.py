"""`--places`: a recording that recall is judged on, here or in another process."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import cv2
import pytest
from small_worlds import texture

from vpr_ros.cli.places import Places
from vpr_ros.config import Config
from vpr_ros.engines.open import open_reference
from vpr_ros.errors import SourceError
from vpr_ros.evaluation.ground_truth import RevisitProtocol
from vpr_ros.model import PlaceModel


def write_drive(root: Path, places: list[int]) -> Path:
    """A TUM recording with an image a second; place k is 20 k metres away."""
    root.mkdir()
    names, poses = [], []
    for second, place in enumerate(places):
        cv2.imwrite(str(root / f"{second}.png"), texture(place, 64, 48))
        names.append(f"{second} {second}.png\n")
        poses.append(f"{second} {20 * place} 0 0 0 0 0 1\n")
    (root / "rgb.txt").write_text("".join(names))
    (root / "groundtruth.txt").write_text("".join(poses))
    return root


def places(root: Path, numbers: list[int]) -> Places:
    values = {"keyframe.min_interval_s": 0.0, "exclusion.time_s": 4.0, "exclusion.count": 0, "engine.threads": 1}
    opened = Places.open(write_drive(root, numbers), None, Config().with_values(values))
    return replace(opened, protocol=RevisitProtocol(exclusion_s=4.0))


def test_recall_of_an_engine_also_after_a_journey(grid_model: PlaceModel, tmp_path: Path) -> None:
    """Eight places, then the first four again."""
    opened = places(tmp_path / "drive", [0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3])
    assert pickle.loads(pickle.dumps(opened.recall_of))(open_reference(grid_model, 1)) == 1.0


def test_places_that_never_come_back_are_a_users_mistake(grid_model: PlaceModel, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="never comes back"):
        places(tmp_path / "one_way", [0, 1, 2, 3]).recall_of(open_reference(grid_model, 1))


def test_a_recording_without_poses_is_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "0.png"), texture(0, 64, 48))
    with pytest.raises(SourceError, match="has no poses"):
        Places.open(tmp_path, None, Config())
