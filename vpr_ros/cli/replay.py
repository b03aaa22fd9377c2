"""`vpr replay`: a recording -> a run folder."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from tqdm import tqdm

from vpr_ros.cli.config import add_config, config_of
from vpr_ros.errors import SourceError
from vpr_ros.evaluation.ground_truth import RevisitProtocol
from vpr_ros.evaluation.run_folder import new_folder, summary_lines
from vpr_ros.printable import printable
from vpr_ros.replay import replay_to_folder
from vpr_ros.sources import open_source
from vpr_ros.types import Frame

EXAMPLES = """\
examples:
  vpr replay /data/kitti --sequence 00
  vpr replay /data/rgbd_dataset_freiburg1_desk
  vpr replay drive_bag/ --image-topic /camera/image_raw --odom-topic /odom --ground-truth-topic /gps/odom
  vpr replay images/ --rate-hz 10 --ground-truth-file poses.txt
  vpr replay monday_bag/ --map lab.vprmap && vpr replay tuesday_bag/ --map lab.vprmap
  vpr replay walk.mp4 --set match.min_similarity=0.4 --set verification.features=orb
"""


def add(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Run a recording (KITTI or TUM tree, image folder, video, ROS 2 bag) through the loop detector."
    )
    command.epilog = EXAMPLES
    command.set_defaults(run=_replay)
    command.add_argument("source", type=Path, help="folder, bag or video")
    command.add_argument("--sequence", help="KITTI: which sequence")
    command.add_argument("--camera", help="KITTI: which camera folder (default image_0)")
    command.add_argument("--rate-hz", type=float, help="image folder: frames per second (default 10)")
    command.add_argument("--image-topic", help="bag: which images (default: the only image topic)")
    command.add_argument("--camera-info-topic", help="bag: intrinsics (default: beside the images)")
    command.add_argument("--odom-topic", help="bag: nav_msgs/Odometry for keyframes and gating")
    command.add_argument("--ground-truth-topic", help="bag: true camera poses, for the metrics only")
    command.add_argument(
        "--ground-truth-file",
        type=Path,
        help="true camera poses, for the metrics only: TUM rows, a csv with a header (EuRoC), or KITTI rows, one for each "
        "image; poses are interpolated, and stamps in ms, us or ns recognised",
    )
    command.add_argument(
        "--ground-truth-offset-s",
        type=float,
        help="added to the stamps of the true poses, where their clock is not the images'",
    )
    command.add_argument(
        "--ground-truth-gap-s",
        dest="max_gap_s",
        type=float,
        help="interpolate between true poses at most this far apart (default: what an error of a quarter of --revisit-m "
        f"allows, {RevisitProtocol().gap_s:.2f} s for {RevisitProtocol().revisit_m:g} m)",
    )
    command.add_argument(
        "--odometry-from-poses",
        action="store_true",
        default=None,
        help="use the true poses as odometry (said in the report)",
    )
    command.add_argument(
        "--map",
        type=Path,
        metavar="FILE",
        help="search this map, too, and record into it; made if there is none (--set map.mode=localization: only search)",
    )
    command.add_argument(
        "--verify-all",
        action="store_true",
        help="verify also what the descriptors refuse, and refuse it all the same: matches.csv has all evidence then (slower)",
    )
    add_config(command)
    command.add_argument("--out", type=Path, default=Path("runs"), help="where the run folder is made (default runs/)")
    defaults = RevisitProtocol()
    command.add_argument(
        "--revisit-m", type=float, default=defaults.revisit_m, help="true revisit: within (default %(default)s m)"
    )
    command.add_argument(
        "--match-m", type=float, default=defaults.match_m, help="right match: within (default %(default)s m)"
    )
    command.add_argument(
        "--max-angle-deg",
        type=float,
        default=defaults.max_angle_deg,
        help="and turned by at most (default %(default)s)",
    )
    command.add_argument(
        "--exclusion-s", type=float, default=defaults.exclusion_s, help="and older than (default %(default)s s)"
    )


SOURCE_OPTIONS = (
    "camera", "rate_hz", "image_topic", "camera_info_topic", "odom_topic", "ground_truth_topic", "ground_truth_file",
    "ground_truth_offset_s", "odometry_from_poses",
)  # fmt: skip


def _replay(options: argparse.Namespace) -> int:
    config = config_of(options)
    source = open_source(options.source, options.sequence, **{name: getattr(options, name) for name in SOURCE_OPTIONS})
    protocol = RevisitProtocol(
        options.revisit_m, options.match_m, options.max_angle_deg, options.exclusion_s, options.max_gap_s
    )
    now = datetime.now()
    folder = new_folder(options.out, f"{now:%Y%m%d-%H%M%S}-{_as_file_name(source.name)}")

    def progress(frames: Iterable[Frame]) -> Iterable[Frame]:
        return tqdm(frames, total=len(source) or None, desc="replay", unit="frame", disable=None)

    run = replay_to_folder(
        source,
        config,
        folder,
        created=f"{now:%Y-%m-%d %H:%M}",
        protocol=protocol,
        progress=progress,
        map_file=options.map,
        verify_all=options.verify_all,
    )
    print(printable("\n".join(summary_lines(run))))
    print(printable(f"report: {folder / 'report.html'}"))
    if not run.matches:
        raise SourceError(f"{options.source}: not one image could be used")
    return 0


def _as_file_name(text: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in text).strip("-.")[:60] or "run"
