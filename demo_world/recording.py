"""A drive through the rendered world as a ROS 2 bag."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from demo_world.appearance import APPEARANCES
from demo_world.streets import loop_trajectory
from demo_world.world import DEMO_CAMERA, DemoWorld
from vpr_ros.bags.writer import BagWriter
from vpr_ros.types import Pose

IMAGE_TOPIC = "/camera/image_raw"
CAMERA_INFO_TOPIC = "/camera/camera_info"
ODOMETRY_TOPIC = "/odom"
TRUTH_TOPIC = "/ground_truth/camera"
DEPTH_TOPIC = "/camera/depth/image_raw"
LABELS_TOPIC = "/camera/labels/image_raw"
CAMERA_FRAME = "camera_optical_frame"
TRUTH_INTERVAL = 20
"""Every so many frames carry depth and labels too: they are for looking at and would double the bag."""
START_NS = 1_700_000_000_000_000_000

StepProgress = Callable[[Iterable[int]], Iterable[int]]


def write_demo_bag(
    path: Path,
    seed: int,
    *,
    appearances: tuple[str, ...] = ("summer", "winter"),
    speed_m_s: float = 5.0,
    rate_hz: float = 8.0,
    progress: StepProgress = iter,
) -> None:
    """Drive one lap per appearance and record it: images (jpeg), camera_info, odometry that drifts, the true camera poses.

    Every 20th frame also has its depth (32FC1, m) and its labels (mono8, Cityscapes train ids). Raises SourceError if
    `path` exists.
    """
    laps = len(appearances)
    route = loop_trajectory(laps=laps, speed_m_s=speed_m_s, rate_hz=rate_hz, start_ns=START_NS)
    drifting = drifted([pose for _, pose in route], np.random.default_rng(seed))
    lap_of = np.arange(len(route)) * laps // len(route)
    worlds: dict[int, DemoWorld] = {}
    with BagWriter(path) as bag:
        for i in progress(range(len(route))):
            lap = int(lap_of[i])
            if lap not in worlds:
                for world in worlds.values():
                    world.close()
                worlds = {lap: DemoWorld(seed, APPEARANCES[appearances[lap]])}
            _write_frame(bag, worlds[lap], *route[i], drifting[i], with_truth=i % TRUTH_INTERVAL == 0)
    for world in worlds.values():
        world.close()


def _write_frame(bag: BagWriter, world: DemoWorld, stamp_ns: int, pose: Pose, odometry: Pose, with_truth: bool) -> None:
    view = world.render(pose, ground_truth=with_truth)
    bag.camera_info(CAMERA_INFO_TOPIC, stamp_ns, DEMO_CAMERA, CAMERA_FRAME)
    bag.odometry(ODOMETRY_TOPIC, stamp_ns, odometry, "odom", CAMERA_FRAME)
    bag.odometry(TRUTH_TOPIC, stamp_ns, pose, "world", CAMERA_FRAME)
    if view.depth is not None and view.labels is not None:
        bag.plane(DEPTH_TOPIC, stamp_ns, view.depth, "32FC1", CAMERA_FRAME)
        bag.plane(LABELS_TOPIC, stamp_ns, view.labels, "mono8", CAMERA_FRAME)
    bag.compressed_image(f"{IMAGE_TOPIC}/compressed", stamp_ns, view.image, CAMERA_FRAME)


def drifted(
    poses: list[Pose], rng: np.random.Generator, scale: float = 1.01, yaw_deg_per_m: float = 0.02
) -> list[Pose]:
    """Odometry of a drive: its steps too long by `scale`, a constant yaw drift and noise of 0.5 cm and 0.05 deg a step."""
    odometry = [np.eye(4)]
    for before, after in pairwise(poses):
        step: Any = np.linalg.inv(before) @ after
        distance = float(np.linalg.norm(step[:3, 3]))
        angle = np.radians(yaw_deg_per_m * distance + rng.normal(0, 0.05))
        turn = np.eye(4)
        turn[:3, :3] = [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
        step[:3, 3] = step[:3, 3] * scale + rng.normal(0, 0.005, 3)
        odometry.append(odometry[-1] @ step @ turn)
    return odometry
