"""How long do images and diagnostics wait while the node saves, loads and resets a large map; and what memory does it give back?

    python benchmarks/map_services.py 10000 50000 100000
    python benchmarks/map_services.py --cycles 50

The node runs in a process of its own and gets ten images a second. Gaps are between two answers and between two messages on
/diagnostics, which come every second.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from std_srvs.srv import Trigger
from vpr_msgs.msg import PlaceMatchArray
from vpr_msgs.srv import LoadMap, SaveMap

from vpr_ros.map.place_map import PlaceMap
from vpr_ros.model import PlaceModel
from vpr_ros.types import Camera, Keyframe, KeyframeRef, Thumbnail

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "test" / "ros"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "test" / "support"))
from harness import NodeUnderTest, wait_until
from small_worlds import texture

JPEG_BYTES = 12000
PERIOD_S = 0.1
S = 10**9


def large_map(path: Path, count: int) -> None:
    """Random keyframes of the shipped model's size, with pictures of a usual size."""
    model, rng = PlaceModel.open(), np.random.default_rng(0)
    noise, camera = rng.bytes(JPEG_BYTES + 4096), Camera(700.0, 700.0, 600.0, 190.0, 1241, 376)
    with PlaceMap.open(path, model.id, model.dim, durability="process") as place_map:
        for i in range(count):
            descriptor = rng.standard_normal(model.dim).astype(np.float32)
            ref, pose = KeyframeRef("", "old", i, i * S), np.eye(4)
            pose[0, 3] = 0.5 * i
            jpeg = noise[i % 4096 : i % 4096 + JPEG_BYTES]
            place_map.add(
                Keyframe(ref, descriptor / np.linalg.norm(descriptor), Thumbnail(jpeg, 0.5), camera, None, pose)
            )


class Camera10Hz:
    """Sends an image every `PERIOD_S` until closed."""

    def __init__(self, node: NodeUnderTest) -> None:
        self._node, self._is_over = node, threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        views = [texture(place, 320, 240) for place in range(20)]
        for i in range(10**9):
            if self._is_over.wait(PERIOD_S):
                return
            self._node.ears.send(views[i % 20], (10**6 + i) * S // 10)

    def close(self) -> None:
        self._is_over.set()
        self._thread.join()


def gaps(node: NodeUnderTest, during: Callable[[], str]) -> str:
    """The longest of each, over what `during` does and a second before and after."""
    answers, diagnostics = list[float](), list[float]()
    ears = node.ears
    subscriptions = [
        ears.create_subscription(PlaceMatchArray, "/vpr/matches", lambda _: answers.append(time.monotonic()), 100),
        ears.create_subscription(DiagnosticArray, "/diagnostics", lambda _: diagnostics.append(time.monotonic()), 100),
    ]
    time.sleep(2.0)
    start = time.monotonic()
    message = during()
    took = time.monotonic() - start
    time.sleep(2.0)
    for subscription in subscriptions:
        ears.destroy_subscription(subscription)
    longest = [max(np.diff(times), default=np.inf) for times in (answers, diagnostics)]
    return f"{took:6.1f} s   answers {longest[0]:5.2f} s   diagnostics {longest[1]:5.2f} s   {message}"


def memory_mb(node: NodeUnderTest) -> float:
    """Resident, of the node's process."""
    status = Path(f"/proc/{node.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def measure(count: int, folder: Path) -> None:
    parameters = {"node.maps_directory": str(folder), "engine.backend": "onnxruntime", "engine.threads": 1}
    large_map(folder / "large.vprmap", count)
    with NodeUnderTest(parameters) as node:
        node.ears.send_and_wait(texture(0, 320, 240), S)
        empty = memory_mb(node)
        camera = Camera10Hz(node)
        ears = node.ears
        print(f"{count} keyframes, {(folder / 'large.vprmap').stat().st_size >> 20} MiB; resident {empty:.0f} MB empty")
        for name, call in (
            ("nothing", lambda: time.sleep(3.0) or ""),
            ("load_map", lambda: ears.call(LoadMap, "/vpr/load_map", name="large").message),
            ("save_map", lambda: ears.call(SaveMap, "/vpr/save_map", name="copy").message),
            ("reset", lambda: ears.call(Trigger, "/vpr/reset").message),
            ("load_map", lambda: ears.call(LoadMap, "/vpr/load_map", name="large").message),
            ("reset", lambda: ears.call(Trigger, "/vpr/reset").message),
        ):
            line = gaps(node, call)
            print(f"  {name:9} {line[:150]}; resident {memory_mb(node):.0f} MB", flush=True)
        camera.close()
    shutil.rmtree(folder)
    folder.mkdir()


def cycle(cycles: int, folder: Path) -> None:
    """Clean up, configure, activate: does memory come back?"""
    parameters = {"node.maps_directory": str(folder), "engine.backend": "onnxruntime", "engine.threads": 1}
    steps = (
        Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP, Transition.TRANSITION_CONFIGURE,
        Transition.TRANSITION_ACTIVATE,
    )  # fmt: skip
    with NodeUnderTest(parameters) as node:
        for i in range(cycles + 1):
            node.ears.send_and_wait(texture(0, 320, 240), (i + 1) * S)
            if i in (0, 1, 2, 5, 10, 20, 50, cycles):
                print(f"{i} cycles: {memory_mb(node):.0f} MB", flush=True)
            for step in steps:
                request = {"transition": Transition(id=step)}
                assert node.ears.call(ChangeState, "/vpr/change_state", **request).success
            wait_until(lambda: node.ears.count_subscribers("/image") > 0)
            time.sleep(0.5)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("keyframes", type=int, nargs="*", default=[])
    parser.add_argument("--cycles", type=int, default=0)
    options = parser.parse_args()
    if not options.keyframes and not options.cycles:
        options.keyframes = [1000]
    rclpy.init()
    with tempfile.TemporaryDirectory() as folder:
        for count in options.keyframes:
            measure(count, Path(folder))
        if options.cycles:
            cycle(options.cycles, Path(folder))
    rclpy.try_shutdown()


if __name__ == "__main__":
    main()
