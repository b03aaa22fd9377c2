"""Bags: both storages, raw and compressed, whole, damaged in the ways that bags are damaged, and badly asked for."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import struct

import numpy as np
import pytest
import zstandard

from vpr_ros.bags.reader import Bag
from vpr_ros.bags.writer import TYPESTORE, BagWriter
from vpr_ros.errors import SourceError
from vpr_ros.sources import BagSource, FolderSource, open_source
from vpr_ros.types import Camera

STORAGES = ("sqlite3", "mcap")
COUNT = 12
IMAGES = np.random.default_rng(2).integers(0, 256, (COUNT, 48, 64, 3), np.uint8)
STAMPS = [1_700_000_000_000_000_001 + i * 100_000_000 for i in range(COUNT)]
CAMERA = Camera(70.0, 71.0, 32.0, 24.0, 64, 48, (0.1, -0.05, 0.001, 0.002, 0.0))
DELAY_NS = 30_000_000  # from the camera to the recorder
TOPIC = "/camera/image_raw"


def pose(x):
    """x metres ahead, turned by x radians."""
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(x), -np.sin(x)], [np.sin(x), np.cos(x)]]
    matrix[0, 3] = x
    return matrix


def write_bag(path, storage, topic=TOPIC, count=COUNT):
    with BagWriter(path, storage) as bag:
        bag.camera_info("/camera/camera_info", STAMPS[0], CAMERA, "cam")
        for i in range(count):
            bag.odometry("/odom", STAMPS[i] - 20_000_000, pose(0.1 * i))
            if topic.endswith("/compressed"):
                bag.compressed_image(topic, STAMPS[i], IMAGES[i], "cam", format="png")
            else:
                bag.image(topic, STAMPS[i], IMAGES[i], "cam", bag_ns=STAMPS[i] + DELAY_NS)
    return path


def storage_file(path):
    (file,) = [child for child in path.iterdir() if child.suffix in (".db3", ".mcap")]
    return file


@pytest.mark.parametrize("topic", [TOPIC, TOPIC + "/compressed"])
@pytest.mark.parametrize("storage", STORAGES)
def test_a_bag_gives_back_what_was_written(tmp_path, storage, topic):
    source = BagSource(write_bag(tmp_path / "bag", storage, topic), odom_topic="/odom")
    frames = list(source)
    assert [frame.stamp_ns for frame in frames] == STAMPS, "of the headers, not of the recorder"
    assert np.array_equal([frame.image for frame in frames], IMAGES)
    assert frames[0].camera == CAMERA
    assert frames[0].frame_id == "cam"
    assert np.allclose([frame.odom_from_body for frame in frames], [pose(0.1 * i) for i in range(COUNT)])
    assert (len(source), source.skipped, source.notes, source.ground_truth) == (COUNT, 0, [], None)


@pytest.mark.parametrize("storage", STORAGES)
def test_random_access(tmp_path, storage):
    source = BagSource(write_bag(tmp_path / "bag", storage))
    assert np.array_equal(source.image_at(STAMPS[7]), IMAGES[7]), "before any pass"
    assert source.image_at(STAMPS[7] + 1) is None
    list(source)
    assert np.array_equal(source.image_at(STAMPS[3]), IMAGES[3])


def test_a_lossless_bag_and_a_folder_hold_the_same_images(tmp_path):
    import cv2

    for i, image in enumerate(IMAGES):
        cv2.imwrite(str(tmp_path / f"{i}.png"), image[..., ::-1])
    bag = open_source(write_bag(tmp_path / "bag", "mcap"))
    for ours, theirs in zip(bag, FolderSource(tmp_path), strict=True):
        assert np.array_equal(ours.image, theirs.image)


def test_jpeg_in_a_bag_is_close(tmp_path):
    smooth = np.full((48, 64, 3), (200, 100, 30), np.uint8)
    with BagWriter(tmp_path / "bag") as bag:
        bag.compressed_image("/image/compressed", 1, smooth, quality=95)
    (frame,) = BagSource(tmp_path / "bag")
    assert np.abs(frame.image.astype(int) - smooth).max() <= 3


@pytest.mark.parametrize("storage", STORAGES)
def test_ground_truth_from_a_topic_or_a_file_goes_with_the_frames_but_not_into_them(tmp_path, storage):
    path = write_bag(tmp_path / "bag", storage)
    expected = np.array([pose(0.1 * i) for i in range(COUNT)])
    source = BagSource(path, ground_truth_topic="/odom")
    # measured 20 ms before each frame: interpolated, and the last frame has the last pose
    between = np.array([*(pose(0.1 * (i + 0.2)) for i in range(COUNT - 1)), expected[-1]])
    assert np.allclose(source.ground_truth.poses, between)
    assert source.ground_truth.stamps.tolist() == STAMPS
    assert all(frame.odom_from_body is None for frame in source)
    lines = [
        f"{s // 10**9}.{s % 10**9:09d} {0.1 * i} 0 0 0 0 {np.sin(i / 20)} {np.cos(i / 20)}"
        for i, s in enumerate(STAMPS)
    ]
    (tmp_path / "truth.txt").write_text("\n".join(lines))
    assert np.allclose(BagSource(path, ground_truth_file=tmp_path / "truth.txt").ground_truth.poses, expected)
    with pytest.raises(SourceError, match="not both"):
        BagSource(path, ground_truth_topic="/odom", ground_truth_file="truth.txt")


def test_pose_stamped_is_ground_truth_too(tmp_path):
    types = TYPESTORE.types
    header = types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](0, 5), "world")
    point = types["geometry_msgs/msg/Point"](1.0, 2.0, 3.0)
    upright = types["geometry_msgs/msg/Quaternion"](0.0, 0.0, 0.0, 1.0)
    stamped = types["geometry_msgs/msg/PoseStamped"](header, types["geometry_msgs/msg/Pose"](point, upright))
    with BagWriter(tmp_path / "bag") as bag:
        bag.image("/image", 5, IMAGES[0])
        bag.write("/pose", stamped, 5)
    truth = BagSource(tmp_path / "bag", ground_truth_topic="/pose").ground_truth
    assert truth.poses[0, :3, 3].tolist() == [1, 2, 3]


def test_odometry_that_is_too_old_is_none(tmp_path):
    with BagWriter(tmp_path / "bag") as bag:
        bag.odometry("/odom", STAMPS[0], pose(0))
        for i in (0, 1, 2):
            bag.image(TOPIC, STAMPS[i], IMAGES[i])
    source = BagSource(tmp_path / "bag", odom_topic="/odom")
    assert [frame.odom_from_body is None for frame in source] == [False, False, True]
    assert source.notes == ["1 frames have no odometry within 0.1 s"]


def test_where_the_camera_sits_on_the_body_is_known_from_static_transforms(tmp_path):
    with BagWriter(tmp_path / "bag") as bag:
        bag.static_transform(STAMPS[2], "mast", "cam", pose(0.3))  # one late, and of two steps
        bag.static_transform(STAMPS[0], "base_link", "mast", pose(0.2))
        bag.odometry("/odom", STAMPS[0], pose(0))
        for i in (0, 1, 2):
            bag.image(TOPIC, STAMPS[i], IMAGES[i], "cam" if i < 2 else "elsewhere")
    first, _, of_another_camera = BagSource(tmp_path / "bag", odom_topic="/odom")
    np.testing.assert_allclose(first.body_from_camera, pose(0.2) @ pose(0.3))
    assert of_another_camera.body_from_camera is None
    assert [frame.body_from_camera for frame in BagSource(tmp_path / "bag")] == [None] * 3, "of no body: no odometry"


def cameras(path, **options):
    source = BagSource(path, **options)
    found = [frame.camera for frame in source]
    notes = list(source.notes)
    assert [frame.camera for frame in source] == found
    assert source.notes == notes, "a second pass has nothing new to say"
    return found, notes


def test_intrinsics_of_another_image_size_are_not_used(tmp_path):
    with BagWriter(tmp_path / "bag") as bag:
        bag.camera_info("/camera/camera_info", 1, CAMERA)
        for i in range(3):
            bag.image(TOPIC, STAMPS[i], IMAGES[i][:, :40])
    found, (note,) = cameras(tmp_path / "bag")
    assert found == [None] * 3
    assert note.startswith(
        "closures come without a relative pose: camera_info is for 64 x 48 px, images are 40 x 48 px"
    )


def test_intrinsics_of_twice_the_image_size_are_halved(tmp_path):
    with BagWriter(tmp_path / "bag") as bag:
        bag.camera_info("/camera/camera_info", 1, CAMERA)
        bag.image(TOPIC, 2, np.ascontiguousarray(IMAGES[0][::2, ::2]))
    (camera,), notes = cameras(tmp_path / "bag")
    assert camera == Camera(35.0, 35.5, (32.5 / 2) - 0.5, (24.5 / 2) - 0.5, 32, 24, CAMERA.distortion)
    assert notes == ["camera_info is for 64 x 48 px, images are 32 x 24 px: scaled by 1/2"]


@pytest.mark.parametrize("storage", STORAGES)
def test_an_image_goes_with_the_camera_info_before_it(tmp_path, storage):
    """The resolution changes on the way, and the very first image is recorded before any camera_info."""
    small = Camera(40.0, 40.0, 15.0, 11.0, 32, 24)
    with BagWriter(tmp_path / "bag", storage) as bag:
        for i in range(6):
            size = CAMERA if i < 3 else small
            if i:
                bag.camera_info("/camera/camera_info", STAMPS[i] - 1, size)
            bag.image(TOPIC, STAMPS[i], np.ascontiguousarray(IMAGES[i][: size.height, : size.width]))
    found, notes = cameras(tmp_path / "bag")
    assert found == [CAMERA] * 3 + [small] * 3
    assert notes == [
        "camera_info changed from 64 x 48 px, fx 70, plumb_bob to 32 x 24 px, fx 40, plumb_bob: from now on it is used"
    ]


def test_a_driver_that_is_calibrated_after_its_first_message(tmp_path):
    message = TYPESTORE.types["sensor_msgs/msg/CameraInfo"]
    roi = TYPESTORE.types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
    with BagWriter(tmp_path / "bag") as bag:
        header = TYPESTORE.types["std_msgs/msg/Header"](TYPESTORE.types["builtin_interfaces/msg/Time"](1, 0), "cam")
        blank = message(header, 48, 64, "", np.zeros(0), np.zeros(9), np.eye(3).ravel(), np.zeros(12), 0, 0, roi)
        bag.write("/camera/camera_info", blank, STAMPS[0] - 1)
        bag.image(TOPIC, STAMPS[0], IMAGES[0])
        bag.camera_info("/camera/camera_info", STAMPS[1] - 1, CAMERA)
        bag.image(TOPIC, STAMPS[1], IMAGES[1])
    found, notes = cameras(tmp_path / "bag")
    assert found == [None, CAMERA]
    assert (
        notes[0]
        == "closures come without a relative pose: camera_info is not calibrated (K is zero): calibrate the camera"
    )
    assert "changed from 64 x 48 px, fx 0, no distortion model to 64 x 48 px, fx 70" in notes[1]


def test_two_cameras_on_one_camera_info_topic_are_named_and_no_camera_is_used(tmp_path):
    other = Camera(90.0, 90.0, 30.0, 20.0, 64, 48)
    with BagWriter(tmp_path / "bag") as bag:
        for i in range(8):
            bag.camera_info("/camera/camera_info", STAMPS[i] - 1, other if i % 2 else CAMERA)
            bag.image(TOPIC, STAMPS[i], IMAGES[i])
    found, notes = cameras(tmp_path / "bag")
    assert found[2:] == [None] * 6
    assert "two camera_infos alternate (64 x 48 px, fx 70, plumb_bob and 64 x 48 px, fx 90, plumb_bob)" in notes[-1]


@pytest.mark.parametrize("transport", ["", "/compressed"])
@pytest.mark.parametrize("name", ["image_rect", "image_rect_color"])
def test_a_rectified_image_beside_the_raw_cameras_calibration_has_its_p(tmp_path, name, transport):
    p = np.array([60.0, 0, 30, 0, 0, 61, 22, 0, 0, 0, 1, 0])
    roi = TYPESTORE.types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
    header = TYPESTORE.types["std_msgs/msg/Header"](TYPESTORE.types["builtin_interfaces/msg/Time"](1, 0), "cam")
    info = TYPESTORE.types["sensor_msgs/msg/CameraInfo"](
        header, 48, 64, "plumb_bob", np.array(CAMERA.distortion), CAMERA.matrix.ravel(), np.eye(3).ravel(), p, 0, 0, roi
    )
    with BagWriter(tmp_path / "bag") as bag:
        bag.write("/camera/camera_info", info, 1)
        write = bag.compressed_image if transport else bag.image
        write(f"/camera/{name}{transport}", 2, IMAGES[0])
    assert cameras(tmp_path / "bag") == ([Camera(60.0, 61.0, 30.0, 22.0, 64, 48)], [])


def test_sixteen_bit_images_of_a_bag_are_stretched_alike_and_said_once(tmp_path):
    ramp = np.linspace(0, 1000, 48 * 64).reshape(48, 64).astype(np.uint16)
    with BagWriter(tmp_path / "bag") as bag:
        for i, counts in enumerate((ramp, ramp // 8, ramp)):
            bag.plane(TOPIC, STAMPS[i], counts, "mono16")
    source = BagSource(tmp_path / "bag")
    bright, dark, again = (frame.image for frame in source)
    assert bright.max() == round(1000 * 255 / 1023)
    assert dark.max() == round(125 * 255 / 1023), "a dark image stays dark"
    assert np.array_equal(bright, again)
    assert source.notes == ["the 16-bit images hold 10 bits: 0 to 1023 becomes 0 to 255"]
    assert np.array_equal(source.image_at(STAMPS[1]), dark)


def test_bag_time_stands_in_for_header_stamps_that_were_left_at_zero(tmp_path):
    with BagWriter(tmp_path / "bag") as bag:
        for i in range(3):
            bag.image(TOPIC, 0, IMAGES[i], bag_ns=STAMPS[i])
    source = BagSource(tmp_path / "bag")
    assert [frame.stamp_ns for frame in source] == STAMPS[:3]
    assert np.array_equal(source.image_at(STAMPS[1]), IMAGES[1])


@pytest.mark.parametrize("storage", STORAGES)
def test_asking_for_the_wrong_topic_lists_the_right_ones(tmp_path, storage):
    path = write_bag(tmp_path / "bag", storage)
    for options, message in (
        (
            {"image_topic": "/nope"},
            r"has no topic '/nope'; image_topic can be one of /camera/image_raw \(sensor_msgs/",
        ),
        ({"image_topic": "/odom"}, "/odom is nav_msgs/msg/Odometry; image_topic needs sensor_msgs/msg/Image or"),
        ({"odom_topic": TOPIC}, "odom_topic needs nav_msgs/msg/Odometry"),
        ({"ground_truth_topic": "/nope"}, "ground_truth_topic can be one of /odom"),
        ({"camera_info_topic": "/odom"}, "camera_info_topic needs sensor_msgs/msg/CameraInfo"),
    ):
        with pytest.raises(SourceError, match=message) as error:
            BagSource(path, **options)
        assert "\n" not in str(error.value)


def test_two_image_topics_need_a_choice_and_none_is_an_error(tmp_path):
    with BagWriter(tmp_path / "two") as bag:
        bag.image("/left", 1, IMAGES[0])
        bag.image("/right", 1, IMAGES[1])
    with pytest.raises(SourceError, match=r"choose one with image_topic: /left \(.*, /right \("):
        BagSource(tmp_path / "two")
    (frame,) = open_source(tmp_path / "two", image_topic="/right")
    assert np.array_equal(frame.image, IMAGES[1])
    with BagWriter(tmp_path / "none") as bag:
        bag.odometry("/odom", 1, pose(0))
    with pytest.raises(SourceError, match=r"has no images; its topics are /odom \("):
        BagSource(tmp_path / "none")


def raw_image(encoding):
    types = TYPESTORE.types
    header = types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](1, 0), "")
    return types["sensor_msgs/msg/Image"](header, 2, 2, encoding, 0, 8, np.zeros(16, np.uint8))


def test_images_that_do_not_decode_are_skipped_counted_and_named(tmp_path):
    with BagWriter(tmp_path / "some") as bag:
        bag.image(TOPIC, STAMPS[0], IMAGES[0])
        bag.write(TOPIC, raw_image("32FC1"), STAMPS[1])
    source = BagSource(tmp_path / "some")
    assert len(list(source)) == source.skipped == 1
    assert source.notes[0].startswith("1 of 2 images could not be read; the first: encoding '32FC1'")
    with BagWriter(tmp_path / "all") as bag:
        bag.write(TOPIC, raw_image("32FC1"), STAMPS[1])
    source = BagSource(tmp_path / "all")
    assert not list(source)
    assert source.notes[0].startswith("all 1 images could not be read; the first: encoding '32FC1'")


@pytest.mark.parametrize("storage", STORAGES)
def test_a_message_of_garbage_is_skipped(tmp_path, storage):
    with BagWriter(tmp_path / "bag", storage) as bag:
        bag.image(TOPIC, STAMPS[0], IMAGES[0])
        connection = bag._connections[TOPIC]
        for garbage in (b"", b"\x00\x01\x00\x00", b"\x00\x01\x00\x00" + b"\xff" * 40):
            bag._writer.write(connection, STAMPS[1], garbage)
        bag.image(TOPIC, STAMPS[2], IMAGES[2])
    source = BagSource(tmp_path / "bag")
    assert [frame.stamp_ns for frame in source] == [STAMPS[0], STAMPS[2]]
    assert source.skipped == 3


@pytest.mark.parametrize("share", [0.95, 0.7, 0.45])
@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("as_file", [False, True])
def test_a_bag_cut_short_is_read_to_its_last_good_message(tmp_path, storage, share, as_file):
    path = write_bag(tmp_path / "bag", storage)
    file = storage_file(path)
    os.truncate(file, int(file.stat().st_size * share))
    source = open_source(file if as_file else path, odom_topic="/odom")
    frames = list(source)
    assert share * COUNT - 3 <= len(frames) <= share * COUNT + 1
    assert [frame.stamp_ns for frame in frames] == STAMPS[: len(frames)]
    assert np.array_equal([frame.image for frame in frames], IMAGES[: len(frames)])
    assert frames[0].camera == CAMERA
    assert all(frame.odom_from_body is not None for frame in frames)
    assert np.array_equal(source.image_at(STAMPS[1]), IMAGES[1])
    assert "read to its last good message" in source.notes[0]


@pytest.mark.parametrize(
    ("size", "count"), [(8, 150), (64, 24)]
)  # many images in one of SQLite's pages; many pages for one image
@pytest.mark.parametrize("storage", STORAGES)
def test_wherever_a_bag_is_cut_no_image_comes_out_half(tmp_path, storage, size, count):
    images = np.random.default_rng(5).integers(1, 256, (count, size, size, 3), np.uint8)
    with BagWriter(tmp_path / "bag", storage) as bag:
        for i, image in enumerate(images):
            bag.image(TOPIC, STAMPS[0] + i, image)
    file = storage_file(tmp_path / "bag")
    whole = file.read_bytes()
    counts = []
    for cut in range(len(whole) - 10, len(whole) // 2, -len(whole) // 50):
        file.write_bytes(whole[:cut])
        frames = list(BagSource(file))
        counts.append(len(frames))
        assert np.array_equal([frame.image for frame in frames], images[: len(frames)])
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] > 0  # no more: definitions fill the first half of so small a file


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_an_mcap_cut_inside_a_compressed_chunk(tmp_path, compression):
    lz4 = pytest.importorskip("lz4.frame")
    path, large = tmp_path / "bag", np.random.default_rng(4).integers(0, 256, (4, 240, 320, 3), np.uint8)
    with BagWriter(path, "mcap") as bag:
        for stamp, image in zip(STAMPS, large, strict=False):
            bag.image(TOPIC, stamp, image)
    file = storage_file(path)
    data = file.read_bytes()
    start = 8 + 9 + struct.unpack_from("<Q", data, 9)[0]  # behind the magic and the header record
    (size,) = struct.unpack_from("<Q", data, start + 9 + 32)
    records = data[start + 9 + 40 : start + 9 + 40 + size]
    packed = zstandard.compress(records) if compression == "zstd" else lz4.compress(records)
    body = data[start + 9 : start + 9 + 28] + struct.pack("<I", len(compression)) + compression.encode()
    body += struct.pack("<Q", len(packed)) + packed
    chunk = struct.pack("<BQ", 6, len(body)) + body
    for share, expected in ((1.0, 4), (0.7, 2)):
        file.write_bytes(data[:start] + chunk[: int(len(chunk) * share)])
        frames = list(BagSource(path))
        assert len(frames) == expected
        assert np.array_equal([frame.image for frame in frames], large[:expected])


def test_an_mcap_without_chunks_whose_messages_are_out_of_order(tmp_path):
    """ros2's `fastwrite`: rosbags gives up on it at the first message out of order."""
    path = tmp_path / "bag"
    with BagWriter(path, "mcap") as bag:
        for i in range(COUNT):
            bag.image(TOPIC, STAMPS[i], IMAGES[i], bag_ns=STAMPS[i ^ 1])
    file = storage_file(path)
    data = file.read_bytes()
    start = 8 + 9 + struct.unpack_from("<Q", data, 9)[0]
    (size,) = struct.unpack_from("<Q", data, start + 9 + 32)
    records = data[start + 9 + 40 : start + 9 + 40 + size]
    footer = struct.pack("<BQQQI", 2, 20, 0, 0, 0) + data[:8]
    data_end = struct.pack("<BQI", 15, 4, 0)
    file.write_bytes(data[:start] + records + data_end + footer)
    source = BagSource(path)
    assert [frame.stamp_ns for frame in source] == STAMPS
    assert not source.notes


