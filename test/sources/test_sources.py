"""Image folders, KITTI, TUM and videos: small trees in the exact formats, whole and each broken in one way."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpr_ros.config import EngineConfig
from vpr_ros.errors import SourceError
from vpr_ros.sources import FolderSource, KittiSource, TumSource, VideoSource, open_source
from vpr_ros.sources.sample import images_of, sample_images
from vpr_ros.sources.text import stamp_from_seconds

DATA = Path("/work/shared/data")
COUNT = 5
IMAGES = np.random.default_rng(1).integers(0, 256, (COUNT, 24, 32, 3), np.uint8)
EPOCH = 1_305_031_452
P0 = "P0: 100 0 16 0 0 110 12 0 0 0 1 0"
P2 = "P2: 100 0 16 -50 0 110 12 0 0 0 1 0"  # half a metre to the right of camera 0


def write_image(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image[..., ::-1])


def write_lines(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def kitti(tmp_path):
    folder = tmp_path / "sequences" / "07"
    for i, image in enumerate(IMAGES):
        write_image(folder / "image_0" / f"{i:06d}.png", image)
        write_image(folder / "image_2" / f"{i:06d}.png", 255 - image)
    write_lines(folder / "times.txt", *(f"{i * 0.1:e}" for i in range(COUNT)))
    write_lines(folder / "calib.txt", P0, P2)
    write_lines(tmp_path / "poses" / "07.txt", *(f"1 0 0 {i} 0 1 0 0 0 0 1 0" for i in range(COUNT)))
    return tmp_path


@pytest.fixture
def tum(tmp_path):
    root = tmp_path / "rgbd_dataset_freiburg1_tiny"
    for i, image in enumerate(IMAGES):
        write_image(root / "rgb" / f"{EPOCH + i}.000001.png", image)
    header = ("# color images", "# timestamp filename")
    names = (f"{EPOCH + i}.000001 rgb/{EPOCH + i}.000001.png" for i in range(COUNT))
    write_lines(root / "rgb.txt", *header, *names)
    # Measured 15 ms late; the last frame has no pose near.
    poses = (f"{EPOCH + i}.015001 {i} 0 0 0 0 0.70710678 0.70710678" for i in range(COUNT - 1))
    write_lines(root / "groundtruth.txt", "# timestamp tx ty tz qx qy qz qw", *poses)
    return root


@pytest.fixture
def folder(tmp_path):
    for i, image in enumerate(IMAGES):
        write_image(tmp_path / "images" / f"frame_{i + 8}.png", image)  # 8, 9, 10: alphabetical order is wrong
    return tmp_path / "images"


def video(path, code, count=20):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*code), 25.0, (64, 48))
    assert writer.isOpened()
    for i in range(count):
        writer.write(np.full((48, 64, 3), (10 * i, 255 - 10 * i, 100), np.uint8))
    writer.release()
    return path


def images(source):
    return np.array([frame.image for frame in source])


def test_every_lossless_layout_gives_the_same_images(kitti, tum, folder):
    for source in (KittiSource(kitti, "07"), TumSource(tum), FolderSource(folder)):
        assert np.array_equal(images(source), IMAGES)
        assert np.array_equal(images(source), IMAGES), "a second pass"
        assert len(source) == COUNT
        for frame in source:
            assert np.array_equal(source.image_at(frame.stamp_ns), frame.image)
        assert source.image_at(-1) is None
        assert source.skipped == 0


def test_kitti(kitti):
    source = KittiSource(kitti, "07")
    frames = list(source)
    assert source.name == "KITTI 07 image_0"
    assert [frame.stamp_ns for frame in frames] == [i * 100_000_000 for i in range(COUNT)]
    camera = frames[0].camera
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (100, 110, 16, 12)
    assert (camera.width, camera.height) == (32, 24)
    assert source.ground_truth.stamps.tolist() == [frame.stamp_ns for frame in frames]
    assert source.ground_truth.poses[:, 0, 3].tolist() == [0, 1, 2, 3, 4]
    assert all(frame.odom_from_body is None for frame in frames), "true poses are not the robot's to see"
    assert not source.notes


def test_kitti_poses_are_moved_to_the_camera_that_is_read(kitti):
    right = KittiSource(kitti, "07", camera="image_2")
    assert np.array_equal(images(right), 255 - IMAGES)
    assert np.allclose(right.ground_truth.poses[:, 0, 3], np.arange(COUNT) + 0.5)


def test_kitti_without_poses_or_calibration(kitti):
    (kitti / "poses" / "07.txt").unlink()
    (kitti / "sequences" / "07" / "calib.txt").unlink()
    source = KittiSource(kitti, "07")
    assert source.ground_truth is None
    assert next(iter(source)).camera is None
    assert "calib.txt is missing" in source.notes[0]


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("sequences/07/times.txt", "0.0\nnoon\n", r"times\.txt:2: expected one time in seconds, found 'noon'"),
        ("sequences/07/times.txt", "0.0\n0.1\n", r"times\.txt: has 2 lines, but there is an image 000004\.png"),
        ("sequences/07/times.txt", None, r"times\.txt: no such file"),
        ("sequences/07/calib.txt", "P0: 1 2 3\n", r"calib\.txt:1: expected 12 numbers"),
        ("sequences/07/calib.txt", P0.replace("100", "0") + "\n", r"calib\.txt:1: focal lengths"),
        ("sequences/07/calib.txt", P2 + "\n", r"calib\.txt: has no line 'P0:' for image_0"),
        ("poses/07.txt", "1 0 0 nan 0 1 0 0 0 0 1 0\n", r"07\.txt:1: expected 12 numbers"),
        ("poses/07.txt", "0 0 0 0 0 0 0 0 0 0 0 0\n", r"07\.txt:1: expected 12 numbers"),
    ],
)
def test_a_broken_kitti_file_is_named_with_its_line(kitti, file, text, message):
    path = kitti / file
    path.unlink()
    if text is not None:
        path.write_text(text)
    with pytest.raises(SourceError, match=message):
        KittiSource(kitti, "07")


def test_kitti_poses_that_are_broken_or_cut_off_leave_their_images_without(kitti):
    rows = (kitti / "poses" / "07.txt").read_text().splitlines()
    (kitti / "poses" / "07.txt").write_text("\n".join([rows[0], rows[1].replace("1", "x", 1), rows[2], rows[3][:9]]))
    source = KittiSource(kitti, "07")
    assert source.ground_truth.poses[:, 0, 3].tolist() == [0, 1, 2], "image 1 lies between 0 and 2"
    assert source.notes[0].startswith(
        "07.txt: 2 of 4 rows hold no pose and are not used; the first, line 2: expected 12"
    )
    assert "ground truth covers 3 of 5 frames" in source.notes


def test_kitti_folders_that_are_not_there(kitti):
    with pytest.raises(SourceError, match="image_1: no such folder; cameras there: image_0, image_2"):
        KittiSource(kitti, "07", camera="image_1")
    with pytest.raises(SourceError, match="must be one of image_0"):
        KittiSource(kitti, "07", camera="left")
    for path in (kitti / "sequences" / "07" / "image_0").iterdir():
        path.unlink()
    with pytest.raises(SourceError, match="no images named like 000000"):
        KittiSource(kitti, "07")


def test_tum(tum):
    source = TumSource(tum)
    frames = list(source)
    assert source.name == "rgbd_dataset_freiburg1_tiny"
    assert frames[0].stamp_ns == EPOCH * 10**9 + 1000, "exact to the nanosecond"
    camera = frames[0].camera
    assert (camera.width, camera.height, camera.fx) == (32, 24, 517.3 / 20), "the benchmark's, of 640 x 480 px"
    truth = source.ground_truth
    assert truth.stamps.tolist() == [frame.stamp_ns for frame in frames[:-1]]
    # measured 15 ms late: interpolated, and the first frame has the first pose
    assert np.allclose(truth.poses[:, 0, 3], [0, 0.985, 1.985, 2.985])
    assert np.allclose(truth.poses[0, :3, :3], [[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    assert source.notes == [
        "the benchmark's freiburg1 is for 640 x 480 px, images are 32 x 24 px: scaled by 1/20",
        "ground truth covers 4 of 5 frames",
    ]


@pytest.mark.parametrize(("name", "fx"), [("freiburg1_a", 517.3), ("fr2_desk", 520.9), ("x_fr3", 535.4), ("own", None)])
def test_tum_intrinsics_come_from_the_folder_name(tmp_path, name, fx):
    write_image(tmp_path / name / "a.png", np.zeros((480, 640, 3), np.uint8))
    write_lines(tmp_path / name / "rgb.txt", "1.5 a.png")
    (frame,) = TumSource(tmp_path / name)
    assert (frame.camera and frame.camera.fx) == fx


def test_images_of_another_size_than_the_calibration_have_no_camera_and_a_note(kitti, tum):
    """KITTI's calib.txt does not say its size, TUM's is the benchmark's."""
    for i in range(COUNT):
        write_image(kitti / "sequences" / "07" / "image_0" / f"{i:06d}.png", IMAGES[i][:12, :16])
        write_image(tum / "rgb" / f"{EPOCH + i}.000001.png", IMAGES[i][:, :30])
    for source, words in (
        (
            KittiSource(kitti, "07"),
            "calib.txt, P0: has its principal point at (16, 12), far from the middle of images of 16 x 12 px",
        ),
        (TumSource(tum), "the benchmark's freiburg1 is for 640 x 480 px, images are 30 x 24 px"),
    ):
        assert [frame.camera for frame in source] == [None] * COUNT
        (note,) = source.notes
        assert note.startswith("closures come without a relative pose: ")
        assert words in note


