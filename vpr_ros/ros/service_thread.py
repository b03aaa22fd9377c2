"""Services in a thread of their own: what takes long there holds up nothing else, nor the services of another thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from rclpy.node import Node

from vpr_ros.errors import VprError
from vpr_ros.ros.node_beside import NodeBeside


class Service(NamedTuple):
    """`serve` takes request and response and returns the response's `message`; an error that it raises is that of a failure."""

    kind: type
    name: str
    serve: Callable[[Any, Any], str]


class ServiceThread:
    """Services of a node, as long as it lives."""

    def __init__(self, node: Node, name: str, services: Iterable[Service]) -> None:
        """`name`: of the thread, one word."""
        self._beside = NodeBeside(node, name)
        for service in services:
            resolved = node.resolve_service_name(service.name)
            self._beside.node.create_service(service.kind, resolved, answering(service.serve))
        self._beside.start()

    def close(self) -> None:
        """Waits for the request in work."""
        self._beside.close()


def answering(serve: Callable[[Any, Any], str]) -> Callable[[Any, Any], Any]:
    """A service callback: `success` and the message that `serve` returns, or the error that it raises."""

    def callback(request: Any, response: Any) -> Any:
        try:
            response.success, response.message = True, serve(request, response)
        except VprError as error:
            response.success, response.message = False, str(error)
        except Exception as error:  # no memory, say: the node goes on, with the map that it has
            response.success, response.message = False, f"failed: {type(error).__name__}: {error}"
        return response

    return callback
