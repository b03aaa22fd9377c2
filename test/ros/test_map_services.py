"""Names of maps; the services of a running node are in test_vpr_node.py and test_recorded_maps.py."""

from __future__ import annotations

import pytest

from vpr_ros.errors import MapError
from vpr_ros.ros.map_services import map_path


@pytest.mark.parametrize("name", ["../town", "/etc/town", "a/b", "", "..", ".hidden"])
def test_a_name_never_leaves_the_maps_directory(name: str) -> None:
    with pytest.raises(MapError, match="no map name"):
        map_path("/maps", name)


def test_the_suffix_is_optional() -> None:
    assert map_path("/maps", "town") == map_path("/maps", "town.vprmap")
