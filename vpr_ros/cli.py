"""The command line: `vpr demo | replay`. The library raises; only this module exits."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from tqdm import tqdm

from vpr_ros.config import Config
from vpr_ros.errors import ConfigError, VprError
from vpr_ros.evaluation.ground_truth import Protocol
from vpr_ros.replay import replay_to_folder
from vpr_ros.run_folder import new_folder, summary_lines
from vpr_ros.sources import open_source
from vpr_ros.types import Frame

REPLAY_EXAMPLES = """\
examples:
  vpr replay /data/kitti --sequence 00
  vpr replay /data/rgbd_dataset_freiburg1_desk
  vpr replay drive_bag/ --image-topic /camera/image_raw --odom-topic /odom --ground-truth-topic /gps/odom
  vpr replay walk.mp4 --set match.min_similarity=0.4 --set verification.features=orb
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `vpr`: exit status 0, 2 with a one-line reason for a user's mistake, 130 when interrupted."""
    options = _parser().parse_args(arguments)
    try:
        sys.exit(options.run(options))
    except VprError as error:
        print(f"vpr: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vpr", description="Loop closure by visual place recognition.")
    commands = parser.add_subparsers(required=True, metavar="command")
    _add_replay(commands)
    _add_demo(commands)
    return parser


def _add_replay(commands: Any) -> None:
    command = commands.add_parser(
        "replay",
        help="run a recording through the loop detector and report",
        description="Run a recording (KITTI or TUM tree, image folder, video, ROS 2 bag) through the loop detector.",
        epilog=REPLAY_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=_replay)
    command.add_argument("source", type=Path, help="folder, bag or video")
    command.add_argument("--sequence", help="KITTI: which sequence")
    command.add_argument("--camera", help="KITTI: which camera folder (default image_0)")
    command.add_argument("--rate-hz", type=float, help="image folder: frames per second (default 10)")
    command.add_argument("--image-topic", help="bag: which images (default: the only image topic)")
    command.add_argument("--camera-info-topic", help="bag: intrinsics (default: beside the images)")
    command.add_argument("--odom-topic", help="bag: nav_msgs/Odometry for keyframes and gating")
    command.add_argument("--ground-truth-topic", help="bag: true camera poses, for the metrics only")
    command.add_argument("--ground-truth-file", type=Path, help="true camera poses in TUM format, for the metrics only")
    command.add_argument(
        "--odometry-from-poses",
        action="store_true",
        default=None,
        help="use the true poses as odometry (said in the report)",
    )
    command.add_argument("--config", type=Path, help="parameter file like config/vpr.yaml")
    command.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="one parameter, repeatable")
    command.add_argument("--model", help="ONNX model (default: the shipped one)")
    command.add_argument("--out", type=Path, default=Path("runs"), help="where the run folder is made (default runs/)")
    defaults = Protocol()
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
    "odometry_from_poses",
)  # fmt: skip


def _replay(options: argparse.Namespace) -> int:
    config = _config(options)
    source = open_source(options.source, options.sequence, **{name: getattr(options, name) for name in SOURCE_OPTIONS})
    protocol = Protocol(options.revisit_m, options.match_m, options.max_angle_deg, options.exclusion_s)
    now = datetime.now()
    folder = new_folder(options.out, f"{now:%Y%m%d-%H%M%S}-{_as_file_name(source.name)}")

    def progress(frames: Iterable[Frame]) -> Iterable[Frame]:
        return tqdm(frames, total=len(source) or None, desc="replay", unit="frame", disable=None)

    run = replay_to_folder(
        source, config, folder, created=f"{now:%Y-%m-%d %H:%M}", protocol=protocol, progress=progress
    )
    print("\n".join(summary_lines(run)))
    print(f"report: {folder / 'report.html'}")
    return 0


def _config(options: argparse.Namespace) -> Config:
    config = Config() if options.config is None else Config.from_yaml(options.config)
    values: dict[str, Any] = {}
    for assignment in options.set:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise ConfigError(f"--set needs NAME=VALUE, not {assignment!r}")
        try:
            values[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {assignment}: {value!r} is no value") from error
    if options.model is not None:
        values["model.path"] = options.model
    return config.with_values(values)


def _as_file_name(text: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in text).strip("-.")[:60] or "run"


def _add_demo(commands: Any) -> None:
    command = commands.add_parser(
        "demo",
        help="render a world, play it to the real node as a bag, and report",
        description="Render a small world with a loop, write it as a ROS 2 bag, play it to a vpr_node process over DDS, "
        "and report what the node published.",
        epilog="examples:\n  vpr demo\n  vpr demo --rate 3 --out /tmp/demo",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=_demo)
    command.add_argument("--out", type=Path, default=Path("runs"), help="where the run folder is made (default runs/)")
    command.add_argument(
        "--rate", type=float, default=1.0, help="play the bag this much faster than real time (default 1)"
    )
    command.add_argument("--seed", type=int, default=7, help="which world (default 7)")


def _demo(options: argparse.Namespace) -> int:
    # a process of its own: the command line knows no ROS
    arguments = ["--out", str(options.out), "--rate", str(options.rate), "--seed", str(options.seed)]
    return subprocess.call([sys.executable, "-m", "vpr_ros.ros.demo", *arguments])


if __name__ == "__main__":
    main()
