"""What a frame costs around its inference: replay and node, as ratios to the engine's own time for the same frames.

    python benchmarks/frame_cost.py [--frames 150] [--verify]

Engine, replay (read a jpeg from disk, process) and node (publish a raw image to its process, hear the match) take turns on
each frame, so all three meet the same machine; medians, without verification unless --verify. Images are 640x480 colour,
from the rendered world.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # demo_world is no installed package
from demo_world import DemoWorld, loop_trajectory
from vpr_ros.config import Config
from vpr_ros.engines.open import open_reference
from vpr_ros.images import resize
from vpr_ros.model import PlaceModel, shipped_model
from vpr_ros.recognition.loop_detector import LoopDetector
from vpr_ros.share import shared_files
from vpr_ros.sources import FolderSource
from vpr_ros.types import Frame


def write_images(folder: Path, count: int) -> None:
    """Render 640x480 images along two laps into jpeg files."""
    route = loop_trajectory(laps=2)
    chosen = np.linspace(0, len(route) - 1, count).astype(int)
    with DemoWorld(3) as world:
        for number, i in enumerate(tqdm(chosen, desc="render", unit="frame", disable=None)):
            image = world.render(route[i][1]).image
            cv2.imwrite(str(folder / f"{number:06d}.jpg"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))


class NodeClient:
    """Sends one raw image to a node process and waits for its answer."""

    def __init__(self, verify: bool) -> None:
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.qos import qos_profile_sensor_data
        from sensor_msgs.msg import Image as ImageMsg
        from vpr_msgs.msg import PlaceMatchArray

        rclpy.init()
        values = {
            "verification.enabled": str(verify).lower(),
            "engine.backend": "onnxruntime",
        }  # the engine alone has it
        arguments = [word for name, value in values.items() for word in ("-p", f"{name}:={value}")]
        command = [sys.executable, "-m", "vpr_ros.ros.vpr_node", "--ros-args", *arguments, "--log-level", "warn"]
        self._process = subprocess.Popen(command)
        self._node = rclpy.create_node("frame_cost")
        self._outlet = self._node.create_publisher(ImageMsg, "image", qos_profile_sensor_data)
        self._answered = threading.Event()
        self._node.create_subscription(PlaceMatchArray, "vpr/matches", lambda _: self._answered.set(), 10)
        self._inside_ms = float("nan")
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._executor.spin)
        self._thread.start()
        self._message = ImageMsg(height=480, width=640, encoding="rgb8", step=1920)
        while not (self._outlet.get_subscription_count() and self._node.count_publishers("vpr/matches")):
            time.sleep(0.05)
        time.sleep(1.0)

    def _on_diagnostics(self, message: Any) -> None:
        values = {pair.key: pair.value for status in message.status for pair in status.values}
        self._inside_ms = float(values.get("end to end p50 (ms)", self._inside_ms))

    def inside_seconds(self) -> float:
        """The node's own median from image received to match published, as its diagnostics say it."""
        time.sleep(1.5)
        return self._inside_ms / 1e3

    def seconds(self, frame: Frame) -> float:
        """From before the message is filled to the answer heard."""
        self._answered.clear()
        start = time.perf_counter()
        stamp = self._message.header.stamp
        stamp.sec, stamp.nanosec = divmod(frame.stamp_ns, 10**9)
        self._message.data = frame.image.tobytes()
        self._outlet.publish(self._message)
        if not self._answered.wait(timeout=10):
            raise SystemExit("the node did not answer within 10 s")
        return time.perf_counter() - start

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._executor.shutdown()
        self._thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--verify", action="store_true", help="with geometric verification")
    options = parser.parse_args()
    os.environ.setdefault("AMENT_PREFIX_PATH", sys.prefix)
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    os.environ.setdefault("FASTDDS_DEFAULT_PROFILES_FILE", str(shared_files("config/fastdds.xml")[0]))

    model = PlaceModel.open(shipped_model())
    engine = open_reference(model)
    config = Config().with_values({"verification.enabled": options.verify})
    detector = LoopDetector(config, open_reference(model))
    node = NodeClient(options.verify)
    seconds: dict[str, list[float]] = {"engine": [], "replay": [], "node": []}
    try:
        with tempfile.TemporaryDirectory() as folder:
            write_images(Path(folder), options.frames)
            frames = iter(FolderSource(folder, rate_hz=1.0))
            for _ in tqdm(range(options.frames), desc="measure", unit="frame", disable=None):
                start = time.perf_counter()
                frame = next(frames)
                detector.process(frame)
                seconds["replay"].append(time.perf_counter() - start)
                batch = resize(frame.image, model.width, model.height)[None]
                start = time.perf_counter()
                engine.describe(batch)
                seconds["engine"].append(time.perf_counter() - start)
                seconds["node"].append(node.seconds(frame))
        inside = node.inside_seconds()
    finally:
        node.close()
    print(
        f"{model.name} ({model.id[:12]}), {engine.name}, 640x480, {'with' if options.verify else 'without'} verification"
    )
    print(f"{'':<46}{'median ms':>10}{'ratio':>8}")
    medians = {name: float(np.median(values[10:])) for name, values in seconds.items()}
    rows = {
        "engine alone": medians["engine"],
        "replay: file to match": medians["replay"],
        "node: image received to match published": inside,
        "node and DDS: image sent to match received": medians["node"],
    }
    for label, median in rows.items():
        print(f"{label:<46}{median * 1e3:>10.1f}{median / medians['engine']:>8.2f}")


if __name__ == "__main__":
    main()