@pytest.mark.parametrize("folder_of", [FolderSource, TumSource])
def test_files_of_12_bits_in_16_are_stretched_alike_and_said_once(tmp_path, folder_of):
    """The first file is dark: it must not be brighter than a brighter one by more than it is told."""
    counts = [np.full((24, 32), value, np.uint16) for value in (900, 4000, 900)]
    for i, image in enumerate(counts):
        assert cv2.imwrite(str(tmp_path / f"{i}.png"), image)
    write_lines(tmp_path / "rgb.txt", *(f"{i} {i}.png" for i in range(3)))
    source = folder_of(tmp_path)
    for _ in range(2):  # the second pass begins anew
        assert images(source)[:, 0, 0, 0].tolist() == [round(900 * 255 / 1023), round(4000 * 255 / 4095), 56]
    assert source.notes == [
        "the 16-bit images hold 10 bits: 0 to 1023 becomes 0 to 255",
        "the 16-bit images hold 12 bits now, 10 before: 0 to 4095 becomes 0 to 255",
    ]
    assert source.image_at(0)[0, 0, 0] == 56, "afterwards as at the end"


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("rgb.txt", "# nothing\n", r"rgb\.txt: lists no images"),
        ("rgb.txt", "# t\n1.0 a.png\nsoon b.png\n", r"rgb\.txt:3: expected 'timestamp path'"),
        ("rgb.txt", "1.0\n", r"rgb\.txt:1: expected 'timestamp path'"),
        ("rgb.txt", None, r"rgb\.txt: no such file"),
        ("groundtruth.txt", "1 2 3\n", r"groundtruth\.txt:1: expected 't tx ty tz qx qy qz qw', found 3 words"),
        ("groundtruth.txt", "\n1 0 0 0 0 0 0 0\n", r"groundtruth\.txt:2: .* is not a rotation"),
        ("groundtruth.txt", "1 0 0 inf 0 0 0 1\n", r"groundtruth\.txt:1: .* is not a position"),
        ("groundtruth.txt", "1 0 0 O 0 0 0 1\n", r"groundtruth\.txt:1: could not convert"),
        ("groundtruth.txt", "# none\n", r"groundtruth\.txt: holds no poses"),
    ],
)
def test_a_broken_tum_file_is_named_with_its_line(tum, file, text, message):
    (tum / file).unlink()
    if text is not None:
        (tum / file).write_text(text)
    with pytest.raises(SourceError, match=message):
        TumSource(tum)


