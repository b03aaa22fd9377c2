"""What a service answers."""

from __future__ import annotations

import pytest
from vpr_msgs.srv import SaveMap

from vpr_ros.errors import MapError
from vpr_ros.ros.service_thread import answering


@pytest.mark.parametrize(
    ("error", "message"),
    [(MapError("no space"), "no space"), (MemoryError("12 GiB"), "failed: MemoryError: 12 GiB")],
)
def test_a_request_that_fails_is_answered(error: Exception, message: str) -> None:
    """An exception in a service would end the node, and with it a map."""

    def serve(request: SaveMap.Request, response: SaveMap.Response) -> str:
        raise error

    response = answering(serve)(SaveMap.Request(name="town"), SaveMap.Response())
    assert (response.success, response.message) == (False, message)


def test_a_request_that_succeeds_is_answered() -> None:
    response = answering(lambda request, _: f"saved {request.name}")(SaveMap.Request(name="town"), SaveMap.Response())
    assert (response.success, response.message) == (True, "saved town")
