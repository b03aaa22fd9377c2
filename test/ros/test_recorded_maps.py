"""A node with a named map: what is in the file while it drives, and after it ended in whatever way."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest
from harness import NodeUnderTest, wait_until
from small_worlds import texture
from std_srvs.srv import Trigger
from vpr_msgs.srv import LoadMap, SaveMap

from vpr_ros.map.place_map import PlaceMap
from vpr_ros.model import PlaceModel

S = 10**9


def view(place: int) -> np.ndarray:
    return texture(place, 320, 240)


def drive(node: NodeUnderTest, places: range, start_s: int = 100) -> None:
    for i in places:
        node.ears.send_and_wait(view(i), (start_s + i) * S)


def stored(path: Path, model_path: Path) -> PlaceMap:
    model = PlaceModel.open(model_path)
    return PlaceMap.open(path, model.id, model.dim, recording=False)


def test_what_was_published_is_there_after_the_process_was_killed(
    parameters: dict[str, object], tmp_path: Path, grid_model_path: Path
) -> None:
    """And the next drive is another session of the same map."""
    path = tmp_path / "maps" / "town.vprmap"
    with NodeUnderTest(parameters | {"node.map": "town"}) as node:
        drive(node, range(3))
        wait_until(lambda: len(node.ears.keyframes) == 3, what=node.text)
        first = {keyframe.ref.id for keyframe in node.ears.keyframes}
        node.process.send_signal(signal.SIGKILL)
        node.process.wait(timeout=120)
    assert {ref.id for ref in stored(path, grid_model_path).names} == first
    with NodeUnderTest(parameters | {"node.map": "town"}) as node:
        drive(node, range(4), start_s=200)
        assert node.ears.matches[1].accepted
    both = stored(path, grid_model_path)
    assert len(both) == 7
    assert len(both.sessions) == 2
    assert len(both.links) == 3


def test_localization_finds_places_and_changes_nothing(
    parameters: dict[str, object], tmp_path: Path, grid_model_path: Path
) -> None:
    path = tmp_path / "maps" / "town.vprmap"
    with NodeUnderTest(parameters | {"node.map": "town"}) as node:
        drive(node, range(3))
    content = path.read_bytes()
    with NodeUnderTest(parameters | {"node.map": "town", "map.mode": "localization"}) as node:
        drive(node, range(3), start_s=200)
        assert [match.accepted for match in node.ears.matches] == [True] * 3
        assert not node.ears.keyframes
    assert path.read_bytes() == content
    assert "forgotten" not in node.text


def test_two_nodes_never_record_into_one_map(parameters: dict[str, object]) -> None:
    with NodeUnderTest(parameters | {"node.map": "town"}) as node:
        drive(node, range(1))
        with NodeUnderTest(parameters | {"node.map": "town"}) as other:
            assert other.process.wait(timeout=200) == 1
            assert "is in use by another process" in other.text


@pytest.mark.parametrize("service", ["reset", "load_map"])
def test_a_map_that_is_left_keeps_what_it_has(
    parameters: dict[str, object], tmp_path: Path, grid_model_path: Path, service: str
) -> None:
    with NodeUnderTest(parameters) as node:
        drive(node, range(1))
        assert node.ears.call(SaveMap, "/vpr/save_map", name="lobby").success
    with NodeUnderTest(parameters | {"node.map": "town"}) as node:
        drive(node, range(3))
        if service == "reset":
            message = node.ears.call(Trigger, "/vpr/reset").message
            assert "left the map" in message
            assert "keeps its 3 keyframes" in message
        else:
            assert node.ears.call(LoadMap, "/vpr/load_map", name="lobby").success
        drive(node, range(3, 5))
        assert ("2 keyframes of a map in memory are forgotten" in node.text) is False
    assert ("2 keyframes of a map in memory are forgotten" in node.text) == (service == "reset")
    assert len(stored(tmp_path / "maps" / "town.vprmap", grid_model_path)) == 3
    assert len(stored(tmp_path / "maps" / "lobby.vprmap", grid_model_path)) == (1 if service == "reset" else 3)


def test_the_map_that_is_recorded_is_loaded_and_saved_in_place(parameters: dict[str, object], tmp_path: Path) -> None:
    """As another session, and without a copy."""
    with NodeUnderTest(parameters | {"node.map": "town"}) as node:
        drive(node, range(3))
        assert node.ears.call(SaveMap, "/vpr/save_map", name="town").message.startswith("saved 3 keyframes")
        assert node.ears.call(LoadMap, "/vpr/load_map", name="town").message.startswith("loaded 3 keyframes")
        drive(node, range(1, 2), start_s=300)
        assert node.ears.matches[-1].accepted


def test_a_map_is_pruned_while_the_node_drives(
    parameters: dict[str, object], tmp_path: Path, grid_model_path: Path
) -> None:
    limits = {"map.max_keyframes": 20, "match.island_gap": 5, "verification.enabled": False}
    with NodeUnderTest(parameters | {"node.map": "town"} | limits) as node:
        for i in range(30):
            node.ears.send_and_wait(view(i % 3), (100 + i) * S)
        wait_until(lambda: "pruned the map by" in node.text, what=node.text)
        assert node.ears.send_and_wait(view(1), 140 * S).accepted
    assert len(stored(tmp_path / "maps" / "town.vprmap", grid_model_path)) < 30