@pytest.mark.parametrize("storage", STORAGES)
def test_a_bag_without_metadata_is_read_all_the_same(tmp_path, storage):
    path = write_bag(tmp_path / "bag", storage)
    (path / "metadata.yaml").unlink()
    source = open_source(path)
    assert len(list(source)) == len(source) == COUNT
    assert source.notes == [
        "metadata.yaml is missing (a recording that was cut off?): the bag's files were read directly"
    ]
    (path / "metadata.yaml").write_text("{ nonsense")
    source = open_source(path)
    assert len(list(source)) == COUNT
    assert "read one by one" in source.notes[0]


@pytest.mark.parametrize("storage", STORAGES)
def test_a_bag_in_several_files_of_which_one_is_damaged(tmp_path, storage):
    path = write_bag(tmp_path / "bag", storage, count=4)
    first = storage_file(path)
    with BagWriter(tmp_path / "bag_10", storage) as bag:
        for i in range(4, 8):
            bag.image(TOPIC, STAMPS[i], IMAGES[i])
    last = storage_file(tmp_path / "bag_10")
    shutil.copy(last, path / ("bag_10" + last.suffix))
    first.rename(path / ("bag_9" + first.suffix))
    (path / ("bag_11" + last.suffix)).write_bytes(b"")
    (path / "metadata.yaml").unlink()
    source = BagSource(path)
    assert [frame.stamp_ns for frame in source] == STAMPS[:8]
    assert len(source) == 8
    assert "bag_11" in source.notes[1]


