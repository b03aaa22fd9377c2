"""`python -m vpr_ros.ros.doctor`: watch, and print what was found."""

from __future__ import annotations

import argparse
import json

import rclpy

from vpr_ros.ros.doctor import findings
from vpr_ros.ros.doctor.watcher import Watcher


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__)
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--image-transport", choices=("raw", "compressed"), default="raw")
    parser.add_argument("--max-odometry-age", type=float, default=0.2)
    parser.add_argument("--no-odometry", action="store_true")
    options = parser.parse_args()
    rclpy.init(args=[])
    watcher = Watcher()
    try:
        graph = watcher.watch(options.seconds)
        found = findings(graph, options.image_transport, options.max_odometry_age, not options.no_odometry)
    finally:
        watcher.close()
        rclpy.try_shutdown()
    if options.json:
        print(json.dumps([finding.to_json() for finding in found]))
    else:
        print("\n".join(line for finding in found for line in finding.lines()))


if __name__ == "__main__":
    main()
