"""How many bytes do robots send until all have the keyframes of all? Beside them: the descriptors alone, as Swarm-SLAM (cslam) sends them.

    python benchmarks/fleet_bandwidth.py
    python benchmarks/fleet_bandwidth.py --robots 3 --losses 0 0.2 --keyframes 300 --late 1

Each robot makes a keyframe a second. All hear all, and each message is lost for each of them by itself, with 0.1 s of delay at most. The
last `--late` robots start when the others have finished. Everybody needs the pictures of every fiftieth keyframe of the others. The
robots are real exchanges on a simulated network. Bytes are those of the messages in CDR, each counted once however many hear it (over
unicast DDS sends a copy to each, of cslam's as of ours), without the heads of RTPS and UDP.

cslam publishes {keyframe_id, robot_id, float64[] descriptor} of each keyframe once, without stamp, pose, calibration or picture. Who was
not there, or lost it, lacks it.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from rclpy.serialization import serialize_message
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from vpr_ros.config import Config
from vpr_ros.fleet.exchange import Exchange
from vpr_ros.fleet.protocol import Batch, Message, Offer, Picture, Request
from vpr_ros.recognition.verification import GeometricVerifier
from vpr_ros.ros.fleet_messages import batch_msg, offer_msg, picture_msg, request_msg
from vpr_ros.types import Camera, Keyframe, KeyframeRef, Thumbnail

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "test" / "support"))
from small_fleets import Network, Robot
from small_worlds import texture

TO_MSG = {Offer: offer_msg, Request: request_msg, Batch: batch_msg, Picture: picture_msg}
PICTURE_EVERY = 50
CAMERA = Camera(700.0, 700.0, 600.0, 190.0, 1241, 376, (0.1, -0.2, 0.0, 0.0, 0.0))
CSLAM = "cslam_common_interfaces/msg/GlobalDescriptors"
CSLAM_DEFINITION = f"""{CSLAM.replace("Descriptors", "Descriptor")}[] descriptors
{"=" * 80}
MSG: {CSLAM.replace("Descriptors", "Descriptor")}
uint32 keyframe_id
uint32 robot_id
float64[] descriptor
"""


class DrivingRobot(Robot):
    """With a calibrated camera and descriptors of `dim` numbers."""

    def __init__(self, number: int, dim: int, thumbnail: Thumbnail) -> None:
        super().__init__(f"robot{number}")
        self._rng, self._dim, self._thumbnail = np.random.default_rng(number), dim, thumbnail
        self.made = 0

    def start(self) -> None:
        self.session = "20260101T120000.000000"
        self.exchange = Exchange(self.name, "f" * 64, self._dim, self.map)

    def make(self) -> None:
        descriptor = self._rng.standard_normal(self._dim).astype(np.float32)
        ref = KeyframeRef(self.name, self.session, self.made, 10**9 * self.made, "", "camera_optical_frame")
        self.map.add(
            Keyframe(ref, descriptor / np.linalg.norm(descriptor), self._thumbnail, CAMERA, np.eye(4), np.eye(4), 1.0)
        )
        self.map.sync()
        self.made += 1

    def want_pictures(self, now_s: float) -> bool:
        """Whether some are missing."""
        others = (k for r, k in self.map.memory.items() if r.robot != self.name and r.id % PICTURE_EVERY == 0)
        missing = [keyframe.ref for keyframe in others if keyframe.thumbnail is None]
        if self.exchange is not None:
            self.exchange.want(missing, now_s)
        return bool(missing)


class Meter(Network):
    """Counts what is sent instead of keeping it."""

    def __init__(self, robots: list[DrivingRobot], loss: float) -> None:
        super().__init__(list(robots), random.Random(0), loss, delay_s=0.1)
        self.bytes: Counter[type[Message]] = Counter()

    def send(self, message: Message) -> None:
        self.bytes[type(message)] += len(serialize_message(TO_MSG[type(message)](message)))
        super().send(message)
        self.sent.clear()


def measure(robots: int, loss: float, keyframes: int, dim: int, late: int) -> str:
    """A line of the table."""
    thumbnail = GeometricVerifier(Config().verification).thumbnail(np.ascontiguousarray(texture(0, 1241, 376)))
    fleet = [DrivingRobot(number, dim, thumbnail) for number in range(robots)]
    network = Meter(fleet, loss)
    shifts = [fleet[: robots - late], fleet[robots - late :]]
    for shift in filter(None, shifts):
        for robot in shift:
            robot.start()
        for _ in range(keyframes):
            for robot in shift:
                robot.make()
            for robot in fleet:
                robot.want_pictures(network.now_s)
            network.run(1.0)
    total = keyframes * robots
    finished_s = network.now_s

    def is_done() -> bool:
        for robot in fleet:
            robot.map.sync()
        lacks = [robot.want_pictures(network.now_s) for robot in fleet]
        return not any(lacks) and all(len(robot.map.memory) == total for robot in fleet)

    is_whole = network.run(3600.0, is_done)
    sent = network.bytes
    talk = sent[Offer] + sent[Request]
    ours, cslam = (sent[Batch] + talk) / total, cslam_bytes(dim)
    return (
        f"| {robots} | {loss:.0%} | {sent[Batch] / total:.0f} | {talk / total:.0f} | {ours:.0f} | {cslam} | {ours / cslam:.2f} "
        f"| {sent[Picture] / total:.0f} | {ours * keyframes / 1e3:.0f} | {'all' if is_whole else 'NOT ALL'} | {network.now_s - finished_s:.0f} |"
    )


def cslam_bytes(dim: int) -> int:
    """Of a GlobalDescriptors message with one keyframe."""
    store = get_typestore(Stores.ROS2_HUMBLE)
    store.register(get_types_from_msg(CSLAM_DEFINITION, CSLAM))
    one = store.types[CSLAM.replace("Descriptors", "Descriptor")](1, 1, np.zeros(dim))
    return len(store.serialize_cdr(store.types[CSLAM]([one]), CSLAM))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--robots", type=int, nargs="+", default=[2, 3, 5])
    parser.add_argument("--losses", type=float, nargs="+", default=[0.0, 0.2])
    parser.add_argument("--keyframes", type=int, default=300, help="of each robot")
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--late", type=int, default=0, help="robots that start when the others have finished")
    options = parser.parse_args()
    print(f"{options.keyframes} keyframes a robot, descriptors of {options.dim} numbers, {options.late} robots late")
    print(
        "| robots | loss | keyframes (B) | offers, requests (B) | together (B) | cslam (B) | ratio | pictures (B) | kB a robot | arrived | s |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for robots in options.robots:
        for loss in options.losses:
            print(measure(robots, loss, options.keyframes, options.dim, options.late), flush=True)
    print("Bytes are for each keyframe that is made; s: from the last keyframe until all had all.")


if __name__ == "__main__":
    main()
