"""Services on the map: reset, save and load. They have a thread of their own: a large map holds up neither images nor diagnostics."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from std_srvs.srv import Trigger
from vpr_msgs.srv import LoadMap, SaveMap

from vpr_ros.errors import MapError, VprError
from vpr_ros.files import expanded
from vpr_ros.map.place_map import PlaceMap
from vpr_ros.memory import release_memory
from vpr_ros.ros.recogniser import Recogniser


class MapServices:
    """The node's services on the map, as long as the node lives.

    They belong to a hidden node beside it, with an executor of its own: rclpy's single-threaded executor, the one that neither
    stalls nor spins in the versions at hand, runs one callback at a time, and a coroutine that waits for a thread keeps it busy.
    """

    def __init__(self, node: Node, recogniser: Callable[[], Recogniser | None]) -> None:
        """`recogniser` returns the node's present one, None where it is not configured."""
        self._find_recogniser = recogniser
        self._beside = rclpy.create_node(
            f"_{node.get_name()}_map_services",
            context=node.context,
            namespace=node.get_namespace(),
            use_global_arguments=False,  # a remapped name of the node is not for this one
            enable_rosout=False,
            start_parameter_services=False,
        )
        for kind, name, callback in (
            (Trigger, "~/reset", self._reset),
            (SaveMap, "~/save_map", self._save_map),
            (LoadMap, "~/load_map", self._load_map),
        ):
            self._beside.create_service(kind, node.resolve_service_name(name), _answering(callback))
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(self._beside)
        self._thread = threading.Thread(target=self._spin, name="vpr_map_services", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Waits for the request in work."""
        self._executor.shutdown()
        self._thread.join()
        self._beside.destroy_node()

    def _spin(self) -> None:
        with suppress(ExternalShutdownException):
            self._executor.spin()

    def _recogniser(self) -> Recogniser:
        recogniser = self._find_recogniser()
        if recogniser is None:
            raise VprError("the node is not configured")
        return recogniser

    def _reset(self, _: Trigger.Request) -> str:
        recogniser = self._recogniser()
        before = recogniser.start_with(PlaceMap(recogniser.model.dim))
        path, count = before.path, len(before)
        del before
        release_memory()
        if path is None:
            return f"forgot {count} keyframes"
        return f"left the map {path}, which keeps its {count} keyframes, for an empty one in memory"

    def _save_map(self, request: SaveMap.Request) -> str:
        recogniser = self._recogniser()
        path = map_path(recogniser.config.node.maps_directory, request.name)
        replaced = "" if not path.exists() else ", in place of the map that was there"
        return f"saved {recogniser.save_map(path)} keyframes to {path}{replaced}"

    def _load_map(self, request: LoadMap.Request) -> str:
        recogniser = self._recogniser()
        path = map_path(recogniser.config.node.maps_directory, request.name)
        present = recogniser.detector.map
        if present.path is not None and present.path == path.resolve():
            present.flush()
            place_map = present
        else:
            if not path.exists():
                raise MapError(f"there is no map {path}")
            place_map = recogniser.open_map(path)
        if self._find_recogniser() is not recogniser:
            place_map.close()
            raise MapError("the node was cleaned up meanwhile: the map is not loaded")
        recogniser.start_with(place_map)
        release_memory()
        fault = recogniser.check_map()
        return f"loaded {len(place_map)} keyframes from {path}" + (f"; {fault}" if fault else "")


def _answering(serve: Callable[[Any], str]) -> Callable[[Any, Any], Any]:
    """A service callback: `success` and the message that `serve` returns, or the error that it raises."""

    def callback(request: Any, response: Any) -> Any:
        try:
            response.success, response.message = True, serve(request)
        except VprError as error:
            response.success, response.message = False, str(error)
        except Exception as error:  # no memory, say: the node goes on, with the map that it has
            response.success, response.message = False, f"failed: {type(error).__name__}: {error}"
        return response

    return callback


def map_path(maps_directory: str, name: str) -> Path:
    """The file of a map. Raises MapError for a name that is a path: a service never leaves the maps directory."""
    if not name or name != Path(name).name or name.startswith("."):
        raise MapError(f"{name!r} is no map name: it must be one word, not a path")
    return expanded(maps_directory) / f"{name.removesuffix('.vprmap')}.vprmap"
