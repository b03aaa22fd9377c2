"""Bags as recorders leave them that were killed: compressed splits, without metadata.yaml or with one that is out of date."""

from __future__ import annotations

import shutil
import struct

import numpy as np
import pytest
import yaml
import zstandard

from vpr_ros.bags import compressed
from vpr_ros.bags.writer import BagWriter
from vpr_ros.errors import SourceError
from vpr_ros.sources import open_source

SUFFIXES = {"sqlite3": ".db3", "mcap": ".mcap"}
TOPIC = "/camera/image_raw"
IMAGES = np.random.default_rng(7).integers(0, 256, (9, 12, 16, 3), np.uint8)
STAMPS = [1_700_000_000_000_000_000 + i * 100_000_000 for i in range(len(IMAGES))]


def splits(path, storage, packed=(True, True, True), names=("drive_9", "drive_10", "drive_11"), message_mode=False):
    """A bag of three files with three images each; the information of its metadata.yaml."""
    path.mkdir()
    suffix, files = SUFFIXES[storage], []
    for part, (name, is_packed) in enumerate(zip(names, packed, strict=True)):
        with BagWriter(path / "part", storage) as bag:
            for i in range(3 * part, 3 * part + 3):
                bag.image(TOPIC, STAMPS[i], IMAGES[i])
        tree = yaml.safe_load((path / "part" / "metadata.yaml").read_text())
        (written,) = (path / "part").glob("*" + suffix)
        files.append(name + suffix + (".zstd" if is_packed else ""))
        data = written.read_bytes()
        (path / files[-1]).write_bytes(zstandard.compress(data) if is_packed else data)
        shutil.rmtree(path / "part")
    information = tree["rosbag2_bagfile_information"]
    information["relative_file_paths"] = files
    information["message_count"] = len(IMAGES)
    return information


def write_metadata(path, information):
    (path / "metadata.yaml").write_text(yaml.safe_dump({"rosbag2_bagfile_information": information}))


def numbers(source):
    """Which of `IMAGES` a source gives, in its order; each whole."""
    found = []
    for frame in source:
        found.append(STAMPS.index(frame.stamp_ns))
        assert np.array_equal(frame.image, IMAGES[found[-1]])
    return found


@pytest.mark.parametrize("packed", [(True, True, True), (True, True, False), (False, True, False)])
@pytest.mark.parametrize("storage", SUFFIXES)
def test_compressed_splits_without_metadata_are_all_read_in_order(tmp_path, storage, packed):
    splits(tmp_path / "drive", storage, packed)
    source = open_source(tmp_path / "drive")
    assert numbers(source) == list(range(9))
    assert len(source) == 9
    assert np.array_equal(source.image_at(STAMPS[4]), IMAGES[4])


@pytest.mark.parametrize("storage", SUFFIXES)
def test_a_lone_compressed_file_is_a_bag(tmp_path, storage):
    splits(tmp_path / "drive", storage)
    assert numbers(open_source(tmp_path / "drive" / f"drive_10{SUFFIXES[storage]}.zstd")) == [3, 4, 5]


@pytest.mark.parametrize("storage", SUFFIXES)
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"version": 10},
        {"version": 2, "compression_mode": "file"},
        {"topics_with_message_count": None},
        {"relative_file_paths": ["drive/drive_9.x", "old/drive_10.x", "drive_11.x"]},
    ],
)
def test_metadata_of_any_version_will_do(tmp_path, storage, change):
    information = splits(tmp_path / "drive", storage, packed=(True, True, False))
    if paths := change.get("relative_file_paths"):
        change = {"relative_file_paths": [name.replace(".x", SUFFIXES[storage] + ".zstd") for name in paths]}
    write_metadata(tmp_path / "drive", information | change)
    source = open_source(tmp_path / "drive")
    assert numbers(source) == list(range(9))
    assert source.notes == []


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("storage", SUFFIXES)
@pytest.mark.parametrize("has_metadata", [True, False])
def test_a_split_that_is_gone_is_named(tmp_path, storage, packed, has_metadata):
    information = splits(tmp_path / "drive", storage, (packed,) * 3, ("drive_0", "drive_1", "drive_2"))
    if has_metadata:
        write_metadata(tmp_path / "drive", information)
    (tmp_path / "drive" / information["relative_file_paths"][1]).unlink()
    source = open_source(tmp_path / "drive")
    assert numbers(source) == [0, 1, 2, 6, 7, 8]
    notes = " ".join(source.notes)
    assert "files of this bag are missing, with all their messages: drive_1" in notes
    assert ("announces 9 messages, of which 6 can be read" in notes) == has_metadata


