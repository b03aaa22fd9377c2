"""A ROS 2 bag as a pose graph: python examples/bag_to_g2o.py BAG OUT.g2o [--odom-topic /odom]

Edges are the accepted loop closures; where the odometry is the camera's own, its steps are edges too. `vpr replay` writes the same file and more.
"""

import argparse

from vpr_ros import Config, open_source
from vpr_ros.evaluation.closure_files import write_g2o
from vpr_ros.replay import replay

parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__)
parser.add_argument("bag")
parser.add_argument("out")
parser.add_argument("--odom-topic")
parser.add_argument("--config", help="parameter file, like config/presets/outdoor.yaml")
arguments = parser.parse_args()

config = Config.from_yaml(arguments.config) if arguments.config else Config()
done = replay(open_source(arguments.bag, odom_topic=arguments.odom_topic), config)
write_g2o(arguments.out, done.matches, done.odometry, config.odometry.drift_per_m)
print(f"{arguments.out}: {sum(match.accepted for match in done.matches)} loop closures in {len(done.matches)} images")
