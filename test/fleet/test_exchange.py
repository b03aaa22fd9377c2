from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_fleets import DIM, MAX_BYTES_PER_S, START_S, Network, Robot, a_keyframe, deliver, in_half_precision
from small_worlds import texture

from vpr_ros.fleet.exchange import ANSWER_S, MOST_WAITING, SILENT_S, Exchange
from vpr_ros.fleet.protocol import BATCH_BYTES, MOST_OFFERED, NOTHING, Batch, Offer, Picture, Request, size_bytes
from vpr_ros.map.place_map import PlaceMap
from vpr_ros.types import Camera, Keyframe, KeyframeRef, Thumbnail

NAMES = ["r1", "r2", "r3", "r4"]
EVENTS = st.tuples(
    st.sampled_from(["drive", "drive", "drive", "sync", "kill", "start", "start", "wait", "forget"]),
    st.sampled_from(range(4)),
)


def jpeg(seed: int = 0) -> bytes:
    return cv2.imencode(".jpg", texture(seed, 160, 120)[:, :, 0])[1].tobytes()


def happen(event: str, robot: Robot, network: Network, rng: random.Random) -> list[KeyframeRef]:
    """What was forgotten."""
    if event == "start" and robot.exchange is None:
        robot.start()
    elif event == "kill" and robot.exchange is not None:
        robot.kill()
    elif event == "drive" and robot.exchange is not None:
        robot.drive(rng.randrange(1, 25))
    elif event == "sync":
        robot.map.sync(rng.randrange(1, 20))
    elif event == "forget" and robot.exchange is not None:
        pruned = [ref for ref in robot.map.memory if rng.random() < 0.2]
        robot.map.forget(pruned)
        return pruned
    network.run(rng.uniform(0.0, 6.0))
    return []


@settings(max_examples=25)
@given(
    st.lists(EVENTS, min_size=4, max_size=25),
    st.integers(0, 2**32),
    st.sampled_from([0.0, 0.2, 0.4]),
    st.sampled_from([0.0, 0.5, 3.0]),
    st.sampled_from([20e3, MAX_BYTES_PER_S]),
)
def test_in_the_end_all_maps_are_the_union(
    events: list[tuple[str, int]], seed: int, loss: float, delay_s: float, max_bytes_per_s: float
) -> None:
    """Of what is durable, after any order of drives, losses of power, late starts and prunings, over any bad network."""
    rng = random.Random(seed)
    robots = [Robot(name, max_bytes_per_s=max_bytes_per_s) for name in NAMES]
    network = Network(robots, rng, loss, delay_s)
    for robot in robots[:3]:
        robot.start()
        robot.drive(10)
        robot.map.sync()
    forgotten: set[KeyframeRef] = set()
    for event, i in events:
        forgotten.update(happen(event, robots[i], network, rng))
    for robot in robots:
        if robot.exchange is None:
            robot.start()
        robot.map.sync()

    def is_union() -> bool:
        for robot in robots:
            robot.map.sync()
        union = set().union(*(robot.map.memory for robot in robots))
        return all(union - forgotten <= set(robot.map.memory) for robot in robots)

    assert network.run(2400.0, is_union), [Counter(ref.robot for ref in robot.map.memory) for robot in robots]
    for robot in robots:
        for ref, keyframe in list(robot.map.memory.items())[::5]:
            made = a_keyframe(ref.robot, ref.session, ref.id)
            assert float(made.descriptor @ keyframe.descriptor) > 1 - 1e-5
            assert (keyframe.camera, keyframe.elapsed_ns) == (made.camera, made.elapsed_ns)
            np.testing.assert_equal(keyframe.body_from_camera, made.body_from_camera)
        assert set(robot.map.links) <= set().union(*(other.map.links for other in robots if other.exchange))
    assert_bounded(network, max_bytes_per_s)


