"""Robots whose maps are lists, and a network between them that loses, repeats, delays and reorders."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import count

import numpy as np

from vpr_ros.fleet.codes import from_half, to_half
from vpr_ros.fleet.exchange import ANSWER_S, Exchange
from vpr_ros.fleet.protocol import Batch, Message, Offer, Picture, Request
from vpr_ros.types import Camera, Keyframe, KeyframeRef, Thumbnail

DIM = 1000
"""Fifteen keyframes of it fill a batch."""
TICK_S = 0.2
START_S = 1000.0
MAX_BYTES_PER_S = 250e3
CAMERA = Camera(300.0, 300.0, 160.0, 120.0, 320, 240, (0.1, -0.2, 0.0, 0.0))


class ListedMap:
    """What `Exchange` needs of a map; `sync` is what the disk does in its own time, `crash` what a loss of power does."""

    def __init__(self) -> None:
        self.memory: dict[KeyframeRef, Keyframe] = {}
        self.disk: dict[KeyframeRef, Keyframe] = {}
        self.links: dict[tuple[KeyframeRef, KeyframeRef], None] = {}
        """(match, keyframe)."""

    @property
    def durable_ids(self) -> dict[tuple[str, str], int]:
        found: dict[tuple[str, str], int] = {}
        for ref in self.disk:
            found[ref.robot, ref.session] = max(ref.id, found.get((ref.robot, ref.session), -1))
        return found

    @property
    def waiting(self) -> int:
        return len(self.memory) - len(self.disk)

    def names_after(self, robot: str, session: str, after: int, up_to: int, limit: int) -> list[KeyframeRef]:
        names = [r for r in self.memory if (r.robot, r.session) == (robot, session) and after < r.id <= up_to]
        return sorted(names, key=lambda ref: ref.id)[:limit]

    def without_picture(self, ref: KeyframeRef) -> Keyframe:
        return replace(self.memory[ref], thumbnail=None)

    def matches_of(self, refs: Iterable[KeyframeRef]) -> list[tuple[KeyframeRef, KeyframeRef]]:
        wanted = set(refs)
        return [(keyframe, match) for match, keyframe in self.links if keyframe in wanted]

    def link(self, match: KeyframeRef, keyframe: KeyframeRef) -> None:
        assert match in self.memory
        assert keyframe in self.memory
        assert (match, keyframe) not in self.links, "a duplicate"
        self.links[match, keyframe] = None

    def count_of(self, robot: str) -> int:
        return sum(ref.robot == robot for ref in self.memory)

    def __contains__(self, ref: KeyframeRef) -> bool:
        return ref in self.memory

    def __getitem__(self, ref: KeyframeRef) -> Keyframe:
        return self.memory[ref]

    def add(self, keyframe: Keyframe) -> None:
        assert keyframe.ref not in self.memory, "a duplicate"
        self.memory[keyframe.ref] = keyframe

    def add_thumbnail(self, ref: KeyframeRef, thumbnail: Thumbnail) -> None:
        keyframe = self.memory[ref]
        assert keyframe.thumbnail is None
        self.memory[ref] = replace(keyframe, thumbnail=thumbnail)
        if ref in self.disk:
            self.disk[ref] = self.memory[ref]

    def sync(self, most: int = 10**9) -> None:
        for ref in [ref for ref in self.memory if ref not in self.disk][:most]:
            self.disk[ref] = self.memory[ref]

    def crash(self) -> None:
        self.memory = dict(self.disk)
        self._drop_links()

    def _drop_links(self) -> None:
        self.links = {link: None for link in self.links if all(ref in self.memory for ref in link)}

    def forget(self, refs: Iterable[KeyframeRef]) -> None:
        for ref in refs:
            self.memory.pop(ref, None)
            self.disk.pop(ref, None)
        self._drop_links()


def a_keyframe(robot: str, session: str, id: int, dim: int = DIM, thumbnail: Thumbnail | None = None) -> Keyframe:
    """Its descriptor tells its name from all others."""
    descriptor = np.random.default_rng([id, *f"{robot}/{session}".encode()]).normal(size=dim).astype(np.float32)
    pose = np.eye(4)
    pose[0, 3] = id
    return Keyframe(
        KeyframeRef(robot, session, id, 10**9 * (id + 1), "front", "lens"),
        descriptor / np.linalg.norm(descriptor),
        thumbnail=thumbnail,
        camera=CAMERA if id % 3 else None,
        body_from_camera=pose if id % 2 else None,
        odom_from_body=pose,
        travelled_m=0.5 * id,
        elapsed_ns=10**8 * id,
        odometry_segment=1,
    )


class Robot:
    """On and off; what is on its disk stays."""

    def __init__(self, name: str, model_id: str = "model", max_bytes_per_s: float = MAX_BYTES_PER_S) -> None:
        self.name, self.model_id, self.max_bytes_per_s = name, model_id, max_bytes_per_s
        self.map = ListedMap()
        self.exchange: Exchange | None = None
        self.starts = 0
        self._ids = count()

    def start(self) -> None:
        self.map.crash()
        self.starts += 1
        self.session = f"{self.name} started {self.starts}"
        self.exchange = Exchange(self.name, self.model_id, DIM, self.map, max_bytes_per_s=self.max_bytes_per_s)

    def kill(self) -> None:
        self.exchange = None
        self.map.crash()

    def drive(self, keyframes: int) -> None:
        """Every fourth keyframe is matched with some other robot's, if there is any."""
        others = [ref for ref in self.map.memory if ref.robot != self.name]
        for _ in range(keyframes):
            id = 3 * next(self._ids)
            made = a_keyframe(self.name, self.session, id)
            self.map.add(made)
            if id % 4 == 0 and others:
                self.map.link(others[id % len(others)], made.ref)


