"""Your own robot's bags: images and odometry become a data set, in the file names that other VPR tools read too.

    python -m training.data.readers.rosbag drive_1/ drive_2/ --out my_robot/ --odometry-topic /odom

makes `my_robot/drive_1/@easting@northing@...@heading@...@.jpg`; the reader makes the same folders in its cache.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from tqdm import tqdm

from training.data.image_set import ImageSet, heading_from_compass
from training.data.planar import planar_pose, world_up
from training.data.readers.base import Reader
from training.data.readers.image_cache import encode_jpeg, fill_once
from training.data.readers.utm_names import read_name, write_name
from vpr_ros.bags.reader import Bag, is_bag_file
from vpr_ros.errors import SourceError, VprError
from vpr_ros.rotations import BODY_FROM_OPTICAL, quaternion_to_matrix, rotation_angle_deg
from vpr_ros.sources import BagSource
from vpr_ros.sources.bag import ODOMETRY
from vpr_ros.types import Pose

_BODY_UP = (0.0, 0.0, 1.0)
"""Of odometry by REP 103: x forward, y left, z up."""
_ABOUT = "about.json"


class Rosbag(Reader):
    """Keyframes of rosbag2 `bags`, each a set and a sequence of its own: odometry begins anew with every recording.

    - `one_world`: all bags are posed in one frame (a map that the robot localised in), so they are one set;
    - `image_topic`, `odometry_topic` (nav_msgs/Odometry) may be left empty where a bag has just one;
    - `every_m`, `every_deg`: a keyframe is taken after so much motion, whichever comes first;
    - `odometry_of`: "body" (x forward; the camera looks `camera_yaw_deg` to the left of that) or "camera", which then is
      an optical frame (z forward);
    - `cache`: each bag is extracted once, into a folder whose name changes with the bag and these options.

    What was wrong with a bag (it was cut short, images were unreadable, odometry was missing) is printed at every use.
    """

    kind: Literal["rosbag"] = "rosbag"
    bags: tuple[str, ...] = Field(min_length=1)
    one_world: bool = False
    image_topic: str = ""
    odometry_topic: str = ""
    every_m: float = Field(default=0.5, gt=0)
    every_deg: float = Field(default=15.0, gt=0)
    odometry_of: Literal["body", "camera"] = "body"
    camera_yaw_deg: float = 0.0
    cache: Path = Path(".training/cache/bags")

    def read(self, data_root: Path) -> list[ImageSet]:
        folders = {}
        for name in self.bags:
            bag = data_root / self.path / name
            folders[name] = self.cache / f"{_folder_name(bag)}-{self._key(bag)}"
            fill_once(folders[name], partial(self.extract, bag))
            for note in _notes(folders[name]):
                print(f"{name}: {note}", file=sys.stderr)
        groups = [folders] if self.one_world else [{name: folder} for name, folder in folders.items()]
        return [_read_folders(group) for group in groups]

    def extract(self, bag: Path, folder: Path) -> None:
        """Write the keyframes of one bag, and what was wrong with it, into the empty `folder`."""
        source = BagSource(bag, self.image_topic, odom_topic=self.odometry_topic or _only_odometry(bag))
        stamps: list[int] = []
        poses: list[Pose] = []
        for frame in tqdm(source, desc=source.name, total=len(source), unit="image"):
            pose = frame.odom_from_body
            if pose is not None and (not poses or self._moved(poses[-1], pose)):
                (folder / f"{frame.stamp_ns}.jpg").write_bytes(encode_jpeg(frame.image))
                stamps.append(frame.stamp_ns)
                poses.append(pose)
        if not poses:
            raise SourceError(f"{bag}: no image can be read that has odometry: {'; '.join(source.notes)}")
        positions, headings = self._planar(np.array(poses))
        for stamp, position, heading in zip(stamps, positions, headings, strict=True):
            (folder / f"{stamp}.jpg").rename(folder / utm_name(position, heading, stamp))
        about = {"bag": str(bag), "options": self._extraction_options(), "notes": source.notes}
        (folder / _ABOUT).write_text(json.dumps(about, indent=2) + "\n")

    def _moved(self, before: Pose, now: Pose) -> bool:
        motion = np.linalg.inv(before) @ now
        return bool(np.linalg.norm(motion[:3, 3]) >= self.every_m or rotation_angle_deg(motion) >= self.every_deg)

    def _planar(self, poses: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        if self.odometry_of == "camera":
            return planar_pose(poses, world_up(poses))
        body_from_camera = np.eye(4)
        half = np.radians(self.camera_yaw_deg) / 2
        yaw = quaternion_to_matrix([0.0, 0.0, np.sin(half), np.cos(half)])
        body_from_camera[:3, :3] = yaw @ BODY_FROM_OPTICAL
        return planar_pose(poses @ body_from_camera, _BODY_UP)

    def _extraction_options(self) -> dict[str, object]:
        return self.model_dump(exclude={"kind", "path", "bags", "one_world", "cache"})

    def _key(self, bag: Path) -> str:
        """Changes with the bag's files and with every option that changes what is extracted."""
        if not bag.exists():
            raise SourceError(f"{bag}: no such file or folder")
        files = [bag] if bag.is_file() else [path for path in bag.iterdir() if path.is_file()]
        kept = sorted(path.resolve() for path in files if not path.name.endswith("-shm"))  # SQLite's, made by reading
        content = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in kept]
        return hashlib.sha256(f"{content}{self._extraction_options()}".encode()).hexdigest()[:12]


