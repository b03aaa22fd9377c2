"""Services on the map: reset, save and load. They have a thread of their own: a large map holds up neither images nor diagnostics."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rclpy.node import Node
from std_srvs.srv import Trigger
from vpr_msgs.srv import LoadMap, SaveMap

from vpr_ros.errors import MapError, VprError
from vpr_ros.files import expanded
from vpr_ros.map.map_file import LONGEST_NAME_BYTES, is_map_name
from vpr_ros.map.place_map import PlaceMap
from vpr_ros.memory import release_memory
from vpr_ros.ros.recogniser import Recogniser
from vpr_ros.ros.service_thread import Service, ServiceThread


class MapServices:
    """The node's services on the map, as long as the node lives."""

    def __init__(self, node: Node, recogniser: Callable[[], Recogniser | None]) -> None:
        """`recogniser` returns the node's present one, None where it is not configured."""
        self._find_recogniser = recogniser
        services = (
            Service(Trigger, "~/reset", self._reset),
            Service(SaveMap, "~/save_map", self._save_map),
            Service(LoadMap, "~/load_map", self._load_map),
        )
        self._thread = ServiceThread(node, "map_services", services)

    def close(self) -> None:
        """Waits for the request in work."""
        self._thread.close()

    def _recogniser(self) -> Recogniser:
        recogniser = self._find_recogniser()
        if recogniser is None:
            raise VprError("the node is not configured")
        return recogniser

    def _reset(self, _: Trigger.Request, response: Trigger.Response) -> str:
        recogniser = self._recogniser()
        before = recogniser.start_with(PlaceMap(recogniser.model.dim))
        path, count = before.path, len(before)
        del before
        release_memory()
        if path is None:
            return f"forgot {count} keyframes"
        return f"left the map {path}, which keeps its {count} keyframes, for an empty one in memory"

    def _save_map(self, request: SaveMap.Request, response: SaveMap.Response) -> str:
        recogniser = self._recogniser()
        path = map_path(recogniser.config.node.maps_directory, request.name)
        replaced = "" if not path.exists() else ", in place of the map that was there"
        return f"saved {recogniser.save_map(path)} keyframes to {path}{replaced}"

    def _load_map(self, request: LoadMap.Request, response: LoadMap.Response) -> str:
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


def map_path(maps_directory: str, name: str) -> Path:
    """The file of a map. Raises MapError for a name that is a path: a service never leaves the maps directory."""
    if not is_map_name(name):
        shown = repr(name) if len(name) <= LONGEST_NAME_BYTES else f"a name of {len(name)} characters"
        raise MapError(f"{shown} is no map name: it must be one word that can be printed, not a path")
    return expanded(maps_directory) / f"{name.removesuffix('.vprmap')}.vprmap"