def test_a_split_that_was_recorded_after_metadata_was_written_is_read_and_others_are_not(tmp_path):
    information = splits(tmp_path / "drive", "mcap", names=("drive_0", "drive_1", "other"))
    information["relative_file_paths"] = ["drive_0.mcap.zstd"]
    information["message_count"] = 3
    write_metadata(tmp_path / "drive", information)
    source = open_source(tmp_path / "drive")
    assert numbers(source) == list(range(6))
    assert source.notes == [
        "not in metadata.yaml, but read: drive_1.mcap.zstd",
        "not in metadata.yaml, and not read: other.mcap.zstd",
    ]


def test_renamed_files_are_ordered_by_their_first_message(tmp_path):
    information = splits(tmp_path / "drive", "mcap", names=("noon", "morning", "before"))
    write_metadata(tmp_path / "drive", information | {"relative_file_paths": ["a_0.mcap", "a_1.mcap", "a_2.mcap"]})
    source = open_source(tmp_path / "drive")
    assert numbers(source) == list(range(9))
    assert source.notes == []


def test_a_file_left_both_ways_is_read_once(tmp_path):
    splits(tmp_path / "drive", "mcap")
    packed = tmp_path / "drive" / "drive_10.mcap.zstd"
    packed.with_suffix("").write_bytes(zstandard.decompress(packed.read_bytes()))
    packed.write_bytes(packed.read_bytes()[:100])
    assert numbers(open_source(tmp_path / "drive")) == list(range(9))


@pytest.mark.parametrize("storage", SUFFIXES)
def test_a_compressed_split_that_is_cut_or_damaged_gives_what_is_whole_and_a_note(tmp_path, storage):
    information = splits(tmp_path / "drive", storage)
    write_metadata(tmp_path / "drive", information)
    last = tmp_path / "drive" / information["relative_file_paths"][2]
    data = last.read_bytes()
    for broken in (data[: len(data) // 2], bytes(100), data[:3], b""):
        last.write_bytes(broken)
        source = open_source(tmp_path / "drive")
        found = numbers(source)
        assert found[:6] == list(range(6))
        assert any("of which" in note for note in source.notes) == (len(found) < 9)
        assert any(last.stem in note for note in source.notes)


@pytest.mark.parametrize("storage", SUFFIXES)
@pytest.mark.parametrize("has_metadata", [True, False])
def test_messages_that_are_compressed_one_by_one(tmp_path, storage, has_metadata):
    from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

    from vpr_ros.bags.base import typestore

    types = typestore().types
    writer = Writer(tmp_path / "drive", version=9, storage_plugin=StoragePlugin[storage.upper()])
    try:
        writer.set_compression(CompressionMode.MESSAGE, CompressionFormat.ZSTD)
        writer.open()
    except Exception as error:
        pytest.skip(f"rosbags does not write it: {error}")
    topic = writer.add_connection(TOPIC, "sensor_msgs/msg/Image", typestore=typestore())
    for stamp_ns, image in zip(STAMPS, IMAGES, strict=True):
        header = types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](*divmod(stamp_ns, 10**9)), "camera")
        message = types["sensor_msgs/msg/Image"](header, 12, 16, "rgb8", 0, 48, image.reshape(-1))
        writer.write(topic, stamp_ns, typestore().serialize_cdr(message, "sensor_msgs/msg/Image"))
    writer.close()
    if not has_metadata:
        (tmp_path / "drive" / "metadata.yaml").unlink()
    assert numbers(open_source(tmp_path / "drive")) == list(range(9))


