"""`vpr demo`: a rendered town, a bag of it, and the real node."""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from vpr_ros.errors import VprError

CHECKOUT = Path(__file__).resolve().parents[2]


def add(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Render a small world with a loop, write it as a ROS 2 bag, play it to a vpr_node process over DDS, "
        "and report what the node published."
    )
    command.epilog = "examples:\n  vpr demo\n  vpr demo --rate 3 --out /tmp/demo"
    command.set_defaults(run=_demo)
    command.add_argument("--out", type=Path, default=Path("runs"), help="where the run folder is made (default runs/)")
    command.add_argument(
        "--rate", type=float, default=1.0, help="play the bag this much faster than real time (default 1)"
    )
    command.add_argument("--seed", type=int, default=7, help="which world (default 7)")


def _demo(options: argparse.Namespace) -> int:
    """In a process of its own: the command line knows no ROS, and the demo world is no part of the installed package."""
    if not (CHECKOUT / "demo_world").is_dir():
        raise VprError("the demo is part of a checkout, not of an installed vpr_ros: in a clone of it run `make demo`")
    for module in ("rclpy", "vpr_msgs", "panda3d"):
        if importlib.util.find_spec(module) is None:
            raise VprError(
                f"the demo needs {module}, which is not installed here: `make demo` in {CHECKOUT} installs all"
            )
    path = os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH")]))
    arguments = ["--out", str(options.out), "--rate", str(options.rate), "--seed", str(options.seed)]
    return subprocess.call([sys.executable, "-m", "demo_world.demo", *arguments], env=os.environ | {"PYTHONPATH": path})