def assert_bounded(network: Network, max_bytes_per_s: float) -> None:
    """No batch is too large, and no robot sends faster than it may; `Network` itself looks after the requests."""
    bytes_of: Counter[str] = Counter()
    for _, message in network.sent:
        if isinstance(message, Batch):
            assert size_bytes(message) <= BATCH_BYTES
            bytes_of[message.sender] += size_bytes(message)
        elif isinstance(message, Offer):
            assert len(message.cursors) <= MOST_OFFERED
    starts = max(robot.starts for robot in network.robots)
    passed_s = network.now_s - START_S
    assert all(total <= max_bytes_per_s * passed_s + (1 + starts) * BATCH_BYTES for total in bytes_of.values())


def settled(network: Network) -> None:
    def is_equal() -> bool:
        for robot in network.robots:
            robot.map.sync()
        running = [set(robot.map.memory) for robot in network.robots if robot.exchange is not None]
        return all(one == running[0] for one in running)

    assert network.run(600.0, is_equal)


def test_a_late_joiner_gets_what_a_robot_made_that_is_gone() -> None:
    robots = [Robot(name) for name in NAMES[:3]]
    network = Network(robots, random.Random(0), loss=0.2, delay_s=1.0)
    robots[0].start()
    robots[1].start()
    robots[0].drive(100)
    robots[0].map.sync()
    settled(network)
    robots[0].kill()
    robots[2].start()
    network.run(2.0)
    settled(network)
    assert len(robots[2].map.memory) == 100
    senders = {message.sender for _, message in network.sent if isinstance(message, Batch)}
    assert senders == {"r1", "r2"}


@pytest.mark.parametrize("seed", range(5))
def test_what_shows_one_place_is_linked_in_all_maps_in_whatever_order_it_comes(seed: int) -> None:
    robots = [Robot(name) for name in NAMES]
    network = Network(robots, random.Random(seed), loss=0.3, delay_s=2.0)
    for robot in robots:
        robot.start()
    for _ in range(6):
        for robot in robots:
            robot.drive(7)
            robot.map.sync()
            network.run(0.6)
    settled(network)
    made = {link for robot in robots for link in robot.map.links}
    assert len(made) > 20
    for robot in robots:
        assert set(robot.map.links) == made


def test_only_what_is_durable_is_offered_and_given() -> None:
    robot = Robot("r1")
    robot.start()
    assert robot.exchange is not None
    robot.drive(10)
    robot.map.sync(4)
    assert first(Offer, robot.exchange.tick(1.0)).cursors == ((("r1", robot.session), 9),)
    robot.exchange.on_request(Request("r2", "r1", ("r1", robot.session)), 2.0)
    batch = first(Batch, robot.exchange.tick(2.0))
    assert ([k.ref.id for k in batch.keyframes], batch.up_to) == ([0, 3, 6, 9], 9)


def first(kind: type, messages: list) -> object:
    return next(message for message in messages if isinstance(message, kind))


def test_several_that_lack_the_same_get_one_batch() -> None:
    robots = [Robot(name) for name in NAMES]
    network = Network(robots, random.Random(0))
    for robot in robots:
        robot.start()
    robots[0].drive(5)
    robots[0].map.sync()
    settled(network)
    batches = [message for _, message in network.sent if isinstance(message, Batch)]
    assert [(batch.sender, batch.after) for batch in batches] == [("r1", NOTHING)]
    assert len([message for _, message in network.sent if isinstance(message, Request)]) == 3


def test_a_holder_that_never_answers_is_asked_ever_more_rarely_and_another_instead() -> None:
    exchange, _ = one_exchange("r1")
    asked: dict[str, list[float]] = {"r2": [], "r3": []}
    now_s = 0.0
    while now_s < 300.0:
        exchange.on_offer(Offer("r2", "model", ((("r2", "s"), 9),)), now_s)
        if now_s > 100.0:
            exchange.on_offer(Offer("r3", "model", ((("r2", "s"), 9),)), now_s)
        for message in exchange.tick(now_s):
            if isinstance(message, Request):
                asked[message.receiver].append(now_s)
        now_s += 0.5
    gaps = np.diff([time_s for time_s in asked["r2"] if time_s < 100.0])
    assert gaps[0] == pytest.approx(2 * ANSWER_S, abs=0.5)
    assert (np.diff(gaps) > 0).all()
    assert asked["r3"][0] < 105.0


