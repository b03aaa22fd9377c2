"""What a bag holds, and what each of its files can do."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import cache
from typing import NamedTuple, Protocol

from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from vpr_ros.printable import on_one_line


@cache
def typestore() -> Typestore:
    """The standard message types. Those read and written here have not changed since ROS 2 Foxy."""
    return get_typestore(Stores.LATEST)


CDR = "cdr"
_SCHEMALESS = "__schemaless__"
"""What rosbags calls the type of an mcap's channel without one."""


class Topic(NamedTuple):
    """A topic of a bag: its message type (`sensor_msgs/msg/Image`) and how many messages it has."""

    type: str
    messages: int
    encoding: str = CDR
    """Only CDR, ROS 2's serialisation, can be read; an mcap may hold `ros1`, `json` or `protobuf` as well."""

    @classmethod
    def of(cls, name: str | None, messages: int, encoding: str = CDR) -> Topic:
        """`name` is a type as any tool writes it: `sensor_msgs/Image` is `sensor_msgs/msg/Image`; empty where none is known."""
        if name is None or name == _SCHEMALESS:
            name = ""
        package, _, kind = name.partition("/")
        full = f"{package}/msg/{kind}" if kind and "/" not in kind else name
        return cls(full, messages, encoding or CDR)


class Message(NamedTuple):
    """A message as recorded: `data` is CDR; `bag_ns` is when the recorder received it, not its header's stamp."""

    topic: str
    bag_ns: int
    data: bytes


class BagFile(Protocol):
    """One file of a bag (or all of them, where rosbags reads them as one)."""

    name: str
    topics: dict[str, Topic]
    start_ns: int
    """When its first message was received."""

    def messages(self, topics: Collection[str], start_ns: int, stop_ns: int) -> Iterator[Message]: ...

    def close(self) -> None: ...


def one_line(error: Exception) -> str:
    """Without the full stop, for a sentence of ours goes on; of an error without text its type."""
    return on_one_line(error).rstrip(".") or type(error).__name__