class Network:
    """Everybody hears everything, himself included, but for what is lost."""

    def __init__(self, robots: list[Robot], rng: random.Random, loss: float = 0.0, delay_s: float = 0.0) -> None:
        self.robots, self.loss, self.delay_s = robots, loss, delay_s
        self.now_s = START_S
        self.sent: list[tuple[float, Message]] = []
        self._rng = rng
        self._flying: list[tuple[float, int, Robot, Message]] = []
        self._unanswered: dict[tuple[Exchange, str], float] = {}
        """When each asked each for keyframes, as long as it has heard no batch since."""
        self._number = count()

    def send(self, message: Message) -> None:
        self.sent.append((self.now_s, message))
        for robot in self.robots:
            for _ in range(2 if self._rng.random() < self.loss else 1):
                if self._rng.random() >= self.loss:
                    arrives_s = self.now_s + self._rng.uniform(0.0, self.delay_s)
                    heapq.heappush(self._flying, (arrives_s, next(self._number), robot, message))

    def run(self, for_s: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Whether `until` came true; looked at once a second."""
        for i in range(round(for_s / TICK_S)):
            if i % 5 == 0 and until():
                return True
            self.step()
        return until()

    def step(self) -> None:
        self.now_s += TICK_S
        while self._flying and self._flying[0][0] <= self.now_s:
            _, _, robot, message = heapq.heappop(self._flying)
            if robot.exchange is not None:
                deliver(robot.exchange, message, self.now_s)
                if isinstance(message, Batch):
                    self._unanswered = {k: v for k, v in self._unanswered.items() if k[0] is not robot.exchange}
        for robot in self.robots:
            if robot.exchange is not None:
                for message in robot.exchange.tick(self.now_s):
                    self._watch(robot.exchange, message)
                    self.send(message)

    def _watch(self, exchange: Exchange, message: Message) -> None:
        """Nobody is asked again before he answered, or his time is over."""
        if isinstance(message, Request) and not message.pictures:
            pair = (exchange, message.receiver)
            assert self.now_s - self._unanswered.get(pair, -math.inf) >= ANSWER_S - TICK_S / 2
            self._unanswered[pair] = self.now_s


def deliver(exchange: Exchange, message: Message, now_s: float) -> None:
    if isinstance(message, Offer):
        exchange.on_offer(message, now_s)
    elif isinstance(message, Request):
        exchange.on_request(message, now_s)
    elif isinstance(message, Picture):
        exchange.on_picture(message, now_s)
    else:
        exchange.on_batch(in_half_precision(message), now_s)


def in_half_precision(batch: Batch) -> Batch:
    """As it comes off the wire."""
    arrived = (replace(keyframe, descriptor=from_half(to_half(keyframe.descriptor))) for keyframe in batch.keyframes)
    return replace(batch, keyframes=tuple(arrived))