def one_exchange(name: str = "r1", **options: object) -> tuple[Exchange, Robot]:
    robot = Robot(name)
    robot.start()
    robot.exchange = Exchange(name, "model", DIM, robot.map, **options)
    return robot.exchange, robot


def a_batch(**changes: object) -> Batch:
    keyframes = tuple(a_keyframe("r2", "s", id) for id in (2, 5, 6))
    return replace(Batch("r2", "model", ("r2", "s"), NOTHING, 7, keyframes), **changes)


def changed(position: int, **changes: object) -> tuple[Keyframe, ...]:
    keyframes = list(a_batch().keyframes)
    keyframes[position] = replace(keyframes[position], **changes)
    return tuple(keyframes)


def descriptor(value: float, dim: int = DIM) -> np.ndarray:
    return np.full(dim, value, np.float32)


BAD_REF = KeyframeRef("r2", "s", 5, 10**30)
BAD_POSE = np.full((4, 4), np.nan)
BAD = {
    "NaN": {"keyframes": changed(1, descriptor=descriptor(np.nan))},
    "zero": {"keyframes": changed(1, descriptor=descriptor(0.0))},
    "too long": {"keyframes": changed(1, descriptor=descriptor(1.002 / math.sqrt(DIM)))},
    "another dimension": {"keyframes": changed(0, descriptor=descriptor(0.5, 4))},
    "another session": {"keyframes": changed(2, ref=KeyframeRef("r2", "t", 6))},
    "a name twice": {"keyframes": changed(2, ref=KeyframeRef("r2", "s", 5))},
    "out of order": {"keyframes": tuple(reversed(a_batch().keyframes))},
    "beyond up_to": {"up_to": 5},
    "not after after": {"after": 2},
    "up to nothing": {"up_to": NOTHING, "keyframes": ()},
    "no number": {"up_to": 2**63, "keyframes": ()},
    "backwards": {"after": 9},
    "no robot": {"session": ("", "s"), "keyframes": ()},
    "no session": {"session": ("r2", ""), "keyframes": ()},
    "no sender": {"sender": ""},
    "a stamp that ROS has not": {"keyframes": changed(1, ref=BAD_REF)},
    "no pose": {"keyframes": changed(1, odom_from_body=BAD_POSE)},
    "no extrinsics": {"keyframes": changed(1, body_from_camera=2.0 * np.eye(4))},
    "no path": {"keyframes": changed(1, travelled_m=math.inf)},
    "no focal length": {"keyframes": changed(1, camera=Camera(0.0, 1.0, 0.0, 0.0, 10, 10))},
    "no image": {"keyframes": changed(1, camera=Camera(1.0, 1.0, 0.0, 0.0, 0, 10))},
    "a link of a keyframe that it has not": {"links": ((KeyframeRef("r2", "s", 3), KeyframeRef("r3", "t", 1)),)},
    "a link with itself": {"links": ((KeyframeRef("r2", "s", 5), KeyframeRef("r2", "s", 5)),)},
    "a link with nobody's": {"links": ((KeyframeRef("r2", "s", 5), KeyframeRef("", "t", 1)),)},
    "a distortion of NaN": {"keyframes": changed(1, camera=Camera(1.0, 1.0, 0.0, 0.0, 9, 9, (math.nan,)))},
}


@pytest.mark.parametrize("changes", BAD.values(), ids=BAD)
def test_a_batch_that_cannot_be_changes_nothing(changes: dict[str, object]) -> None:
    exchange, robot = one_exchange()
    with pytest.raises(ValueError, match=r"\w"):
        exchange.on_batch(a_batch(**changes), 0.0)
    assert not robot.map.memory
    assert exchange.state(0.0).peers == ()
    exchange.on_batch(a_batch(), 1.0)
    assert len(robot.map.memory) == 3


@pytest.mark.parametrize(
    "changes",
    [{"after": 0}, {"model_id": "another"}, {"sender": "r1"}, {"session": ("r1", "s"), "keyframes": ()}],
    ids=["a gap before it", "another model", "an echo", "of our own"],
)
def test_a_batch_that_is_not_for_us_changes_nothing(changes: dict[str, object]) -> None:
    exchange, robot = one_exchange()
    exchange.on_batch(a_batch(**changes), 0.0)
    assert not robot.map.memory


