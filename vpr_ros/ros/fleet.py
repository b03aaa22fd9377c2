"""The node's side of the exchange between robots (`vpr_ros.fleet`): topics, a timer, and the map that it shares with the detector."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from vpr_msgs.msg import KeyframeBatch, KeyframeOffer, KeyframePicture, KeyframeRequest

from vpr_ros.errors import MapError
from vpr_ros.fleet.exchange import Exchange, ExchangeState
from vpr_ros.fleet.protocol import Batch, Message, Offer, Picture, Request, SessionName
from vpr_ros.map.place_map import PlaceMap
from vpr_ros.ros.fleet_messages import (
    batch_from_msg,
    batch_msg,
    offer_from_msg,
    offer_msg,
    picture_from_msg,
    picture_msg,
    request_from_msg,
    request_msg,
)
from vpr_ros.ros.node_beside import NodeBeside
from vpr_ros.ros.recogniser import Recogniser
from vpr_ros.types import Keyframe, KeyframeRef, Thumbnail

TICK_S = 0.2
STATE_S = 1.0
REPEAT_LOG_S = 10.0
QOS = QoSProfile(depth=20, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.VOLATILE)
"""Reliable: a batch is some 25 fragments, and one that lacks a fragment is lost. Keeps the last 20, so that a robot out of reach costs
neither memory nor waiting: what it missed it requests. Volatile for the same reason: who joins late requests, too."""


class _Topic(NamedTuple):
    """How one kind of message travels."""

    name: str
    type: type
    to_msg: Callable[[Any], Any]
    from_msg: Callable[[Any], Any]
    take: Callable[[Any, float], None]


class SharedMap:
    """The detector's map, used under the lock that the detector is used under. Raises MapError once the detector has another one."""

    def __init__(self, recogniser: Recogniser) -> None:
        self._recogniser = recogniser
        self._map = recogniser.detector.map

    def follow(self) -> bool:
        """Use the detector's present map from now on; whether that is another one."""
        before, self._map = self._map, self._recogniser.detector.map
        return self._map is not before

    @contextmanager
    def _shared(self) -> Iterator[PlaceMap]:
        with self._recogniser.lock:
            if self._recogniser.detector.map is not self._map:
                raise MapError("the map was left for another one")
            yield self._map

    @property
    def durable_ids(self) -> dict[SessionName, int]:
        return self._map.durable_ids

    @property
    def waiting(self) -> int:
        return self._map.waiting

    def names_after(self, robot: str, session: str, after: int, up_to: int, limit: int) -> Sequence[KeyframeRef]:
        with self._shared() as place_map:
            return place_map.names_after(robot, session, after, up_to, limit)

    def without_picture(self, ref: KeyframeRef) -> Keyframe:
        with self._shared() as place_map:
            return place_map.without_picture(ref)

    def matches_of(self, refs: Iterable[KeyframeRef]) -> Sequence[tuple[KeyframeRef, KeyframeRef]]:
        with self._shared() as place_map:
            return place_map.matches_of(refs)

    def link(self, match: KeyframeRef, keyframe: KeyframeRef) -> None:
        with self._shared():
            self._recogniser.detector.link(match, keyframe)

    def count_of(self, robot: str) -> int:
        with self._shared() as place_map:
            return place_map.count_of(robot)

    def __contains__(self, ref: KeyframeRef) -> bool:
        with self._shared() as place_map:
            return ref in place_map

    def __getitem__(self, ref: KeyframeRef) -> Keyframe:
        with self._shared() as place_map:
            return place_map[ref]

    def add(self, keyframe: Keyframe) -> None:
        with self._shared() as place_map:
            place_map.add(keyframe)

    def add_thumbnail(self, ref: KeyframeRef, thumbnail: Thumbnail) -> None:
        with self._shared() as place_map:
            place_map.add_thumbnail(ref, thumbnail)

    def take_unseen(self) -> list[KeyframeRef]:
        """Keyframes that queries met and that have no picture."""
        with self._shared():
            unseen = self._recogniser.detector.verifier.unseen
            found = list(dict.fromkeys(unseen))
            unseen.clear()
        return found


class Fleet:
    """Exchanges keyframes with other robots from configure to cleanup.

    In a thread of its own: what others send holds up neither images nor services. The lock is held while one keyframe is read or added, never for all of a batch, nor while messages are made.
    """

    def __init__(self, node: Node, recogniser: Recogniser) -> None:
        config = recogniser.config
        self._logger = node.get_logger()
        self._map = SharedMap(recogniser)
        self._exchange = Exchange(
            config.node.robot,
            recogniser.model.id,
            recogniser.model.dim,
            self._map,
            takes=config.map.mode == "mapping",
            max_bytes_per_s=config.fleet.max_kb_per_s * 1e3,
        )
        self._state, self._next_state_s = ExchangeState((), (), 0), 0.0
        self._beside = NodeBeside(node, "fleet")
        self._publishers: dict[type[Message], tuple[Publisher, Callable[[Any], Any]]] = {}
        for kind, topic in {
            Offer: _Topic("offers", KeyframeOffer, offer_msg, offer_from_msg, self._exchange.on_offer),
            Request: _Topic("requests", KeyframeRequest, request_msg, request_from_msg, self._exchange.on_request),
            Batch: _Topic("keyframes", KeyframeBatch, batch_msg, batch_from_msg, self._exchange.on_batch),
            Picture: _Topic("pictures", KeyframePicture, picture_msg, picture_from_msg, self._exchange.on_picture),
        }.items():
            name = f"{config.fleet.namespace}/{topic.name}"
            self._publishers[kind] = self._beside.node.create_publisher(topic.type, name, QOS), topic.to_msg
            self._beside.node.create_subscription(topic.type, name, self._taking(topic), QOS)
        self._beside.node.create_timer(TICK_S, self._tick, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._beside.start()

    def state(self) -> ExchangeState:
        """As of a second ago at most; in any thread."""
        return self._state

    def close(self) -> None:
        """Waits for the message in work."""
        self._beside.close()

    def _taking(self, topic: _Topic) -> Callable[[Any], None]:
        """A callback that ignores what cannot be, with a line now and then."""

        def callback(message: Any) -> None:
            try:
                self._follow_map()
                topic.take(topic.from_msg(message), time.monotonic())
            except Exception as error:  # ValueError, but a disk or memory may be full, too: it is sent again
                self._warn(
                    f"a message of {message.sender!r} on {topic.name} is ignored: {error or type(error).__name__}"
                )

        return callback

    def _tick(self) -> None:
        now_s = time.monotonic()
        try:
            self._follow_map()
            self._exchange.want(self._map.take_unseen(), now_s)
            for message in self._exchange.tick(now_s):
                self._publish(message)
            if now_s >= self._next_state_s:
                self._next_state_s = now_s + STATE_S
                self._look(now_s)
        except Exception as error:  # a map that cannot be read, say: the robot goes on recognising places
            if rclpy.ok(context=self._beside.node.context):
                self._warn(f"nothing is sent to other robots: {error or type(error).__name__}")

    def _look(self, now_s: float) -> None:
        before, self._state = self._state, self._exchange.state(now_s)
        for fault in self._state.faults:
            if fault not in before.faults:
                self._logger.warning(fault)

    def _publish(self, message: Message) -> None:
        publisher, to_msg = self._publishers[type(message)]
        publisher.publish(to_msg(message))

    def _follow_map(self) -> None:
        if self._map.follow():
            self._exchange.restart()

    def _warn(self, text: str) -> None:
        self._logger.warning(text, throttle_duration_sec=REPEAT_LOG_S)