def test_text_files_that_are_not_text(tum):
    (tum / "rgb.txt").write_bytes(b"\xff\xfe\x00\xd8")  # half of a UTF-16 pair
    with pytest.raises(SourceError, match="cannot be read as text"):
        TumSource(tum)


def test_folder_is_in_natural_order_at_its_rate(folder, tmp_path):
    write_lines(tmp_path / "poses.txt", *(f"{i / 4} {i} 0 0 0 0 0 1" for i in range(COUNT)))
    source = FolderSource(folder, rate_hz=4, ground_truth_file=tmp_path / "poses.txt")
    assert [frame.stamp_ns for frame in source] == [i * 250_000_000 for i in range(COUNT)]
    assert source.ground_truth.poses[:, 0, 3].tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(SourceError, match="rate_hz must be positive"):
        FolderSource(folder, rate_hz=0)
    with pytest.raises(SourceError, match="holds no images"):
        FolderSource(tmp_path)
    with pytest.raises(SourceError, match="No such file"):
        FolderSource(tmp_path / "absent")


def test_unreadable_images_are_skipped_counted_and_reported(folder):
    (folder / "frame_9.png").write_bytes(b"rubbish")
    (folder / "frame_10.png").write_bytes(b"")
    source = FolderSource(folder)
    assert [frame.stamp_ns for frame in source] == [0, 300_000_000, 400_000_000]
    list(source)
    assert source.skipped == 2, "of the last pass, not of both"
    assert len(source.notes) == 1
    assert source.notes[0].startswith("2 of 5 images could not be read; the first: ")
    assert "frame_9.png" in source.notes[0]
    assert source.image_at(100_000_000) is None