def test_batches_again_and_overlapping_add_what_is_new() -> None:
    exchange, robot = one_exchange()
    exchange.on_batch(a_batch(), 0.0)
    exchange.on_batch(a_batch(), 0.0)
    more = tuple(a_keyframe("r2", "s", id) for id in (5, 6, 8))
    exchange.on_batch(a_batch(after=4, up_to=9, keyframes=more, sender="r3"), 0.0)
    assert [ref.id for ref in robot.map.memory] == [2, 5, 6, 8]
    exchange.on_batch(a_batch(after=4, up_to=6, keyframes=more[:2]), 0.0)
    offers = {name: id for name, id in first(Offer, exchange.tick(1.0)).cursors}
    assert offers == {("r2", "s"): 9}


def test_another_model_is_said_and_never_asked() -> None:
    exchange, _ = one_exchange()
    exchange.on_offer(Offer("r2", "another", ((("r2", "s"), 9),)), 0.0)
    assert not [message for message in exchange.tick(0.0) if isinstance(message, Request)]
    (fault,) = exchange.state(1.0).faults
    assert "r2" in fault
    assert "another model" in fault
    assert exchange.state(1.0).peers[0].is_strange
    exchange.on_offer(Offer("r2", "model", ((("r2", "s"), 9),)), 2.0)  # it was started again
    assert exchange.state(2.0).faults == ()
    assert first(Request, exchange.tick(2.0)) == Request("r1", "r2", ("r2", "s"))


def test_two_robots_of_one_name_exchange_nothing_while_both_run() -> None:
    robots = [Robot("r1"), Robot("r2"), Robot("r1")]
    network = Network(robots, random.Random(0))
    for robot in robots:
        robot.start()
    robots[2].session = "another name"  # each start has a session of its own
    network.run(3.0)
    assert robots[0].exchange is not None
    assert robots[0].exchange.state(network.now_s).faults == ()  # nothing tells them apart from their own echo yet
    robots[0].drive(3)
    robots[1].drive(3)
    robots[2].drive(3)
    for robot in robots:
        robot.map.sync()
    network.run(30.0)
    for robot in (robots[0], robots[2]):
        assert robot.exchange is not None
        assert "is called 'r1', too" in robot.exchange.state(network.now_s).faults[0]
    assert robots[1].exchange is not None
    assert robots[1].exchange.state(network.now_s).faults == ()
    robots[2].kill()
    network.run(SILENT_S + 60.0)
    assert robots[0].exchange.state(network.now_s).faults == ()
    assert len(robots[0].map.memory) == 6


def test_no_keyframes_are_requested_while_the_disk_is_behind() -> None:
    exchange, robot = one_exchange()
    exchange.on_offer(Offer("r2", "model", ((("r2", "s"), 9),)), 0.0)
    robot.drive(MOST_WAITING)
    assert not [message for message in exchange.tick(0.0) if isinstance(message, Request)]
    robot.map.sync()
    assert first(Request, exchange.tick(0.0)) == Request("r1", "r2", ("r2", "s"))


def test_a_map_that_may_not_grow_gives_and_takes_nothing() -> None:
    exchange, robot = one_exchange(takes=False)
    robot.map.add(a_keyframe("r1", "old", 3))
    robot.map.add(a_keyframe("r5", "old", 4))
    robot.map.sync()
    exchange.restart()
    assert dict(first(Offer, exchange.tick(0.0)).cursors) == {("r1", "old"): 3, ("r5", "old"): 4}
    exchange.on_offer(Offer("r2", "model", ((("r2", "s"), 9),)), 2.0)
    exchange.on_batch(a_batch(), 2.0)
    exchange.want([KeyframeRef("r5", "old", 4)], 2.0)
    exchange.on_offer(Offer("r5", "model", ((("r5", "old"), 9),)), 2.0)
    assert not [message for message in exchange.tick(2.0) if isinstance(message, Request)]
    assert len(robot.map.memory) == 2


