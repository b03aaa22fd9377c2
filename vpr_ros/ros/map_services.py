"""Services on the map: reset, save and load. Files are read and written beside the executor and outside the detector's lock."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar, cast

from rclpy.node import Node
from rclpy.task import Future
from std_srvs.srv import Trigger
from vpr_msgs.srv import LoadMap, SaveMap

from vpr_ros.errors import MapError, VprError
from vpr_ros.map.place_map import PlaceMap
from vpr_ros.ros.recogniser import Recogniser

T = TypeVar("T")


class MapServices:
    """The node's services on the map, as long as the node lives; files are read and written one after another."""

    def __init__(self, node: Node, recogniser: Callable[[], Recogniser | None]) -> None:
        """`recogniser` returns the node's present one, None where it is not configured."""
        self._node, self._find_recogniser = node, recogniser
        self._files = ThreadPoolExecutor(max_workers=1, thread_name_prefix="vpr_map_files")
        node.create_service(Trigger, "~/reset", self._on_reset)
        node.create_service(SaveMap, "~/save_map", self._on_save_map)
        node.create_service(LoadMap, "~/load_map", self._on_load_map)

    def close(self) -> None:
        """Waits for the files that are being written."""
        self._files.shutdown(wait=True)

    def _recogniser(self) -> Recogniser:
        recogniser = self._find_recogniser()
        if recogniser is None:
            raise VprError("the node is not configured")
        return recogniser

    def _on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            forgotten = self._recogniser().start_with(None)
            response.success, response.message = True, f"forgot {forgotten} keyframes"
        except VprError as error:
            response.success, response.message = False, str(error)
        return response

    async def _on_save_map(self, request: SaveMap.Request, response: SaveMap.Response) -> SaveMap.Response:
        try:
            recogniser = self._recogniser()
            path = map_path(recogniser.config.node.maps_directory, request.name)
            content, model_id = recogniser.map_content()
            await self._beside(lambda: content.save(path, model_id))
            response.success, response.message = True, f"saved {len(content.keyframes)} keyframes to {path}"
        except VprError as error:
            response.success, response.message = False, str(error)
        return response

    async def _on_load_map(self, request: LoadMap.Request, response: LoadMap.Response) -> LoadMap.Response:
        try:
            recogniser = self._recogniser()
            path = map_path(recogniser.config.node.maps_directory, request.name)
            place_map = await self._beside(lambda: PlaceMap.load(path, recogniser.model.id))
            if self._find_recogniser() is not recogniser:
                raise MapError("the node was cleaned up meanwhile: the map is not loaded")
            recogniser.start_with(place_map)
            response.success, response.message = True, f"loaded {len(place_map)} keyframes from {path}"
            if fault := recogniser.check_map():
                response.message += f"; {fault}"
        except VprError as error:
            response.success, response.message = False, str(error)
        return response

    async def _beside(self, work: Callable[[], T]) -> T:
        """The result of `work` in the thread for files; the executor goes on meanwhile."""
        done: Future[T] = Future(executor=self._node.executor)

        def run() -> None:
            try:
                done.set_result(work())
            except Exception as error:
                done.set_exception(error)

        self._files.submit(run)
        result = await done
        return cast(T, result)


def map_path(maps_directory: str, name: str) -> Path:
    """The file of a map. Raises MapError for a name that is a path: a service never leaves the maps directory."""
    if not name or name != Path(name).name or name.startswith("."):
        raise MapError(f"{name!r} is no map name: it must be one word, not a path")
    return Path(maps_directory).expanduser() / f"{name.removesuffix('.vprmap')}.vprmap"
