"""`vpr demo`: a rendered town, a bag of it, and the real node."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
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
