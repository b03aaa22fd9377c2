"""Services in a thread of their own: what takes long there holds up neither images nor diagnostics, nor the services of another thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, NamedTuple

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node

from vpr_ros.errors import VprError


class Service(NamedTuple):
    """`serve` takes request and response and returns the response's `message`; an error that it raises is that of a failure."""

    kind: type
    name: str
    serve: Callable[[Any, Any], str]


class ServiceThread:
    """Services of a node, as long as it lives.

    They belong to a hidden node beside it, with an executor of its own: rclpy's single-threaded executor, the one that neither
    stalls nor spins in the versions at hand, runs one callback at a time, and a coroutine that waits for a thread keeps it busy.
    """

    def __init__(self, node: Node, name: str, services: Iterable[Service]) -> None:
        """`name`: of the hidden node and of the thread, one word."""
        self._beside = rclpy.create_node(
            f"_{node.get_name()}_{name}",
            context=node.context,
            namespace=node.get_namespace(),
            use_global_arguments=False,  # a remapped name of the node is not for this one
            enable_rosout=False,
            start_parameter_services=False,
        )
        for service in services:
            resolved = node.resolve_service_name(service.name)
            self._beside.create_service(service.kind, resolved, _answering(service.serve))
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(self._beside)
        self._thread = threading.Thread(target=self._spin, name=f"vpr_{name}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Waits for the request in work."""
        self._executor.shutdown()
        self._thread.join()
        self._beside.destroy_node()

    def _spin(self) -> None:
        with suppress(ExternalShutdownException):
            self._executor.spin()


def _answering(serve: Callable[[Any, Any], str]) -> Callable[[Any, Any], Any]:
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
