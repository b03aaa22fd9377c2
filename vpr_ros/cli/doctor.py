"""`vpr doctor`: is this robot fit to recognise places, and what to type if not."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from functools import partial

from vpr_ros.cli.config import add_config, config_of
from vpr_ros.doctor import Finding, Level, checks, examine, summary, watch_graph
from vpr_ros.doctor.finding import size_text
from vpr_ros.doctor.shared_memory import leftovers, remove
from vpr_ros.machine import Machine

EXAMPLES = """\
examples:
  vpr doctor                                   # before the first start, and whenever no image arrives
  vpr doctor --config my_robot.yaml --map lab  # the parameters and the map of your robot
  vpr doctor --clear-shared-memory             # after ROS processes were killed
  vpr doctor --json > doctor.json              # to send to somebody who helps

exit status: 0 without errors (warnings do not count), 1 with errors
"""


def add(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Check Python, ROS, the libraries, GPU, model, map, disk and memory, and watch the camera topics."
    )
    command.epilog = EXAMPLES
    command.set_defaults(run=_doctor)
    add_config(command)
    command.add_argument("--map", default="", metavar="NAME", help="a map that must load with this model")
    command.add_argument(
        "--seconds", type=_duration, default=3.0, help="listen to each ROS topic for so long (default %(default)s)"
    )
    command.add_argument(
        "--clear-shared-memory",
        action="store_true",
        help="remove what ROS processes that died left in /dev/shm, no more, and end",
    )
    command.add_argument("--json", action="store_true", help="print everything as JSON")


def _doctor(options: argparse.Namespace) -> int:
    config = config_of(options)
    machine = Machine()
    if options.clear_shared_memory:
        print(f"removed {size_text(remove(leftovers(machine)))} that processes that died left in /dev/shm")
        return 0
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    findings: list[Finding] = []
    graph = partial(watch_graph, machine, config, options.seconds)
    for finding in examine(checks(machine, config, options.map), graph):
        findings.append(finding)
        if not options.json:
            print("\n".join(finding.lines(colour)), flush=True)
    if options.json:
        answer = {"findings": [finding.to_json() for finding in findings], "summary": summary(findings)}
        print(json.dumps(answer, indent=2))
    else:
        print(f"\n{summary(findings)}")
    return int(any(finding.level is Level.ERROR for finding in findings))


def _duration(text: str) -> float:
    seconds = float(text)
    if not (math.isfinite(seconds) and 0 < seconds <= 600):
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 600 seconds")
    return seconds
