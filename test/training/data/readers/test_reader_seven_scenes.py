"""7-Scenes: splits, frames, poses, the 3-D rule of its protocol, and broken trees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from training.data.readers.seven_scenes import DEPTH_CAMERA, SevenScenes, seven_scenes
from vpr_ros.errors import SourceError


def pose(x: float = 0.0, z: float = 0.0, yaw_deg: float = 0.0, roll_deg: float = 0.0) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("yz", [yaw_deg, roll_deg], degrees=True).as_matrix()
    matrix[:3, 3] = x, 0.1, z
    return matrix


def write_scene(root: Path, train: list[np.ndarray], test: list[np.ndarray]) -> Path:
    (root / "TrainSplit.txt").parent.mkdir(parents=True)
    (root / "TrainSplit.txt").write_text("sequence2\nsequence10\n")
    (root / "TestSplit.txt").write_text("sequence1\n\n")
    for name, poses in (("seq-02", train[:2]), ("seq-10", train[2:]), ("seq-01", test)):
        (root / name).mkdir()
        for i, matrix in enumerate(poses):
            (root / name / f"frame-{i:06d}.color.png").touch()
            (root / name / f"frame-{i:06d}.depth.png").touch()
            rows = "\n".join("\t ".join(f" {number: .7e}" for number in row) + "\t " for row in matrix)
            (root / name / f"frame-{i:06d}.pose.txt").write_text(rows + "\n")
    return root


def test_a_split_is_a_set_with_surfaces(tmp_path: Path) -> None:
    train = [pose(0, 1), pose(1, 2, 90), pose(3, 4)]
    root = write_scene(tmp_path / "chess", train, [pose()])
    (images,) = SevenScenes(scenes=("chess",)).read(tmp_path)
    assert images.name == "7-Scenes chess train"
    assert images.paths == (
        root / "seq-02/frame-000000.color.png",
        root / "seq-02/frame-000001.color.png",
        root / "seq-10/frame-000000.color.png",
    )
    assert images.sequences.tolist() == ["seq-02", "seq-02", "seq-10"]
    np.testing.assert_allclose(images.positions_m, [[0, 1], [1, 2], [3, 4]])  # y points down in this world
    np.testing.assert_allclose(images.headings_rad, [np.pi / 2, 0, np.pi / 2], atol=1e-6)
    assert images.surfaces is not None
    np.testing.assert_allclose(images.surfaces.world_from_camera, train, atol=1e-6)
    assert images.surfaces.depth_paths[2] == root / "seq-10/frame-000000.depth.png"
    assert (images.surfaces.units_per_m, images.surfaces.camera) == (1000, DEPTH_CAMERA)


def test_one_set_per_scene_and_the_other_split(tmp_path: Path) -> None:
    for scene in ("chess", "fire"):
        write_scene(tmp_path / scene, [pose(), pose(), pose()], [pose(), pose()])
    sets = SevenScenes(scenes=("fire", "chess"), split="test").read(tmp_path)
    assert [(images.name, len(images)) for images in sets] == [("7-Scenes fire test", 2), ("7-Scenes chess test", 2)]


def test_right_is_near_and_turned_little_in_three_dimensions(tmp_path: Path) -> None:
    train = [pose(0.0), pose(0.5), pose(0.6), pose(0.0, 0, 29.9), pose(0.0, 0, 30.1), pose(0.0, 0, 0, 40)]
    write_scene(tmp_path / "chess", train, [pose(), pose(9)])
    protocol = seven_scenes(tmp_path, "chess")
    (part,) = protocol.parts
    assert [found.tolist() for found in part.positives] == [[0, 1, 3], []]
    assert (len(part.queries), len(part.database), part.stop) == (2, 6, None)
    assert protocol.name == "7-Scenes chess, test split -> train split"
    assert protocol.rule == "within 0.5 m and 30 deg in 3-D"
    (wide,) = seven_scenes(tmp_path, "chess", max_m=1.0, max_deg=35.0).parts
    assert wide.positives[0].tolist() == [0, 1, 2, 3, 4]


def test_positives_against_a_slow_count(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    poses = []
    for _ in range(40):
        matrix = np.eye(4)
        matrix[:3, :3] = Rotation.from_rotvec(rng.normal(0, 0.3, 3)).as_matrix()
        matrix[:3, 3] = rng.uniform(0, 1, 3)
        poses.append(matrix)
    write_scene(tmp_path / "chess", poses[:30], poses[30:])
    (part,) = seven_scenes(tmp_path, "chess").parts
    expected = []
    for a in poses[30:]:
        turns = [Rotation.from_matrix(a[:3, :3].T @ b[:3, :3]).magnitude() for b in poses[:30]]
        near = [np.linalg.norm(a[:3, 3] - b[:3, 3]) for b in poses[:30]]
        expected.append([j for j in range(30) if near[j] <= 0.5 and np.degrees(turns[j]) <= 30])
    assert [found.tolist() for found in part.positives] == expected
    assert any(expected)


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return write_scene(tmp_path / "chess", [pose(), pose(), pose()], [pose()])


def refused(scene: Path, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        SevenScenes(scenes=("chess",)).read(scene.parent)


def test_splits_that_are_not_splits(scene: Path) -> None:
    (scene / "TrainSplit.txt").write_text("sequence2\nseq-10\n")
    refused(scene, r"TrainSplit\.txt:2: expected a line like 'sequence1', found 'seq-10'")
    (scene / "TrainSplit.txt").write_text("sequence2\nsequence3\n")
    refused(scene, r"TrainSplit\.txt:2: there is no folder .*chess/seq-03")
    (scene / "TrainSplit.txt").write_text("\n")
    refused(scene, r"chess: the sequences of its train split hold no frame-\*\.color\.png")
    (scene / "TrainSplit.txt").unlink()
    refused(scene, r"TrainSplit\.txt: no such file")


@pytest.mark.parametrize("suffix", ["depth.png", "pose.txt"])
def test_frames_that_are_not_whole(scene: Path, suffix: str) -> None:
    (scene / "seq-02" / f"frame-000001.{suffix}").unlink()
    refused(scene, rf"seq-02/frame-000001\.{suffix}: no such file, but there is frame-000001\.color\.png")


@pytest.mark.parametrize("row", ["0 0 1", "0 0 1 x", "0 0 1 inf"])
def test_poses_that_are_not_poses(scene: Path, row: str) -> None:
    path = scene / "seq-02" / "frame-000001.pose.txt"
    path.write_text(f"1 0 0 0\n0 1 0 0\n{row}\n0 0 0 1\n")
    refused(scene, r"frame-000001\.pose\.txt:3: expected 4 numbers")
    path.write_text("1 0 0 0\n0 1 0 0\n")
    refused(scene, r"frame-000001\.pose\.txt: expected 4 lines, a 4 x 4 pose, found 2")
