"""The demo: a rendered drive as a bag, played over DDS to the node in a process of its own; what it published, judged.

Run by `vpr demo`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from tqdm import tqdm
from vpr_msgs.msg import Keyframe as KeyframeMsg
from vpr_msgs.msg import LoopClosure, PlaceMatchArray

from demo_world.demo.bag_player import BagPlayer
from demo_world.recording import (
    CAMERA_INFO_TOPIC,
    IMAGE_TOPIC,
    ODOMETRY_TOPIC,
    TRUTH_TOPIC,
    write_demo_bag,
)
from vpr_ros.config import Config
from vpr_ros.errors import VprError
from vpr_ros.evaluation.ground_truth import RevisitProtocol
from vpr_ros.evaluation.metrics import evaluate
from vpr_ros.evaluation.report import Run
from vpr_ros.evaluation.run_folder import new_folder, summary_lines, write_run
from vpr_ros.model import PlaceModel, shipped_model
from vpr_ros.replay import ground_truth, true_poses
from vpr_ros.ros.messages import match_from_msg, stamp_ns
from vpr_ros.share import shared_files
from vpr_ros.sources import BagSource
from vpr_ros.types import FrameRef, PlaceMatch

CONFIG = Config().with_values({"node.image_transport": "compressed"})
QUIET_S = 3.0


@dataclass(slots=True, eq=False)
class Heard:
    """What the node published, as it came in."""

    matches: list[PlaceMatch] = field(default_factory=list)
    arrived_s: dict[int, float] = field(default_factory=dict)
    keyframes: list[FrameRef] = field(default_factory=list)
    loop_closures: int = 0


class Listener(Node):
    """Subscribes to everything the node publishes."""

    def __init__(self, node_name: str) -> None:
        super().__init__("demo_listener")
        self.heard = Heard()
        reliable = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)
        self.create_subscription(PlaceMatchArray, f"{node_name}/matches", self._on_matches, reliable)
        self.create_subscription(KeyframeMsg, f"{node_name}/keyframes", self._on_keyframe, reliable)
        self.create_subscription(LoopClosure, f"{node_name}/loop_closures", self._on_loop_closure, reliable)

    def has_publishers(self) -> bool:
        """Whether the node publishes everything that is listened to."""
        return all(self.count_publishers(s.topic_name) > 0 for s in self.subscriptions if "/vpr" in s.topic_name)

    def _on_matches(self, message: PlaceMatchArray) -> None:
        for match in message.matches:
            self.heard.matches.append(match_from_msg(match))
            self.heard.arrived_s[stamp_ns(match.header.stamp)] = time.perf_counter()

    def _on_keyframe(self, message: KeyframeMsg) -> None:
        self.heard.keyframes.append(FrameRef(message.ref.session, stamp_ns(message.ref.stamp)))

    def _on_loop_closure(self, _: LoopClosure) -> None:
        self.heard.loop_closures += 1


@contextmanager
def node_process(log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The real node as a process of its own, stopped at the end."""
    remap = {"image/compressed": f"{IMAGE_TOPIC}/compressed", "camera_info": CAMERA_INFO_TOPIC, "odom": ODOMETRY_TOPIC}
    arguments = [word for name, topic in remap.items() for word in ("-r", f"{name}:={topic}")]
    command = [sys.executable, "-m", "vpr_ros.ros.vpr_node", "--ros-args", *arguments]
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*command, "-p", "node.image_transport:=compressed"], stdout=file, stderr=subprocess.STDOUT
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def play(bag: Path, rate: float, log: Path) -> tuple[Heard, dict[int, float]]:
    """Play the bag to a node process; what it published, and when each image was sent (perf_counter, by stamp).

    Raises VprError if the node ends or does not subscribe.
    """
    rclpy.init()
    listener, player = Listener("vpr"), BagPlayer(bag, {IMAGE_TOPIC + "/compressed", CAMERA_INFO_TOPIC, ODOMETRY_TOPIC})
    executor = SingleThreadedExecutor()
    executor.add_node(listener)
    spinner = threading.Thread(target=executor.spin)
    spinner.start()
    try:
        with node_process(log) as process:
            _wait_for_subscription(player, listener, process, log)
            sent = player.play(rate, lambda messages: tqdm(messages, desc="play bag", unit="message", disable=None))
            _wait_until_quiet(listener.heard)
            if process.poll() is not None:
                raise VprError(f"the node ended with status {process.returncode}; see {log}")
    finally:
        executor.shutdown()
        spinner.join()
        player.destroy_node()
        listener.destroy_node()
        rclpy.try_shutdown()
    return listener.heard, sent


