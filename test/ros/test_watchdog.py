"""An inference that never returns: health, services and the end of the process do not wait for it."""

from __future__ import annotations

import signal
import sys
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
PROGRAM = str(Path(__file__).with_name("hanging_node.py"))


def view(place: int) -> np.ndarray:
    return np.ascontiguousarray(texture(place, 320, 240))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_map_is_saved_and_the_process_ends(
    parameters: dict[str, object], grid_model: PlaceModel, tmp_path: Path, number: signal.Signals
) -> None:
    switch, maps = tmp_path / "hang", tmp_path / "maps"
    first = maps / "home.vprmap"
    PlaceMap(grid_model.dim).save(first, grid_model.id)
    command = [sys.executable, PROGRAM, str(switch)]
    with NodeUnderTest(parameters | {"node.map": "home"}, command=command) as node:
        ears = node.ears
        for i in range(3):
            ears.send_and_wait(view(i), (100 + i) * S)
        switch.touch()
        ears.send(view(3), 103 * S)
        wait_until(lambda: "it hangs" in node.text, what=node.text)
        saved = ears.call(SaveMap, "/vpr/save_map", name="beside")
        assert saved.success, saved.message
        assert ears.set_parameter("match.top_k", 5).successful
        assert ears.call(LoadMap, "/vpr/load_map", name="beside").success
        assert ears.call(Trigger, "/vpr/reset").success
        assert ears.call(LoadMap, "/vpr/load_map", name="beside").success
        wait_until(lambda: "inference (onnxruntime) hangs" in ears.status_of("stream"), what=node.text)
        assert ears.diagnostics["vpr: stream"].level == b"\x02"
        assert node.text.count("hangs, and nothing is answered") == 1
        node.process.send_signal(number)
        assert node.process.wait(120) == 1
        assert "ends without waiting" in node.text
    assert len(PlaceMap.load(maps / "beside.vprmap", grid_model.id)) == 3


def test_the_map_of_the_node_is_saved_first(
    parameters: dict[str, object], grid_model: PlaceModel, tmp_path: Path
) -> None:
    switch, path = tmp_path / "hang", tmp_path / "maps" / "home.vprmap"
    PlaceMap(grid_model.dim).save(path, grid_model.id)
    with NodeUnderTest(parameters | {"node.map": "home"}, command=[sys.executable, PROGRAM, str(switch)]) as node:
        for i in range(3):
            node.ears.send_and_wait(view(i), (100 + i) * S)
        switch.touch()
        node.ears.send(view(3), 103 * S)
        wait_until(lambda: "it hangs" in node.text, what=node.text)
        node.process.send_signal(signal.SIGTERM)
        assert node.process.wait(120) == 1
    assert len(PlaceMap.load(path, grid_model.id)) == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_node_that_hangs_while_it_is_configured_ends(
    parameters: dict[str, object], tmp_path: Path, number: signal.Signals
) -> None:
    command = [sys.executable, PROGRAM, str(tmp_path / "none"), "configure"]
    node = NodeUnderTest(parameters, command=command)
    try:
        wait_until(lambda: "it hangs" in node.text, what=node.text)
        node.process.send_signal(number)
        assert node.process.wait(120) == 1
        assert "Traceback" not in node.text
    finally:
        node.__exit__()
