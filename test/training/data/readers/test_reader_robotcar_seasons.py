"""RobotCar Seasons v2: the map of the GCL paper's index, the benchmark's posed training images, and broken files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from small_worlds import level_camera, touch

from training.data.readers.robotcar_seasons import RobotCarSeasons, robotcar_seasons
from vpr_ros.errors import SourceError


def camera(x: float, y: float, heading_deg: float) -> np.ndarray:
    return level_camera(x, y, np.radians(heading_deg))


def write_json(root: Path, cameras: list[np.ndarray], condition: str = "overcast-reference") -> None:
    paths, poses = [], []
    for i, pose in enumerate(cameras):
        paths.append(f"images/{condition}/rear/{1417176000000000 + i}.jpg")
        x, y, z, w = Rotation.from_matrix(pose[:3, :3]).as_quat()
        poses.append([w, x, y, z, *pose[:3, 3]])
    touch(root, *paths)
    (root / "reference.json").write_text(json.dumps({"im_prefix": "/authors", "im_paths": paths, "poses": poses}))


def write_text(root: Path, named: dict[str, np.ndarray]) -> None:
    touch(root, *(f"images/{name.replace('.png', '.jpg')}" for name in named))
    lines = [" ".join([name, *(f"{number:.8f}" for number in pose.ravel())]) for name, pose in named.items()]
    (root / "robotcar_v2_train.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_json(tmp_path, [camera(0, 0, 160), camera(10, 0, 160)])
    write_text(
        tmp_path,
        {
            "night/rear/5.png": camera(4, 3, 151),
            "snow/rear/6.jpg": camera(10, 0, 149),
            "snow/rear/7.png": camera(9, 0, 165),
        },
    )
    return tmp_path


def test_map_and_training_images_share_one_set(root: Path) -> None:
    (images,) = RobotCarSeasons().read(root)
    assert images.name == "RobotCar Seasons v2"
    assert [path.relative_to(root).as_posix() for path in images.paths] == [
        "images/overcast-reference/rear/1417176000000000.jpg",
        "images/overcast-reference/rear/1417176000000001.jpg",
        "images/night/rear/5.jpg",
        "images/snow/rear/6.jpg",
        "images/snow/rear/7.jpg",
    ]
    np.testing.assert_allclose(images.positions_m, [[0, 0], [10, 0], [4, 3], [10, 0], [9, 0]], atol=1e-9)
    turned = np.exp(1j * (images.headings_rad - np.radians([160, 160, 151, 149, 165])))
    np.testing.assert_allclose(turned, 1, atol=1e-7)
    assert images.conditions.tolist() == ["overcast-reference"] * 2 + ["night", "snow", "snow"]
    assert images.sequences.tolist() == images.conditions.tolist()


def test_the_training_images_alone(root: Path) -> None:
    (images,) = RobotCarSeasons(index=("robotcar_v2_train.txt",)).read(root)
    assert images.conditions.tolist() == ["night", "snow", "snow"]


def test_other_conditions_ask_the_reference(root: Path) -> None:
    protocol = robotcar_seasons(root)
    (part,) = protocol.parts
    assert [found.tolist() for found in part.positives] == [[0], [], [1]], "within 5 m and 10 deg"
    assert set(part.database.conditions) == {"overcast-reference"}
    assert part.queries.conditions.tolist() == ["night", "snow", "snow"]
    assert protocol.name == "RobotCar Seasons v2 train, all conditions -> overcast-reference, rear camera"
    assert protocol.rule == "within 5 m and 10 deg of heading"
    (wide,) = robotcar_seasons(root, radius_m=12, max_heading_deg=20).parts
    assert [found.tolist() for found in wide.positives] == [[0, 1]] * 3


def test_without_a_reference_there_is_no_protocol(root: Path) -> None:
    write_json(root, [camera(0, 0, 0)], condition="night")
    with pytest.raises(
        SourceError, match=r"reference\.json, .*train\.txt: need overcast-reference and other conditions"
    ):
        robotcar_seasons(root)


@pytest.mark.parametrize("numbers", ["1 " * 15, "1 " * 17, "1 " * 15 + "x", "1 " * 15 + "nan", ""])
def test_lines_that_are_not_a_pose(root: Path, numbers: str) -> None:
    text = root / "robotcar_v2_train.txt"
    text.write_text(text.read_text() + f"night/rear/8.png {numbers}\n")
    with pytest.raises(SourceError, match=r"robotcar_v2_train\.txt:4: expected 16 numbers, a 4 x 4 matrix by rows"):
        RobotCarSeasons().read(root)


def test_files_and_images_that_are_not_there(root: Path) -> None:
    (root / "images/snow/rear/6.jpg").unlink()
    with pytest.raises(SourceError, match=r"robotcar_v2_train\.txt:2: there is no .*images/snow/rear/6\.jpg"):
        RobotCarSeasons().read(root)
    (root / "robotcar_v2_train.txt").write_text("# nothing\n")
    with pytest.raises(SourceError, match=r"robotcar_v2_train\.txt: lists no images"):
        RobotCarSeasons().read(root)
    (root / "robotcar_v2_train.txt").unlink()
    with pytest.raises(SourceError, match=r"robotcar_v2_train\.txt: no such file"):
        RobotCarSeasons().read(root)
    (root / "reference.json").write_text("{")
    with pytest.raises(SourceError, match=r"reference\.json:1: not JSON"):
        RobotCarSeasons().read(root)