def utm_name(position_m: NDArray[np.float64], heading_rad: float, stamp_ns: int) -> str:
    """File name of a keyframe, in cm and 1/100 deg of the compass; the note is the stamp in ns."""
    easting, northing = (f"{metres:010.2f}" for metres in position_m)
    fields = {
        "easting": easting,
        "northing": northing,
        "timestamp": f"{datetime.fromtimestamp(stamp_ns // 10**9, timezone.utc):%Y%m%d_%H%M%S}",
        "note": str(stamp_ns),
    }
    if np.isfinite(heading_rad):
        fields["heading"] = f"{round(np.degrees(np.pi / 2 - heading_rad), 2) % 360:06.2f}"
    return write_name(fields)


def _folder_name(bag: Path) -> str:
    bag = bag.resolve()
    if not is_bag_file(bag):
        return bag.name
    inner = Path(bag.stem)  # `x.mcap` of `x.mcap.zstd`
    return inner.stem if is_bag_file(inner) else inner.name


def _only_odometry(bag: Path) -> str:
    with Bag(bag) as opened:
        found = sorted(name for name, topic in opened.topics.items() if topic.type == ODOMETRY)
    if len(found) != 1:
        raise SourceError(f"{bag}: set odometry_topic; its {ODOMETRY} topics are {', '.join(found) or 'none'}")
    return found[0]


def _notes(folder: Path) -> list[str]:
    return list(json.loads((folder / _ABOUT).read_text())["notes"])


def _read_folders(folders: Mapping[str, Path]) -> ImageSet:
    """The extracted images of bags by name, in the order of time."""
    files = [
        (name, path, read_name(path))
        for name, folder in folders.items()
        for path in sorted(folder.glob("@*.jpg"), key=lambda path: int(read_name(path)["note"]))
    ]
    return ImageSet.of(
        " + ".join(folders),
        [path for _, path, _ in files],
        positions_m=[[float(fields["easting"]), float(fields["northing"])] for _, _, fields in files],
        headings_rad=heading_from_compass([float(fields["heading"] or "nan") for _, _, fields in files]),
        sequences=[name for name, _, _ in files],
    )


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="python -m training.data.readers.rosbag",
        description="Extract posed keyframes from ROS 2 bags.",
    )
    made.add_argument("bags", nargs="+", metavar="BAG")
    made.add_argument("--out", type=Path, required=True, help="folder that gets one folder of images per bag")
    for name in ("image_topic", "odometry_topic", "every_m", "every_deg", "odometry_of", "camera_yaw_deg"):
        default = Rosbag.model_fields[name].default
        made.add_argument(f"--{name.replace('_', '-')}", default=default, help=f"default: {default!r}")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Exit status 0, or 2 with a one-line reason for a user's mistake."""
    options = vars(parser().parse_args(arguments))
    out = options.pop("out")
    try:
        reader = Rosbag.checked(options, "options")
        for bag in map(Path, reader.bags):
            folder = out / _folder_name(bag)
            if folder.exists():
                raise SourceError(f"{folder} exists already; remove it or choose another --out")
            fill_once(folder, partial(reader.extract, bag))
            print(f"{folder}: {len(list(folder.glob('@*.jpg')))} keyframes", *_notes(folder), sep="\n  note: ")
    except VprError as error:
        parser().error(str(error))


if __name__ == "__main__":
    main()