def test_a_folder_of_rubbish_says_so(folder):
    for path in folder.iterdir():
        path.write_bytes(b"rubbish")
    source = FolderSource(folder)
    assert not list(source)
    assert source.notes[0].startswith("all 5 images could not be read")


def test_odometry_from_poses_only_when_asked_for_and_then_noted(tum):
    source = TumSource(tum, odometry_from_poses=True)
    poses = [frame.odom_from_body for frame in source]
    assert np.array_equal(np.array(poses[:-1]), source.ground_truth.poses)
    assert poses[-1] is None
    assert "odometry was taken from the ground-truth poses" in source.notes[0]


@pytest.mark.parametrize(("suffix", "code"), [("avi", "MJPG"), ("mp4", "mp4v")])
def test_video(tmp_path, suffix, code):
    write_lines(tmp_path / "poses.txt", *(f"{i * 0.04:.2f} {i} 0 0 0 0 0 1" for i in range(20)))
    source = VideoSource(video(tmp_path / f"a.{suffix}", code), tmp_path / "poses.txt")
    frames = list(source)
    assert (len(frames), len(source), source.skipped) == (20, 20, 0)
    assert [frame.stamp_ns for frame in frames] == [i * 40_000_000 for i in range(20)]
    for i, frame in enumerate(frames):
        assert np.abs(frame.image.reshape(-1, 3).mean(axis=0) - (100, 255 - 10 * i, 10 * i)).max() < 8, "RGB"
    assert np.array_equal(source.image_at(frames[13].stamp_ns), frames[13].image)
    assert source.image_at(1) is None
    assert source.ground_truth.poses[:, 0, 3].tolist() == list(range(20))
    assert not source.notes


def test_videos_that_do_not_open(tmp_path):
    with pytest.raises(SourceError, match="no such file"):
        VideoSource(tmp_path / "a.mp4")
    (tmp_path / "a.mp4").write_bytes(b"rubbish")
    with pytest.raises(SourceError, match="cannot open this video; convert it: ffmpeg -i"):
        VideoSource(tmp_path / "a.mp4")


def test_a_video_that_ends_early_says_so(tmp_path):
    path = video(tmp_path / "a.avi", "MJPG", count=100)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    source = VideoSource(path)
    stamps = [frame.stamp_ns for frame in source]
    assert 10 < len(stamps) < 90
    assert stamps == sorted(set(stamps))
    assert source.notes[0] == f"the video gave {len(stamps)} of the 100 frames that its header announces"


@pytest.mark.parametrize(("last_ms", "is_whole"), [(9_900.0, True), (6_000.0, False)])
def test_a_video_of_variable_rate_is_whole_where_its_times_reach_the_end(tmp_path, monkeypatch, last_ms, is_whole):
    """As OpenCV shows a Matroska file without a count: it makes one of the duration, 10 s here, and the rate, and few frames fill it."""

    class Capture:
        def __init__(self, path):
            self._times, self._now = iter((0.0, 3_000.0, last_ms)), 0.0

        def isOpened(self):
            return True

        def get(self, what):
            facts = {cv2.CAP_PROP_FRAME_COUNT: 100.0, cv2.CAP_PROP_FPS: 10.0}
            return facts.get(what, self._now)

        def grab(self):
            self._now = next(self._times, None)
            return self._now is not None

        def retrieve(self):
            return True, np.zeros((48, 64, 3), np.uint8)

        def release(self):
            pass

    (tmp_path / "walk.mkv").touch()
    monkeypatch.setattr(cv2, "VideoCapture", Capture)
    source = VideoSource(tmp_path / "walk.mkv")
    assert len(list(source)) == 3
    assert (not source.notes) == is_whole, source.notes


def test_open_source_recognises_by_looking(kitti, tum, folder, tmp_path):
    assert isinstance(open_source(kitti), KittiSource)
    assert isinstance(open_source(str(kitti), sequence="07", camera="image_2"), KittiSource)
    assert isinstance(open_source(tum), TumSource)
    assert isinstance(open_source(folder, rate_hz=2.0, ground_truth_file=""), FolderSource)
    assert isinstance(open_source(video(tmp_path / "a.avi", "MJPG")), VideoSource)