def _wait_for_subscription(player: BagPlayer, listener: Listener, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while not (player.has_subscribers() and listener.has_publishers()):
        if process.poll() is not None or time.monotonic() > deadline:
            raise VprError(f"the node did not subscribe; see {log}:\n{log.read_text()[-2000:]}")
        time.sleep(0.05)
    time.sleep(0.5)  # both sides see each other; DDS needs a moment more before the first message gets through


def _wait_until_quiet(heard: Heard) -> None:
    count, since = -1, time.monotonic()
    while time.monotonic() - since < QUIET_S:
        if len(heard.matches) != count:
            count, since = len(heard.matches), time.monotonic()
        time.sleep(0.1)


def report(bag: Path, folder: Path, heard: Heard, sent: dict[int, float], created: str) -> Run:
    """Judge what the node published against the bag's true poses, and write the run folder."""
    source = BagSource(bag, image_topic=f"{IMAGE_TOPIC}/compressed", ground_truth_topic=TRUTH_TOPIC)
    protocol = RevisitProtocol()
    matches = sorted(heard.matches, key=lambda match: match.stamp_ns)
    poses = true_poses(source, matches, protocol.gap_s)
    model = PlaceModel.open(shipped_model())
    latency = np.array([heard.arrived_s[m.stamp_ns] - sent[m.stamp_ns] for m in matches if m.stamp_ns in sent])
    run = Run(
        name="demo: two laps through a rendered town, summer and winter",
        created=created,
        model={"name": model.name, "id": model.id, "engine": "vpr_node over DDS"},
        config=CONFIG.flat(),
        matches=matches,
        metrics=evaluate(matches, ground_truth(poses, protocol), heard.keyframes),
        true_poses=poses,
        latencies={"image sent to match received": latency},
        image_of=lambda frame: source.image_at(frame.stamp_ns),
        notes=[f"{len(sent)} images sent, {len(matches)} answered; late images are dropped, never queued"],
        is_live=True,
    )
    write_run(folder, run, CONFIG)
    return run


def table(run: Run, sent: int, loop_closures: int) -> list[str]:
    """The figures of the demo, a row each."""
    m = run.metrics
    latency = run.latencies["image sent to match received"] * 1e3
    rows: dict[str, Any] = {
        "images sent": sent,
        "queries answered": len(run.matches),
        "keyframes": sum(match.keyframe_id is not None for match in run.matches),
        "loop closures published": loop_closures,
    }
    if m is not None:
        rows |= {
            "  correct": m.accepted_true,
            "  wrong": m.accepted_false,
            "true revisits": m.revisits,
            "  missed": m.revisits - round((m.recall or 0.0) * m.revisits),
        }
    if len(latency):
        rows["latency, image sent to match received (ms)"] = (
            f"median {np.median(latency):.0f}, p99 {np.percentile(latency, 99):.0f}"
        )
    return [f"  {name:<44}{value}" for name, value in rows.items()]


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    options = parser.parse_args()
    # Fast DDS's own shared memory loses large images between processes; the file says more
    for profile in shared_files("config/fastdds.xml"):
        os.environ.setdefault("FASTDDS_DEFAULT_PROFILES_FILE", str(profile))
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    now = datetime.now()
    try:
        folder = new_folder(options.out, f"{now:%Y%m%d-%H%M%S}-demo")
        bag = folder / "bag"
        write_demo_bag(
            bag, options.seed, progress=lambda frames: tqdm(frames, desc="render bag", unit="frame", disable=None)
        )
        heard, sent = play(bag, options.rate, folder / "node.log")
        run = report(bag, folder, heard, sent, f"{now:%Y-%m-%d %H:%M}")
    except VprError as error:
        sys.exit(f"vpr demo: {error}")
    print("\n".join(["", *table(run, len(sent), heard.loop_closures), "", *summary_lines(run)[1:]]))
    print(f"report: {folder / 'report.html'}")


if __name__ == "__main__":
    main()