def test_a_write_ahead_log_left_by_a_killed_recorder_is_read(tmp_path):
    path = write_bag(tmp_path / "bag", "sqlite3", count=6)
    file = storage_file(path)
    database = sqlite3.connect(file)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA wal_autocheckpoint=0")
    database.execute("INSERT INTO messages (topic_id, timestamp, data) SELECT topic_id, timestamp, data FROM messages")
    database.commit()
    (tmp_path / "killed").mkdir()
    for name in (file.name, file.name + "-wal"):
        shutil.copy(path / name, tmp_path / "killed" / name)
    database.close()
    source = BagSource(tmp_path / "killed")
    assert len(list(source)) == 12
    assert "write-ahead log" in source.notes[1]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.db3", b"", "no message can be read from it .* try: sqlite3 a.db3 .recover"),
        ("a.db3", b"SQLite format 3\x00" + b"\x00" * 5000, "no message can be read"),
        ("a.mcap", b"", "is not an mcap file"),
        ("a.mcap", b"\x89MCAP0\r\n" + b"\xff" * 500, "try: mcap recover a.mcap"),
        ("a.mcap", b"\x89MCAP0\r\n" + struct.pack("<BQ", 6, 3) + b"abc", "try: mcap recover"),
        ("a.mcap", b"\x89MCAP0\r\n" + struct.pack("<BQ", 3, 1) + b"a", "try: mcap recover"),
        ("metadata.yaml", b"x: 1", "holds no .db3 or .mcap file"),
    ],
)
def test_bags_that_nothing_can_be_read_from(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(SourceError, match=message) as error:
        open_source(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("storage", STORAGES)
def test_rubbish_inside_a_bag_never_escapes_as_anything_but_a_source_error(tmp_path, storage):
    path = write_bag(tmp_path / "bag", storage, count=3)
    file = storage_file(path)
    whole = file.read_bytes()
    rng = np.random.default_rng(3)
    for _ in range(40):
        data = bytearray(whole)
        at = int(rng.integers(0, len(data) - 64))
        data[at : at + 64] = rng.integers(0, 256, 64, np.uint8).tobytes()
        file.write_bytes(data[: int(rng.integers(len(data) // 2, len(data) + 1))])
        with contextlib.suppress(SourceError):
            assert len(list(BagSource(path, image_topic=TOPIC, odom_topic="/odom"))) <= 3


def test_an_existing_bag_is_never_overwritten(tmp_path):
    write_bag(tmp_path / "bag", "mcap", count=1)
    with pytest.raises(SourceError, match="exists already"), BagWriter(tmp_path / "bag"):
        pass


@pytest.mark.parametrize("storage", STORAGES)
def test_rclpy_deserialises_what_was_written(tmp_path, storage):
    """What `ros2 bag play` would publish, byte for byte, is what rclpy's own type support reads."""
    serialization = pytest.importorskip("rclpy.serialization", reason="rclpy is not installed")
    from nav_msgs.msg import Odometry
    from sensor_msgs.msg import CameraInfo, Image

    path = write_bag(tmp_path / "bag", storage, count=2)
    read = {"/odom": Odometry, "/camera/camera_info": CameraInfo, TOPIC: Image}
    with Bag(path) as bag:
        messages = {m.topic: serialization.deserialize_message(m.data, read[m.topic]) for m in bag.messages(read)}
    assert bytes(messages[TOPIC].data) == IMAGES[1].tobytes()
    assert messages[TOPIC].header.frame_id == "cam"
    assert list(messages["/camera/camera_info"].d) == list(CAMERA.distortion)
    assert messages["/odom"].child_frame_id == "base_link"
    assert messages["/odom"].pose.pose.position.x == 0.1
