"""A robot's bags: keyframes, poses, file names, the cache, damage, and the command line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from training.data.image_set import heading_from_compass
from training.data.readers.rosbag import Rosbag, main, utm_name
from vpr_ros.bags.writer import BagWriter
from vpr_ros.errors import SourceError
from vpr_ros.images import read_image

START_NS = 1_700_000_000_000_000_000
STEP_NS = 200_000_000
OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])


def plain(i: int) -> np.ndarray:
    """An image whose colour tells its number, also after JPEG."""
    return np.full((48, 64, 3), (12 * i, 255 - 12 * i, 100), np.uint8)


def body(x: float, y: float, heading_deg: float) -> np.ndarray:
    pose = np.eye(4)
    angle = np.radians(heading_deg)
    pose[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    pose[:3, 3] = x, y, 0.3
    return pose


DRIVE = [
    body(0.0, 0.0, 0),
    body(0.3, 0.0, 0),  # too near
    body(0.6, 0.0, 0),
    body(0.6, 0.0, 10),  # turned too little
    body(0.6, 0.0, 20),
    body(-120.0, 3.5, 90),
]
KEPT = [0, 2, 4, 5]


def write_bag(path: Path, drive: list[np.ndarray] = DRIVE, odometry: str = "/odom", storage: str = "sqlite3") -> Path:
    with BagWriter(path, storage) as bag:
        for i, pose in enumerate(drive):
            bag.odometry(odometry, START_NS + i * STEP_NS, pose)
            bag.image("/camera/image_raw", START_NS + i * STEP_NS, plain(i))
    return path


@pytest.fixture
def reader(tmp_path: Path) -> Rosbag:
    write_bag(tmp_path / "drive")
    return Rosbag(bags=("drive",), cache=tmp_path / "cache")


def test_keyframes_with_poses_in_the_order_of_time(tmp_path: Path, reader: Rosbag) -> None:
    (images,) = reader.read(tmp_path)
    assert images.name == "drive"
    np.testing.assert_allclose(images.positions_m, [[0, 0], [0.6, 0], [0.6, 0], [-120, 3.5]])
    np.testing.assert_allclose(np.degrees(images.headings_rad), [0, 0, 20, 90], atol=1e-9)
    assert images.sequences.tolist() == ["drive"] * 4
    for path, i in zip(images.paths, KEPT, strict=True):
        assert np.abs(read_image(path).astype(int) - plain(i)).max() < 4, "the image of that pose, as JPEG"


def test_file_names_are_those_of_the_vpr_tools(tmp_path: Path, reader: Rosbag) -> None:
    (images,) = reader.read(tmp_path)
    assert images.paths[0].name == "@0000000.00@0000000.00@@@@@@@090.00@@@@20231114_221320@1700000000000000000@.jpg"
    assert images.paths[3].name == "@-000120.00@0000003.50@@@@@@@000.00@@@@20231114_221321@1700000001000000000@.jpg"
    fields = images.paths[2].name.split("@")
    assert len(fields) == 16
    assert fields[9] == "070.00", "a heading of 20 deg left of east is a compass angle of 70"


@given(st.floats(-9e5, 9e5), st.floats(-9e6, 9e6), st.floats(-np.pi, np.pi), st.integers(0, 2**61))
@settings(max_examples=50, deadline=None)
def test_names_give_back_what_they_were_made_of(x: float, y: float, heading: float, stamp_ns: int) -> None:
    fields = utm_name(np.array([x, y]), heading, stamp_ns).split("@")
    assert abs(float(fields[1]) - x) <= 0.0051
    assert abs(float(fields[2]) - y) <= 0.0051
    turned = np.angle(np.exp(1j * (heading_from_compass(float(fields[9])) - heading)))
    assert abs(np.degrees(turned)) <= 0.0051
    assert (int(fields[14]), fields[0], fields[15]) == (stamp_ns, "", ".jpg")


def test_a_camera_that_looks_to_the_side(tmp_path: Path, reader: Rosbag) -> None:
    (images,) = reader.model_copy(update={"camera_yaw_deg": 90.0}).read(tmp_path)
    np.testing.assert_allclose(np.degrees(images.headings_rad), [90, 90, 110, 180], atol=1e-9)


def test_odometry_of_the_camera_itself(tmp_path: Path) -> None:
    to_optical = np.eye(4)
    to_optical[:3, :3] = OPTICAL
    write_bag(tmp_path / "drive", [pose @ to_optical for pose in DRIVE])  # the world's z is up
    first = np.linalg.inv(DRIVE[0] @ to_optical)
    write_bag(tmp_path / "first", [first @ pose @ to_optical for pose in DRIVE])  # the world is the first camera
    sets = Rosbag(bags=("drive", "first"), odometry_of="camera", cache=tmp_path / "cache").read(tmp_path)
    upright, optical = sets
    np.testing.assert_allclose(upright.positions_m, [[0, 0], [0.6, 0], [0.6, 0], [-120, 3.5]])
    np.testing.assert_allclose(np.degrees(upright.headings_rad), [0, 0, 20, 90], atol=1e-9)
    np.testing.assert_allclose(optical.positions_m, [[0, 0], [0, 0.6], [0, 0.6], [-3.5, -120]], atol=1e-9)
    np.testing.assert_allclose(np.degrees(optical.headings_rad), [90, 90, 110, 180], atol=1e-9)


def test_bags_are_worlds_of_their_own_unless_they_share_one(tmp_path: Path, reader: Rosbag) -> None:
    write_bag(tmp_path / "again", DRIVE[:3])
    both = reader.model_copy(update={"bags": ("drive", "again")})
    assert [(images.name, len(images)) for images in both.read(tmp_path)] == [("drive", 4), ("again", 2)]
    (images,) = both.model_copy(update={"one_world": True}).read(tmp_path)
    assert images.name == "drive + again"
    assert images.sequences.tolist() == ["drive"] * 4 + ["again"] * 2
    np.testing.assert_allclose(images.positions_m[4:], [[0, 0], [0.6, 0]])


def test_a_bag_is_extracted_once_for_each_choice_of_options(tmp_path: Path, reader: Rosbag, monkeypatch) -> None:
    (first,) = reader.read(tmp_path)
    extracted = []
    extract = Rosbag.extract
    monkeypatch.setattr(
        Rosbag, "extract", lambda self, bag, folder: extracted.append(bag) or extract(self, bag, folder)
    )
    (again,) = reader.read(tmp_path)
    assert (again.paths, again.fingerprint(), extracted) == (first.paths, first.fingerprint(), [])
    (coarse,) = reader.model_copy(update={"every_m": 5.0}).read(tmp_path)
    assert (len(coarse), len(extracted)) == (3, 1)
    reader.model_copy(update={"one_world": True}).read(tmp_path)
    assert len(extracted) == 1, "the same images"
    stamp = (tmp_path / "drive" / "metadata.yaml").stat().st_mtime_ns + 1
    os.utime(tmp_path / "drive" / "metadata.yaml", ns=(stamp, stamp))
    reader.read(tmp_path)
    assert len(extracted) == 2, "the bag has changed"


def test_the_folder_says_how_it_was_made(tmp_path: Path, reader: Rosbag) -> None:
    (images,) = reader.read(tmp_path)
    about = json.loads((images.paths[0].parent / "about.json").read_text())
    assert about["bag"] == str(tmp_path / "drive")
    assert about["options"]["every_m"] == 0.5
    assert about["notes"] == []


@pytest.mark.parametrize("storage", ["sqlite3", "mcap"])
def test_a_bag_cut_short_is_used_to_its_last_good_message_and_says_so(tmp_path: Path, capsys, storage: str) -> None:
    path = write_bag(tmp_path / "cut", [body(i, 0, 0) for i in range(20)], storage=storage)
    (file,) = [child for child in path.iterdir() if child.suffix in (".db3", ".mcap")]
    os.truncate(file, int(0.6 * file.stat().st_size))
    reader = Rosbag(bags=("cut",), cache=tmp_path / "cache")
    for _ in ("extracted", "from the cache"):
        (images,) = reader.read(tmp_path)
        assert 6 <= len(images) <= 13
        np.testing.assert_allclose(images.positions_m[:, 0], np.arange(len(images)))
        assert "cut: " in (said := capsys.readouterr().err)
        assert "read to its last good message" in said


def test_unreadable_images_and_images_without_odometry_are_left_out_and_counted(tmp_path: Path, capsys) -> None:
    with BagWriter(tmp_path / "drive") as bag:
        for i in range(4):
            if i < 3:
                bag.odometry("/odom", START_NS + i * 1_000_000_000, body(i, 0, 0))
            if i == 1:
                bag.plane("/image", START_NS + i * 1_000_000_000, np.zeros((4, 4), np.float32), "32FC1")
            else:
                bag.image("/image", START_NS + i * 1_000_000_000, plain(i))
    (images,) = Rosbag(bags=("drive",), cache=tmp_path / "cache").read(tmp_path)
    np.testing.assert_allclose(images.positions_m[:, 0], [0, 2])
    said = capsys.readouterr().err
    assert "drive: 1 of 4 images could not be read" in said
    assert "drive: 1 frames have no odometry within 0.1 s" in said


def test_what_cannot_be_used_is_refused_and_leaves_no_folder(tmp_path: Path) -> None:
    def refused(message: str, **options: object) -> None:
        with pytest.raises(SourceError, match=message):
            Rosbag.model_validate({"bags": ("drive",), "cache": tmp_path / "cache", **options}).read(tmp_path)
        assert not (tmp_path / "cache").exists() or not list((tmp_path / "cache").iterdir())

    refused(r"drive: no such file or folder")
    write_bag(tmp_path / "drive")
    refused(r"drive: has no topic '/other'", image_topic="/other")
    refused(r"drive: has no topic '/other'", odometry_topic="/other")
    with BagWriter(tmp_path / "two") as bag:
        bag.image("/image", START_NS, plain(0))
        bag.odometry("/odom", START_NS, body(0, 0, 0))
        bag.odometry("/gps", START_NS, body(0, 0, 0))
    refused(r"two: set odometry_topic; its nav_msgs/msg/Odometry topics are /gps, /odom", bags=("two",))
    with BagWriter(tmp_path / "none") as bag:
        bag.image("/image", START_NS, plain(0))
    refused(r"none: set odometry_topic; its nav_msgs/msg/Odometry topics are none", bags=("none",))
    with BagWriter(tmp_path / "late") as bag:
        bag.image("/image", START_NS, plain(0))
        bag.odometry("/odom", START_NS + 10**9, body(0, 0, 0))
    refused(r"late: no image can be read that has odometry: 1 frames have no odometry", bags=("late",))


@pytest.mark.parametrize(
    "wrong", [{"bags": ()}, {"every_m": 0}, {"every_deg": -1}, {"odometry_of": "wheel"}, {"topic": ""}]
)
def test_options_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Rosbag.model_validate({"bags": ("drive",), **wrong})


def test_the_command_line_makes_a_folder_per_bag(tmp_path: Path, capsys) -> None:
    bags = [str(write_bag(tmp_path / "monday")), str(write_bag(tmp_path / "tuesday"))]
    out = tmp_path / "robot"
    main([*bags, "--out", str(out), "--odometry-topic", "/odom", "--every-m", "5", "--camera-yaw-deg", "90"])
    assert f"{out / 'monday'}: 3 keyframes\n" in capsys.readouterr().out
    names = [path.name.split("@") for path in (out / "tuesday").glob("@*.jpg")]
    headings = {int(fields[14]): fields[9] for fields in names}
    assert [headings[stamp] for stamp in sorted(headings)] == ["000.00", "340.00", "270.00"]
    write_bag(tmp_path / "run.1")
    main([str(tmp_path / "run.1" / "run.1.db3"), "--out", str(out)])
    assert "run.1: 4 keyframes" in capsys.readouterr().out, "one file of a bag, and a name with a dot"
    with pytest.raises(SystemExit, match="2"):
        main([bags[0], "--out", str(out)])
    assert "monday exists already; remove it or choose another --out" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main([bags[0], "--out", str(tmp_path / "other"), "--every-m", "far"])
    assert "every_m: Input should be a valid number" in capsys.readouterr().err