def test_more_sessions_than_fit_an_offer_take_turns_and_those_that_grew_come_first() -> None:
    exchange, robot = one_exchange()
    for i in range(200):
        robot.map.add(a_keyframe("r1", f"s{i}", 1, DIM))
    robot.map.sync()
    seen: Counter[str] = Counter()
    for i in range(20):
        robot.map.add(a_keyframe("r1", "s150", 2 + i))
        robot.map.sync()
        cursors = dict(first(Offer, exchange.tick(float(i))).cursors)
        if i > 4:
            assert cursors["r1", "s150"] == 2 + i
        seen.update(name for _, name in cursors)
    assert len(seen) == 200


# --- pictures -----------------------------------------------------------------------------------------------------------


def with_pictures(count: int) -> list[Robot]:
    robots = [Robot(name) for name in NAMES[:3]]
    for robot in robots:
        robot.start()
    for id in range(count):
        robots[0].map.add(a_keyframe("r1", robots[0].session, id, thumbnail=Thumbnail(jpeg(id), 0.5)))
    robots[0].map.sync()
    return robots


@pytest.mark.parametrize("loss", [0.0, 0.3])
def test_pictures_come_on_demand_for_all_who_lack_them(loss: float) -> None:
    robots = with_pictures(30)
    network = Network(robots, random.Random(1), loss=loss)
    settled(network)
    wanted = [KeyframeRef("r1", robots[0].session, id) for id in (3, 4, 17)]
    assert robots[1].exchange is not None

    def has_all() -> bool:
        robots[1].exchange.want([ref for ref in wanted if robots[1].map[ref].thumbnail is None], network.now_s)
        return all(robots[1].map[ref].thumbnail == robots[0].map[ref].thumbnail for ref in wanted)

    assert network.run(300.0, has_all)
    assert sum(keyframe.thumbnail is not None for keyframe in robots[1].map.memory.values()) == 3
    if loss == 0.0:
        assert len([message for _, message in network.sent if isinstance(message, Picture)]) == 3
        assert all(robots[2].map[ref].thumbnail == robots[0].map[ref].thumbnail for ref in wanted)


def test_who_has_no_picture_either_says_so_and_another_is_asked() -> None:
    robots = with_pictures(3)
    network = Network(robots, random.Random(1))
    settled(network)
    ref = KeyframeRef("r1", robots[0].session, 1)
    robots[0].kill()
    network.run(SILENT_S + 1.0)
    robots[2].exchange.want([ref], network.now_s)
    network.run(10.0)
    assert [m.thumbnail for _, m in network.sent if isinstance(m, Picture)] == [None]
    robots[0].start()
    robots[2].exchange.want([ref], network.now_s)
    network.run(10.0)
    assert robots[2].map[ref].thumbnail == robots[0].map[ref].thumbnail


@pytest.mark.parametrize(
    "thumbnail",
    [
        Thumbnail(b"no jpeg", 0.5),
        Thumbnail(jpeg()[:600], 0.5),
        Thumbnail(jpeg() + bytes(2**18), 0.5),
        Thumbnail(jpeg(), 0.0),
        Thumbnail(jpeg(), math.nan),
        Thumbnail(jpeg(), 1e-9),
        Thumbnail(jpeg(), 2.0),
    ],
    ids=["text", "cut", "too large", "of no size", "NaN", "of too large an image", "enlarged"],
)
def test_a_picture_that_cannot_be_changes_nothing(thumbnail: Thumbnail) -> None:
    exchange, robot = one_exchange()
    exchange.on_batch(a_batch(), 0.0)
    with pytest.raises(ValueError, match="picture"):
        exchange.on_picture(Picture("r2", KeyframeRef("r2", "s", 5), thumbnail), 0.0)
    assert robot.map[KeyframeRef("r2", "s", 5)].thumbnail is None
    exchange.on_picture(Picture("r2", KeyframeRef("r2", "s", 5), Thumbnail(jpeg(), 0.5)), 0.0)
    exchange.on_picture(Picture("r2", KeyframeRef("r2", "s", 5), Thumbnail(jpeg(1), 0.5)), 0.0)
    exchange.on_picture(Picture("r2", KeyframeRef("r2", "s", 77), Thumbnail(jpeg(), 0.5)), 0.0)
    assert robot.map[KeyframeRef("r2", "s", 5)].thumbnail == Thumbnail(jpeg(), 0.5)


