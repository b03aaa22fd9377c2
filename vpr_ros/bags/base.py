"""What a bag holds, and what each of its files can do."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import cache
from typing import NamedTuple, Protocol

from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore


@cache
def typestore() -> Typestore:
    """The standard message types. Those read and written here have not changed since ROS 2 Foxy."""
    return get_typestore(Stores.LATEST)


class Topic(NamedTuple):
    """A topic of a bag: its message type (`sensor_msgs/msg/Image`) and how many messages it has."""

    type: str
    messages: int


class Message(NamedTuple):
    """A message as recorded: `data` is CDR; `bag_ns` is when the recorder received it, not its header's stamp."""

    topic: str
    bag_ns: int
    data: bytes


class BagFile(Protocol):
    """One file of a bag (or all of them, where rosbags reads them as one)."""

    name: str
    topics: dict[str, Topic]

    def messages(self, topics: Collection[str], start_ns: int, stop_ns: int) -> Iterator[Message]: ...

    def close(self) -> None: ...


def one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
