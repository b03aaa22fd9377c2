"""KITTI odometry: a tiny tree in its format, every way to break it, and the loops of the real drive."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from training.data.readers.kitti import Kitti, kitti_loops
from vpr_ros.errors import SourceError

LINE = "1 0 0 {x} 0 1 0 0.1 0 0 1 {z}"


def write_drive(root: Path, lines: list[str], images: int | None = None) -> Path:
    (root / "poses").mkdir(parents=True)
    (root / "poses" / "00.txt").write_text("\n".join(lines) + "\n")
    folder = root / "sequences" / "00" / "image_0"
    folder.mkdir(parents=True)
    for i in range(len(lines) if images is None else images):
        (folder / f"{i:06d}.png").touch()
    return root


def test_frames_and_planar_poses(tmp_path: Path) -> None:
    turned_right = "0 0 1 3 0 1 0 0 -1 0 0 9"  # looks along x
    write_drive(tmp_path / "kitti", [LINE.format(x=i, z=2 * i) for i in range(3)] + [turned_right])
    (images,) = Kitti(path="kitti").read(tmp_path)
    assert images.name == "KITTI 00 image_0 frames 0-3"
    assert [path.name for path in images.paths] == ["000000.png", "000001.png", "000002.png", "000003.png"]
    np.testing.assert_allclose(images.positions_m, [[0, 0], [1, 2], [2, 4], [3, 9]])
    np.testing.assert_allclose(images.headings_rad, [np.pi / 2] * 3 + [0])
    assert set(images.sequences) == {images.name}


def test_a_part_of_a_drive_keeps_both_ends_and_its_own_poses(tmp_path: Path) -> None:
    write_drive(tmp_path, [LINE.format(x=i, z=0) for i in range(12)])
    (images,) = Kitti(first=9, last=10).read(tmp_path)
    assert [path.name for path in images.paths] == ["000009.png", "000010.png"]
    np.testing.assert_allclose(images.positions_m[:, 0], [9, 10])


def test_a_drive_without_its_later_images_is_fine(tmp_path: Path) -> None:
    write_drive(tmp_path, [LINE.format(x=i, z=0) for i in range(5)], images=3)
    assert len(Kitti().read(tmp_path)[0]) == 3


@pytest.mark.parametrize("line", ["1 0 0 0 0 1 0 0 0 0 1", "1 0 0 0 0 1 0 0 0 0 1 x", "1 0 0 0 0 1 0 0 0 0 1 nan"])
def test_a_row_that_is_no_pose_leaves_its_image_out_and_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    write_drive(tmp_path, [LINE.format(x=0, z=0), line, LINE.format(x=2, z=0)])
    (images,) = Kitti().read(tmp_path)
    assert [path.name for path in images.paths] == ["000000.png", "000002.png"]
    np.testing.assert_allclose(images.positions_m[:, 0], [0, 2])
    assert (
        "00.txt: 1 of 3 rows hold no pose and are not used; the first, line 2: expected 12" in capsys.readouterr().err
    )


def test_a_file_without_a_pose_is_refused_by_line(tmp_path: Path) -> None:
    write_drive(tmp_path, ["1 0 0 0 0 1 0 0 0 0 1 nan"])
    with pytest.raises(SourceError, match=r"poses/00\.txt:1: expected 12 numbers, a 3 x 4 matrix by rows"):
        Kitti().read(tmp_path)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"poses/00\.txt: no such file"):
        Kitti().read(tmp_path)
    write_drive(tmp_path, [LINE.format(x=0, z=0)], images=2)
    with pytest.raises(SourceError, match=r"00\.txt: has 1 poses, but there is an image 000001\.png"):
        Kitti().read(tmp_path)
    with pytest.raises(SourceError, match=r"image_0: holds no images named like 000000\.png from 5 to the last"):
        Kitti(first=5).read(tmp_path)
    with pytest.raises(SourceError, match=r"from 3 to 2"):
        Kitti(first=3, last=2).read(tmp_path)
    with pytest.raises(SourceError, match="image_1: no such folder; cameras there: image_0"):
        Kitti(camera="image_1").read(tmp_path)


def wandering(count: int, seed: int) -> list[str]:
    """Poses that meet again, near and less near, looking about the same way or not."""
    rng = np.random.default_rng(seed)
    lines = []
    for x, z, heading in zip(*rng.uniform(0, 40, (2, count)), rng.choice([0.0, 40.0, 50.0, 180.0], count), strict=True):
        pose = np.column_stack([Rotation.from_euler("y", heading, degrees=True).as_matrix(), (x, 0.0, z)])
        lines.append(" ".join(f"{number:.9f}" for number in pose.ravel()))
    return lines


def test_loops_against_a_slow_count(tmp_path: Path) -> None:
    root, gap = write_drive(tmp_path, wandering(80, 0)), 10
    protocol = kitti_loops(root, gap=gap)
    (part,) = protocol.parts
    drive = part.database
    assert len(drive) == 80
    assert len(part.queries) == len(part.positives) == 80 - 11
    assert part.stop is not None
    assert part.borderline is not None
    kinds = set()
    for q, (positives, borderline) in enumerate(zip(part.positives, part.borderline, strict=True)):
        i = q + gap + 1
        assert part.queries.paths[q] == drive.paths[i]
        assert part.stop[q] == i - gap, "frame i sees 0 .. i - gap - 1"
        distance = np.hypot(*(drive.positions_m[: i - gap] - drive.positions_m[i]).T)
        turn = np.degrees(np.abs(np.angle(np.exp(1j * (drive.headings_rad[: i - gap] - drive.headings_rad[i])))))
        right = np.flatnonzero((distance <= 10) & (turn <= 45)).tolist()
        revisit = bool(((distance <= 5) & (turn <= 45)).any())
        assert positives.tolist() == (right if revisit else [])
        assert borderline.tolist() == ([] if revisit else right)
        kinds.add((revisit, bool(right)))
    assert kinds == {(True, True), (False, True), (False, False)}, "the drive has queries of every kind"
    asked = sum(len(positives) > 0 for positives in part.positives)
    assert protocol.name == "KITTI 00 image_0 frames 0-79, each against all more than 10 older"
    assert f"asked of the {asked} frames that have one within 5 m and 45 deg" in protocol.rule


def test_a_drive_too_short_to_meet_itself_is_refused(tmp_path: Path) -> None:
    root = write_drive(tmp_path, wandering(11, 0))
    with pytest.raises(SourceError, match="no frame has another that is more than 10 older"):
        kitti_loops(root, gap=10)


def test_the_real_drive_has_the_loops_that_its_readme_counts(shared_data: Path) -> None:
    (part,) = kitti_loops(shared_data / "kitti").parts
    assert len(part.queries) == 1599
    assert sum(len(positives) > 0 for positives in part.positives) == 80
    frames = {part.queries.paths[q].stem: positives for q, positives in enumerate(part.positives)}
    for query, match in ((1580, 135), (1600, 156), (1620, 177)):
        assert match in frames[f"{query:06d}"]
