"""A robot that wakes up, or is carried, in a map of an earlier drive: how soon it is found, how far off, how often at a wrong place.

    python benchmarks/relocalization.py                                          # two laps of the rendered town, summer and winter
    python benchmarks/relocalization.py --appearances summer,summer
    python benchmarks/relocalization.py ../shared/data/kitti --sequence 00 --split 1400

The first part of a recording (its truth for poses) is the map. In the second part the robot wakes up at many places, each time with an
odometry that begins at zero and drifts (scale 1 %, 0.02 deg/m, noise), where the truth knows a keyframe within --near-m and --near-deg
for the next --images images. `carried`: once found it is put --jump images further, which odometry does not see. Right is a pose
within --right-m and --right-deg of the truth.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from demo_world.appearance import APPEARANCES
from demo_world.recording import IMAGE_TOPIC, TRUTH_TOPIC, drifted, write_demo_bag
from vpr_ros.config import Config
from vpr_ros.engines.backend import Engine
from vpr_ros.engines.open import open_reference
from vpr_ros.map.place_map import PlaceMap
from vpr_ros.model import PlaceModel
from vpr_ros.recognition.loop_detector import LoopDetector
from vpr_ros.recognition.relocalization import Localization, Relocalizer
from vpr_ros.rotations import rotation_angle_deg
from vpr_ros.sources import open_source
from vpr_ros.types import Frame, Pose


@dataclass(frozen=True)
class Found:
    """After how many images and metres the robot was found, and the errors of the pose."""

    images: int
    travelled_m: float
    error_m: float
    error_deg: float
    sigmas: float
    """Normalised error: the Mahalanobis distance over its expectation, 1 where errors are as large as the covariance has them."""


def mapped(frames: Sequence[Frame], config: Config, engine: Engine) -> PlaceMap:
    detector = LoopDetector(config, engine, session="map")
    for frame in tqdm(frames, desc="map", unit="frame", disable=None):
        detector.process(frame)
    return detector.map


def error_of(known: Localization, truth: Pose) -> tuple[float, float, float]:
    assert known.pose is not None
    found = known.pose.map_from_body
    apart = found[:3, :3].T @ truth[:3, :3]
    error_m = float(np.linalg.norm(found[:3, 3] - truth[:3, 3]))
    offset = found[:3, 3] - truth[:3, 3]
    normalised = offset @ np.linalg.inv(known.pose.covariance[:3, :3]) @ offset / 3.0
    return error_m, rotation_angle_deg(apart), float(np.sqrt(normalised))


class Robot:
    """Wakes up with an odometry at zero; may be carried."""

    def __init__(self, config: Config, engine: Engine, place_map: PlaceMap, seed: int) -> None:
        self.detector = LoopDetector(config, engine, place_map, session=f"drive {seed}")
        self.relocalizer = Relocalizer(config, place_map)
        self.poses: list[Localization] = []
        self._odom_from_body, self._rng = np.eye(4), np.random.default_rng(seed)
        self._stamp_ns = 0

    def until_found(self, frames: Sequence[Frame], truth: Sequence[Pose]) -> Found | None:
        """Drives along; None where it is not found."""
        steps = drifted(list(truth), self._rng)
        start = self._odom_from_body
        travelled_m = 0.0
        for i, frame in enumerate(frames):
            if i:
                travelled_m += float(np.linalg.norm(truth[i][:3, 3] - truth[i - 1][:3, 3]))
                self._stamp_ns += frame.stamp_ns - frames[i - 1].stamp_ns
            else:
                self._stamp_ns += 10**8
            self._odom_from_body = start @ steps[i]
            answer = self.detector.process(
                replace(frame, stamp_ns=self._stamp_ns, odom_from_body=self._odom_from_body, odometry_frame="odom/body")
            )
            known = self.relocalizer.follow(answer)
            if known is not None and known.is_found and known.pose is not None:
                return Found(i + 1, travelled_m, *error_of(known, truth[i]))
        return None


def report(name: str, trials: Sequence[Found | None], right_m: float, right_deg: float) -> None:
    found = [trial for trial in trials if trial is not None]
    right = [each for each in found if each.error_m <= right_m and each.error_deg <= right_deg]
    print(f"{name}: found {len(found)} of {len(trials)}, at a wrong place {len(found) - len(right)}", end="")
    if right:
        images, metres = ([getattr(each, field) for each in right] for field in ("images", "travelled_m"))
        print(
            f"; after {np.median(images):.0f} images (95 %: {np.percentile(images, 95):.0f}), {np.median(metres):.1f} m "
            f"(95 %: {np.percentile(metres, 95):.1f})"
        )
        errors_m, errors_deg = ([getattr(each, field) for each in right] for field in ("error_m", "error_deg"))
        print(
            f"  errors: median {np.median(errors_m):.2f} m, {np.median(errors_deg):.2f} deg; 95 %: {np.percentile(errors_m, 95):.2f} m, "
            f"{np.percentile(errors_deg, 95):.2f} deg; over the covariance's: median {np.median([each.sigmas for each in right]):.2f}",
            end="",
        )
    print()


def near(truth: Sequence[Pose], map_poses: Sequence[Pose], near_m: float, near_deg: float) -> np.ndarray:
    """(N,) whether the map has a keyframe at a pose."""
    places = np.array([pose[:3, 3] for pose in map_poses])
    ahead = np.array([pose[:3, 2] for pose in map_poses])
    there = []
    for pose in truth:
        is_near = np.linalg.norm(places - pose[:3, 3], axis=1) <= near_m
        there.append(bool(np.any(is_near & (ahead @ pose[:3, 2] >= np.cos(np.radians(near_deg))))))
    return np.array(there)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("source", type=Path, nargs="?", help="KITTI or TUM tree; default: the rendered town")
    parser.add_argument("--sequence", help="KITTI: which")
    parser.add_argument("--split", type=int, help="image with which the second part begins (default: amid)")
    parser.add_argument("--appearances", default="summer,winter", help=f"two of {', '.join(sorted(APPEARANCES))}")
    parser.add_argument("--every", type=int, default=10, help="images between two awakenings (default %(default)s)")
    parser.add_argument("--images", type=int, default=40, help="most images until found (default %(default)s)")
    parser.add_argument("--jump", type=int, default=60, help="images that it is carried (default %(default)s)")
    parser.add_argument("--near-m", type=float, default=5.0)
    parser.add_argument("--near-deg", type=float, default=30.0)
    parser.add_argument("--right-m", type=float, default=5.0)
    parser.add_argument("--right-deg", type=float, default=10.0)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a parameter")
    options = parser.parse_args()
    values = dict(each.split("=", 1) for each in options.set)
    known = Config.parameters()
    config = Config().with_values({name: known[name].type(value) for name, value in values.items()})
    with tempfile.TemporaryDirectory() as folder:
        if options.source is None:
            bag = Path(folder, "town")
            first, second = options.appearances.split(",")
            write_demo_bag(bag, 1, appearances=(first, second), progress=lambda steps: tqdm(steps, desc="render"))
            truth_of = {"ground_truth_topic": TRUTH_TOPIC, "image_topic": f"{IMAGE_TOPIC}/compressed"}
            source = open_source(bag, odometry_from_poses=True, **truth_of)
        else:
            source = open_source(options.source, options.sequence, odometry_from_poses=True)
        frames = [replace(frame, body_from_camera=np.eye(4)) for frame in source if frame.odom_from_body is not None]
    split = options.split or len(frames) // 2
    engine = open_reference(PlaceModel.open())
    place_map = mapped(frames[:split], config, engine)
    rest = frames[split:]
    truth = [frame.odom_from_body for frame in rest if frame.odom_from_body is not None]
    localizing = config.with_values({"map.mode": "localization"})
    there = near(
        truth, [k.odom_from_body for k in place_map if k.odom_from_body is not None], options.near_m, options.near_deg
    )
    awake: list[Found | None] = []
    carried: list[Found | None] = []
    starts = [i for i in range(0, len(rest) - options.images, options.every) if there[i : i + options.images].all()]
    print(
        f"{source.name}: a map of {len(place_map)} keyframes from {split} images; {len(starts)} awakenings in {len(rest)} more"
    )
    for start in tqdm(starts, desc="awakenings", disable=None):
        robot = Robot(localizing, engine, place_map, start)
        found = robot.until_found(rest[start : start + options.images], truth[start : start + options.images])
        awake.append(found)
        begin = start + (found.images if found else 0) + options.jump
        if found is not None and begin + options.images <= len(rest) and there[begin : begin + options.images].all():
            again = slice(begin, begin + options.images)
            carried.append(robot.until_found(rest[again], truth[again]))
    report("awake", awake, options.right_m, options.right_deg)
    if carried:
        report("carried", carried, options.right_m, options.right_deg)


if __name__ == "__main__":
    main()