def test_hidden_files_and_pipes_are_no_bags(tmp_path):
    import os

    splits(tmp_path / "drive", "mcap")
    (tmp_path / "drive" / "._drive_9.mcap").write_bytes(b"\0\5\x16\7")
    os.mkfifo(tmp_path / "drive" / "drive_12.mcap")
    os.mkfifo(tmp_path / "drive" / "metadata.yaml")
    assert numbers(open_source(tmp_path / "drive")) == list(range(9))
    os.mkfifo(tmp_path / "pipe.mcap")
    with pytest.raises(SourceError, match="neither a file nor a folder"):
        open_source(tmp_path / "pipe.mcap")


def test_an_unpacked_message_has_a_limit(monkeypatch):
    bomb = zstandard.compress(bytes(1 << 20))
    assert compressed.message_data(bomb) == bytes(1 << 20)
    monkeypatch.setattr(compressed, "MAX_UNPACKED_BYTES", 1000)
    assert compressed.message_data(bomb) == bomb, "not unpacked"
    streamed = zstandard.ZstdCompressor().compressobj()
    without_size = streamed.compress(bytes(1 << 20)) + streamed.flush()
    assert zstandard.frame_content_size(without_size) == -1
    assert compressed.message_data(without_size) == without_size


@pytest.mark.parametrize("announced", [1 << 40, 5000])
def test_a_chunk_that_is_larger_than_it_may_be_is_left_out_and_counted(tmp_path, monkeypatch, announced):
    splits(tmp_path / "drive", "mcap", packed=(False,) * 3)
    file = tmp_path / "drive" / "drive_10.mcap"
    data = bytearray(file.read_bytes())
    header = 8 + 9 + struct.unpack_from("<Q", data, 9)[0]
    assert data[header] == 6, "a chunk follows"
    (name_size,) = struct.unpack_from("<I", data, header + 9 + 28)
    name_end = header + 9 + 32 + name_size
    (size,) = struct.unpack_from("<Q", data, name_end)
    bomb = zstandard.compress(bytes(1 << 22))
    chunk = bytes(data[header + 9 : header + 9 + 16]) + struct.pack("<QII", announced, 0, 4) + b"zstd"
    chunk += struct.pack("<Q", len(bomb)) + bomb
    record = struct.pack("<BQ", 6, len(chunk)) + chunk
    file.write_bytes(data[:header] + record + data[name_end + 8 + size :])
    monkeypatch.setattr(compressed, "MAX_UNPACKED_BYTES", 1 << 20)
    source = open_source(tmp_path / "drive")
    assert numbers(source) == [0, 1, 2, 6, 7, 8]
    assert any("drive_10.mcap" in note for note in source.notes)