def test_pictures_and_keyframes_together_keep_to_the_bandwidth() -> None:
    robots = with_pictures(200)
    for robot in robots:
        robot.max_bytes_per_s = 20e3
        robot.start()
    network = Network(robots, random.Random(1))
    for _ in range(60):
        robots[1].exchange.want(list(robots[1].map.memory)[-16:], network.now_s)
        network.run(1.0)
    total = sum(size_bytes(message) for _, message in network.sent if isinstance(message, Batch | Picture))
    assert 0.8 * 60 * 20e3 <= total <= 60 * 20e3 * 2 + 3 * BATCH_BYTES  # r2 passes on what it has, within its own
    assert robots[0].exchange.state(network.now_s).sent_bytes <= 60 * 20e3 + 2 * BATCH_BYTES


# --- place maps ---------------------------------------------------------------------------------------------------------


def test_two_map_files_after_an_exchange(tmp_path: Path) -> None:
    """Opened again, each goes on where it was, without a request for what it has."""
    dim = 64
    with PlaceMap.open(tmp_path / "one", "model", dim) as one, PlaceMap.open(tmp_path / "two", "model", dim) as two:
        exchanges = [Exchange("r1", "model", dim, one), Exchange("r2", "model", dim, two)]
        for id in range(100):
            one.add(a_keyframe("r1", "s", id, dim, Thumbnail(jpeg(), 0.5)))
        two.add(a_keyframe("r2", "s", 0, dim))
        one.flush()
        two.flush()
        for i in range(40):
            talk(exchanges, float(i))
        assert (len(one), len(two)) == (101, 101)
        exchanges[1].want([KeyframeRef("r1", "s", 7)], 40.0)
        talk(exchanges, 40.0)
        talk(exchanges, 41.0)
        assert two[KeyframeRef("r1", "s", 7)].thumbnail == Thumbnail(jpeg(), 0.5)
        assert two.faults(is_verified=True, of_robot="r2") == ["1 of the map's 101 keyframes have no picture to verify with (recorded while "
                "verification.enabled was false) and can never match: record the map again, or set verification.enabled to false"]  # fmt: skip
        found = two.search(a_keyframe("r1", "s", 42, dim).descriptor, 1)
        assert found[0].keyframe == KeyframeRef("r1", "s", 42)
        assert found[0].keyframe.camera_name == "front"
    with PlaceMap.open(tmp_path / "one", "model", dim) as one, PlaceMap.open(tmp_path / "two", "model", dim) as two:
        assert two[KeyframeRef("r1", "s", 7)].thumbnail == Thumbnail(jpeg(), 0.5)
        exchanges = [Exchange("r1", "model", dim, one), Exchange("r2", "model", dim, two)]
        assert not any(isinstance(message, Request | Batch) for i in range(5) for message in talk(exchanges, float(i)))


def talk(exchanges: list[Exchange], now_s: float) -> list[object]:
    messages = [message for exchange in exchanges for message in exchange.tick(now_s)]
    for message in messages:
        for exchange in exchanges:
            deliver(exchange, message, now_s)
    return messages


def test_half_precision_costs_less_than_a_few_millionths_of_a_cosine() -> None:
    made = [a_keyframe("r1", "s", id, 512) for id in range(200)]
    arrived = in_half_precision(Batch("r1", "model", ("r1", "s"), NOTHING, 200, tuple(made))).keyframes
    one = np.array([keyframe.descriptor for keyframe in made], np.float64)
    other = np.array([keyframe.descriptor for keyframe in arrived], np.float64)
    assert np.abs(one @ one.T - other @ one.T).max() < 1e-4
    assert (1 - np.sum(one * other, axis=1)).max() < 1e-6
