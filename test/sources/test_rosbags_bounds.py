"""rosbags unpacks and parses no more than it should: bombs of every kind that a chunk or a topic can hold."""

from __future__ import annotations

from pathlib import Path

import lz4.frame
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from mcap.writer import CompressionType
from mcap.writer import Writer as McapWriter
from rosbags.rosbag2 import metadata, storage_mcap, storage_sqlite3
from rosbags.rosbag2.errors import ReaderError

from vpr_ros.bags.reader import Bag
from vpr_ros.bags.rosbags_bounds import bound, unpacked_lz4, unpacked_zstd

PACK = {"lz4": lz4.frame.compress, "zstd": zstandard.compress}
UNPACK = {"lz4": unpacked_lz4, "zstd": unpacked_zstd}
QOS = "- history: 3\n  depth: 0\n  reliability: 1\n  durability: 2\n  deadline: {sec: 1, nsec: 2}\n  lifespan: {sec: 1, nsec: 2}\n"
QOS += "  liveliness: 1\n  liveliness_lease_duration: {sec: 1, nsec: 2}\n  avoid_ros_namespace_conventions: false\n"


@pytest.mark.parametrize("kind", PACK)
@given(data=st.binary(max_size=3000))
def test_what_is_honest_comes_out_whole(kind: str, data: bytes) -> None:
    assert storage_mcap.decompress(PACK[kind](data), kind, len(data), 0) == data


@pytest.mark.parametrize("kind", PACK)
@pytest.mark.parametrize("frames", [1, 3])
def test_no_more_comes_out_than_was_announced(kind: str, frames: int) -> None:
    bomb = PACK[kind](bytes(1 << 22)) * frames
    assert len(UNPACK[kind](bomb, 1000)) == 1001
    with pytest.raises(ReaderError):
        storage_mcap.decompress(bomb, kind, 1000, 0)


def test_qos_that_is_a_bomb_is_none_and_what_is_honest_is_read() -> None:
    bound()  # again
    merges = "a: &a {x: 1}\n" + "".join(
        f"b{i}: &b{i}\n  <<: [{','.join([f'*b{i - 1}' if i else '*a'] * 20)}]\n" for i in range(8)
    )
    for storage in (storage_mcap, storage_sqlite3):
        assert storage.parse_qos(merges) == []
        assert storage.parse_qos("[" * 5000) == []
        assert storage.parse_qos(QOS) == metadata.parse_qos(QOS) != []
        assert storage.parse_qos("") == []


@pytest.mark.parametrize("compression", [CompressionType.LZ4, CompressionType.ZSTD, CompressionType.NONE])
def test_bags_of_each_compression_are_read(compression: CompressionType, tmp_path: Path) -> None:
    path = tmp_path / "x.mcap"
    with path.open("wb") as file:
        writer = McapWriter(file, compression=compression, chunk_size=500)
        writer.start("ros2")
        schema = writer.register_schema("std_msgs/msg/String", "ros2msg", b"string data")
        channel = writer.register_channel("/said", "cdr", schema, {"offered_qos_profiles": QOS})
        for i in range(100):
            writer.add_message(channel, log_time=i, publish_time=i, data=b"\0\1\0\0\2\0\0\0a\0" + bytes(i))
        writer.finish()
    with Bag(path) as bag:
        assert [message.data[-1] for message in bag.messages(["/said"])] == [0] * 100
        assert bag.notes == []
