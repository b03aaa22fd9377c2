"""What a service answers; the services of a running node are in test_vpr_node.py."""

from __future__ import annotations

import pytest
from vpr_msgs.srv import SaveMap

from vpr_ros.errors import MapError
from vpr_ros.ros.map_services import _answering, map_path


@pytest.mark.parametrize(
    ("error", "message"),
    [(MapError("no space"), "no space"), (MemoryError("12 GiB"), "failed: MemoryError: 12 GiB")],
)
def test_a_request_that_fails_is_answered(error: Exception, message: str) -> None:
    """An exception in a service would end the node, and with it a map."""

    def serve(request: SaveMap.Request) -> str:
        raise error

    response = _answering(serve)(SaveMap.Request(name="town"), SaveMap.Response())
    assert (response.success, response.message) == (False, message)


def test_a_request_that_succeeds_is_answered() -> None:
    response = _answering(lambda request: f"saved {request.name}")(SaveMap.Request(name="town"), SaveMap.Response())
    assert (response.success, response.message) == (True, "saved town")


@pytest.mark.parametrize("name", ["../town", "/etc/town", "a/b", "", "..", ".hidden"])
def test_a_name_never_leaves_the_maps_directory(name: str) -> None:
    with pytest.raises(MapError, match="no map name"):
        map_path("/maps", name)


def test_the_suffix_is_optional() -> None:
    assert map_path("/maps", "town") == map_path("/maps", "town.vprmap")