def test_open_source_says_what_it_looked_for(kitti, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.bag").touch()
    (tmp_path / "a.txt").touch()
    (kitti / "sequences" / "08").mkdir()
    for path, options, message in (
        ("absent", {}, "no such file or folder"),
        ("empty", {}, r"looked for metadata\.yaml, .* rgb\.txt \(TUM\)"),
        ("a.bag", {}, "ROS 1 bag; convert it: rosbags-convert"),
        ("a.txt", {}, "must be a bag or a video"),
        ("", {}, "sequences/ holds 07, 08"),
        ("", {"sequence": "07", "speed": 3}, "a KITTI sequence has no speed; what can be chosen: sequence, camera"),
        ("sequences/07/image_0", {"sequence": "07"}, "sequence is for KITTI trees only"),
    ):
        with pytest.raises(SourceError, match=message):
            open_source(tmp_path / path, **options)


@pytest.mark.parametrize(
    ("text", "stamp_ns"),
    [
        ("1305031452.791720", 1305031452791720000),
        ("1700000000.123456789", 1700000000123456789),
        ("1.037359e-01", 103735900),
        ("0", 0),
        ("-1.5", -1500000000),
    ],
)
def test_stamps_are_exact(text, stamp_ns):
    assert stamp_from_seconds(text) == stamp_ns


@given(st.integers(0, 2**62))
def test_stamps_round_trip(stamp_ns):
    assert stamp_from_seconds(f"{stamp_ns // 10**9}.{stamp_ns % 10**9:09d}") == stamp_ns


@pytest.mark.parametrize("text", ["", "noon", "nan", "inf", "1e30", "1.2.3"])
def test_stamps_that_are_none(text):
    with pytest.raises(ValueError, match=r"not a time|out of range"):
        stamp_from_seconds(text)


@pytest.mark.skipif(not (DATA / "kitti").exists(), reason=f"{DATA}/kitti is not on this machine")
def test_real_kitti():
    source = open_source(DATA / "kitti")
    assert len(source) == len(source.ground_truth) == 1700
    frame = next(iter(source))
    assert frame.image.shape == (188, 620, 3)
    assert (frame.camera.width, round(frame.camera.fx, 2)) == (620, 359.14)
    steps = np.linalg.norm(np.diff(source.ground_truth.poses[:, :3, 3], axis=0), axis=1)
    assert round(steps.sum()) == 1263


@pytest.mark.skipif(not (DATA / "tum_fr1_desk").exists(), reason=f"{DATA}/tum_fr1_desk is not on this machine")
def test_real_tum():
    source = open_source(DATA / "tum_fr1_desk")
    assert len(source) == 613
    assert len(source.ground_truth) > 590
    frame = next(iter(source))
    assert frame.stamp_ns == 1305031452791720000
    assert frame.camera.fx == 517.3
    assert np.allclose(np.linalg.det(source.ground_truth.poses[:, :3, :3]), 1)


def test_a_sample_is_spread_over_a_recording(tmp_path: Path) -> None:
    for i in range(10):
        cv2.imwrite(str(tmp_path / f"{i:02d}.png"), np.full((8, 8, 3), 20 * i, np.uint8))
    assert [int(image[0, 0, 0]) for image in sample_images(tmp_path, 4)] == [0, 60, 120, 180]
    assert len(sample_images(tmp_path, 64)) == 10
    load = images_of(EngineConfig(images=str(tmp_path)))
    assert load is not None
    assert len(load()) == 10
    assert images_of(EngineConfig()) is None


def test_a_sample_of_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "00.png").write_bytes(b"no image")
    with pytest.raises(SourceError):
        sample_images(tmp_path)


def test_hidden_files_are_no_images_and_names_may_be_any_bytes(tmp_path):
    folder = os.fsencode(tmp_path)
    content = cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes()
    for name in (b"a.png", b"caf\xe9.png", b"._a.png", b".hidden.jpg"):
        with open(os.path.join(folder, name), "wb") as file:
            file.write(b"\0\5\x16\7" if name.startswith(b".") else content)
    with open(os.path.join(folder, b"b\xff.png"), "wb") as file:
        file.write(b"no image")
    os.mkfifo(tmp_path / "pipe.png")
    source = open_source(tmp_path)
    assert len(list(source)) == 2
    assert source.skipped == 2
    "".join(source.notes).encode()


def test_a_truth_that_is_a_pipe_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes())
    os.mkfifo(tmp_path / "truth.txt")
    with pytest.raises(SourceError, match="not a regular file"):
        open_source(tmp_path, ground_truth_file=tmp_path / "truth.txt")
