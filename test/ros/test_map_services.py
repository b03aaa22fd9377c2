"""Names of maps; the services of a running node are in test_vpr_node.py and test_recorded_maps.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from vpr_ros.errors import MapError
from vpr_ros.map.place_map import PlaceMap
from vpr_ros.ros.map_services import map_path


@pytest.mark.parametrize("name", ["../town", "/etc/town", "a/b", "", "..", ".hidden"])
def test_a_name_never_leaves_the_maps_directory(name: str) -> None:
    with pytest.raises(MapError, match="no map name"):
        map_path("/maps", name)


@pytest.mark.parametrize(
    "name", ["a\nb", "\x1b[31mred", "\u202egnp", "\x7f", "\ud800", "x" * 201, "\u00e9" * 101, "x" * 100_000]
)
def test_a_name_that_no_terminal_or_file_system_should_get_is_refused(name: str) -> None:
    with pytest.raises(MapError, match="no map name") as caught:
        map_path("/maps", name)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


def test_the_longest_name_can_be_written(tmp_path: Path) -> None:
    path = map_path(str(tmp_path), "x" * 200)
    place_map = PlaceMap.open(path, "m", 8)
    place_map.close()
    assert PlaceMap.load(path, "m").save(path, "m") == 0


def test_the_suffix_is_optional() -> None:
    assert map_path("/maps", "town") == map_path("/maps", "town.vprmap")
