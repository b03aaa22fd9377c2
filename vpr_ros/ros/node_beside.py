"""A hidden node beside the node, with a thread of its own: what takes long there holds up neither images nor diagnostics."""

from __future__ import annotations

import threading
from contextlib import suppress

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node


class NodeBeside:
    """Has an executor of its own: rclpy's single-threaded one, which neither stalls nor spins in the versions at hand, runs one callback at
    a time, and a coroutine that waits for a thread keeps it busy."""

    def __init__(self, node: Node, name: str) -> None:
        """`name`: what it is for, one word, of its own name and of its thread. Its callbacks run from `start` on."""
        self.node = rclpy.create_node(
            f"_{node.get_name()}_{name}",
            context=node.context,
            namespace=node.get_namespace(),
            use_global_arguments=False,  # a remapped name of the node is not for this one
            enable_rosout=False,
            start_parameter_services=False,
        )
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, name=f"vpr_{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Waits for the callback in work."""
        self._executor.shutdown()
        self._thread.join()
        self.node.destroy_node()

    def _spin(self) -> None:
        with suppress(ExternalShutdownException):
            self._executor.spin()