def test_a_file_that_would_fill_the_disk_is_refused(tmp_path, monkeypatch):
    splits(tmp_path / "drive", "mcap")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(compressed.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(SourceError, match=r"does not fit .* zstd -d"):
        open_source(tmp_path / "drive")


@pytest.mark.parametrize(
    ("schema", "encoding", "advice"),
    [
        (("sensor_msgs/Image", "ros1msg"), "ros1", r"ROS 1: .*rosbags-convert --src"),
        (("foxglove.CompressedImage", "jsonschema"), "json", r"/cam is json: record it in ROS 2"),
        (("foxglove.CompressedImage", "protobuf"), "protobuf", r"/cam is protobuf: record it in ROS 2"),
        (("foxglove_msgs/msg/CompressedVideo", "ros2msg"), "cdr", r"republish .* in_transport:=foxglove"),
        (("ffmpeg_image_transport_msgs/msg/FFMPEGPacket", "ros2msg"), "cdr", r"republish .* in_transport:=ffmpeg"),
        (("theora_image_transport/msg/Packet", "ros2idl"), "cdr", r"republish .* in_transport:=theora"),
        (None, "cdr", r"no schema for /cam"),
    ],
)
@pytest.mark.parametrize("profile", ["ros2", "", "ros1"])
def test_messages_that_are_no_images_of_ros_2_are_named_with_what_to_do(tmp_path, profile, schema, encoding, advice):
    write_mcap(tmp_path / "a.mcap", profile, schema, encoding, [b"\0\1\0\0" + bytes(60)] * 3)
    for options in ({}, {"image_topic": "/cam"}):
        with pytest.raises(SourceError, match=advice) as error:
            open_source(tmp_path / "a.mcap", **options)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "schema_encoding"), [("sensor_msgs/Image", "ros2msg"), ("sensor_msgs/msg/Image", "ros2idl")]
)
@pytest.mark.parametrize("profile", ["ros2", ""])
def test_a_type_may_be_named_as_in_ros_1_and_a_profile_be_absent(tmp_path, profile, name, schema_encoding):
    from vpr_ros.bags.base import typestore

    types, messages = typestore().types, []
    for stamp_ns, image in zip(STAMPS, IMAGES, strict=True):
        header = types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](*divmod(stamp_ns, 10**9)), "camera")
        message = types["sensor_msgs/msg/Image"](header, 12, 16, "rgb8", 0, 48, image.reshape(-1))
        messages.append(bytes(typestore().serialize_cdr(message, "sensor_msgs/msg/Image")))
    write_mcap(tmp_path / "a.mcap", profile, (name, schema_encoding), "cdr", messages)
    source = open_source(tmp_path / "a.mcap")
    assert numbers(source) == list(range(9))
    assert source.notes == []


def write_mcap(path, profile, schema, encoding, messages):
    from mcap.writer import Writer

    with path.open("wb") as file:
        writer = Writer(file)
        writer.start(profile=profile)
        schema_id = writer.register_schema(*schema, b"") if schema else 0
        channel = writer.register_channel("/cam", encoding, schema_id)
        for stamp_ns, data in zip(STAMPS, messages, strict=False):
            writer.add_message(channel, stamp_ns, data, stamp_ns)
        writer.finish()


def test_the_command_that_converts_ros_1_bags_works_as_it_is_printed(tmp_path):
    import re
    import subprocess
    import sys
    from pathlib import Path

    from rosbags.rosbag1 import Writer
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS1_NOETIC)
    folder = tmp_path / "my drives"
    folder.mkdir()
    with Writer(folder / "first drive.bag") as bag:
        topic = bag.add_connection(TOPIC, "sensor_msgs/msg/Image", typestore=store)
        for i, (stamp_ns, image) in enumerate(zip(STAMPS, IMAGES, strict=True)):
            time = store.types["builtin_interfaces/msg/Time"](*divmod(stamp_ns, 10**9))
            header = store.types["std_msgs/msg/Header"](i, time, "camera")
            message = store.types["sensor_msgs/msg/Image"](header, 12, 16, "rgb8", 0, 48, image.reshape(-1))
            bag.write(topic, stamp_ns, store.serialize_ros1(message, "sensor_msgs/msg/Image"))
    for given in (folder, folder / "first drive.bag"):
        with pytest.raises(SourceError, match="ROS 1 bag; convert it: ") as error:
            open_source(given)
    command = re.sub(
        "^rosbags-convert",
        f"'{Path(sys.executable).parent}/rosbags-convert'",
        str(error.value).split("convert it: ")[1],
    )
    subprocess.run(command, shell=True, check=True, cwd="/")
    assert numbers(open_source(folder / "first drive")) == list(range(9))
