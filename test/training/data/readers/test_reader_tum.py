"""TUM RGB-D: association by time, poses of a level and a turned camera, scaled intrinsics, and broken lists."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from training.data.readers.tum import Tum
from vpr_ros.errors import SourceError
from vpr_ros.types import Camera

LEVEL = "-0.5 0.5 -0.5 0.5"
"""Quaternion of an optical frame that looks along the world's x, z up."""
TURNED = "0 -0.70710678 0.70710678 0"
"""The same, but along -y."""


def write_recording(root: Path, depth_size: tuple[int, int] = (320, 240)) -> Path:
    root.mkdir()
    (root / "rgb.txt").write_text(
        "# color images\n1.000000 rgb/a.png\n1.100000 rgb/b.png\n1.200000 rgb/c 1.png\n1.300000 rgb/d.png\n"
    )
    (root / "depth.txt").write_text("1.015 depth/a.png\n1.130 depth/b.png\n1.195 depth/c.png\n1.301 depth/d.png\n")
    (root / "groundtruth.txt").write_text(
        f"# t tx ty tz qx qy qz qw\n0.99 1 2 3 {LEVEL}\n1.01 7 8 9 {LEVEL}\n1.1 0 0 0 {LEVEL}\n1.2 4 5 6 {TURNED}\n"
    )
    (root / "depth").mkdir()
    cv2.imwrite(str(root / "depth" / "a.png"), np.zeros(depth_size[::-1], np.uint16))
    return root


def test_the_nearest_depth_and_pose_within_the_tolerance(tmp_path: Path) -> None:
    root = write_recording(tmp_path / "desk")
    (images,) = Tum(path="desk").read(tmp_path)
    assert images.name == "TUM desk"
    assert images.paths == (root / "rgb/a.png", root / "rgb/c 1.png"), "b has no depth in time, d no pose"
    np.testing.assert_allclose(images.positions_m, [[1, 2], [4, 5]])
    np.testing.assert_allclose(images.headings_rad, [0, -np.pi / 2], atol=1e-6)
    assert images.surfaces is not None
    assert images.surfaces.depth_paths == (root / "depth/a.png", root / "depth/c.png")
    np.testing.assert_allclose(images.surfaces.world_from_camera[:, :3, 3], [[1, 2, 3], [4, 5, 6]])
    np.testing.assert_allclose(images.surfaces.world_from_camera[0, :3, 2], [1, 0, 0], atol=1e-12)
    assert images.surfaces.units_per_m == 5000


def test_a_wider_tolerance_takes_more(tmp_path: Path) -> None:
    write_recording(tmp_path / "desk")
    assert len(Tum(path="desk", tolerance_s=0.031).read(tmp_path)[0]) == 3


def test_intrinsics_are_scaled_to_the_depth_images(tmp_path: Path) -> None:
    write_recording(tmp_path / "desk")
    camera = Tum(path="desk").read(tmp_path)[0].surfaces.camera
    assert camera == Camera(258.65, 258.25, 159.05, 127.4, 320, 240)
    corner = (np.array([-0.5, 319.5]) - camera.cx) / camera.fx  # the rim of the image keeps its rays
    np.testing.assert_allclose(corner, (np.array([-0.5, 639.5]) - 318.6) / 517.3)


def test_intrinsics_of_another_camera(tmp_path: Path) -> None:
    write_recording(tmp_path / "desk", (64, 48))
    own = {"fx": 100, "fy": 101, "cx": 31.5, "cy": 23.5, "width": 64, "height": 48}
    images = Tum.model_validate({"path": "desk", "camera": own, "units_per_m": 1000}).read(tmp_path)[0]
    assert images.surfaces.camera == Camera(100, 101, 31.5, 23.5, 64, 48)
    assert images.surfaces.units_per_m == 1000


@pytest.mark.parametrize("name", ["rgb.txt", "depth.txt"])
def test_broken_lists_are_refused_by_line(tmp_path: Path, name: str) -> None:
    root = write_recording(tmp_path / "desk")
    whole = (root / name).read_text()
    for line in ("soon a.png", "1.5"):
        (root / name).write_text(whole + line + "\n")
        with pytest.raises(SourceError, match=rf"{name}:{len(whole.splitlines()) + 1}: expected 'timestamp path'"):
            Tum(path="desk").read(tmp_path)
    (root / name).write_text("# nothing\n")
    with pytest.raises(SourceError, match=f"{name}: lists no images"):
        Tum(path="desk").read(tmp_path)
    (root / name).unlink()
    with pytest.raises(SourceError, match=f"{name}: no such file"):
        Tum(path="desk").read(tmp_path)


def test_broken_poses_are_refused_by_line(tmp_path: Path) -> None:
    root = write_recording(tmp_path / "desk")
    (root / "groundtruth.txt").write_text("1.0 1 2 3 0 0 0 0\n")
    with pytest.raises(SourceError, match=r"groundtruth\.txt:1"):
        Tum(path="desk").read(tmp_path)


def test_a_recording_where_nothing_fits_is_refused(tmp_path: Path) -> None:
    root = write_recording(tmp_path / "desk")
    (root / "depth.txt").write_text("9.0 depth/a.png\n")
    with pytest.raises(SourceError, match=r"desk: no image has depth and a pose within 0\.02 s"):
        Tum(path="desk").read(tmp_path)


@pytest.mark.parametrize("depth", [None, np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.uint16)])
def test_depth_that_is_not_depth_is_refused(tmp_path: Path, depth: np.ndarray | None) -> None:
    root = write_recording(tmp_path / "desk")
    (root / "depth" / "a.png").unlink()
    if depth is not None:
        cv2.imwrite(str(root / "depth" / "a.png"), depth)
    with pytest.raises(SourceError, match=r"depth/a\.png: expected a depth image, 16 bits and one channel"):
        Tum(path="desk").read(tmp_path)


def test_the_real_recording_looks_at_its_desk(shared_data: Path) -> None:
    (images,) = Tum(path="tum_fr1_desk").read(shared_data)
    assert len(images) > 590
    assert images.surfaces.camera.width == 320
    i = len(images) // 2
    depth = (
        cv2.imread(str(images.surfaces.depth_paths[i]), cv2.IMREAD_UNCHANGED)[120, 160] / images.surfaces.units_per_m
    )
    seen = images.surfaces.world_from_camera[i] @ [0, 0, depth, 1]
    assert 0.3 < depth < 4.0
    assert -0.3 < seen[2] < images.surfaces.world_from_camera[i, 2, 3], "on the floor or the desk, below the camera"
