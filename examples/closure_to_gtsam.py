"""Loop closures as factors of a GTSAM pose graph: python examples/closure_to_gtsam.py SOURCE [--odom-topic /odom]

SOURCE is anything that `vpr replay` reads; `pip install gtsam` brings GTSAM. docs/slam_integration.md derives the conversion.
"""

from __future__ import annotations

import argparse
from typing import Any

import gtsam
import numpy as np

from vpr_ros import Config, LoopDetector, PlaceModel, open_engine, open_source
from vpr_ros.types import PlaceMatch


def closure_factor(
    match: PlaceMatch, query_key: int, match_key: int, body_from_camera: gtsam.Pose3 | None = None
) -> gtsam.BetweenFactorPose3 | None:
    """The constraint that an accepted match puts between two poses of the body; None where it has no relative pose.

    Without `body_from_camera` the poses are the camera's own. vpr_ros orders a covariance as translation, then rotation,
    about the axes of the match camera; GTSAM as rotation, then translation, about the axes of the query.
    """
    verification = match.verification
    if not match.accepted or verification is None or verification.match_from_query is None:
        return None
    turn, zero = verification.match_from_query[:3, :3].T, np.zeros((3, 3))
    to_gtsam = np.block([[zero, turn], [turn, zero]])
    measured = gtsam.Pose3(verification.match_from_query)
    if body_from_camera is not None:
        to_gtsam = body_from_camera.AdjointMap() @ to_gtsam
        measured = body_from_camera * measured * body_from_camera.inverse()
    noise = gtsam.noiseModel.Gaussian.Covariance(to_gtsam @ verification.covariance @ to_gtsam.T)
    cauchy = gtsam.noiseModel.mEstimator.Cauchy.Create(1.0)  # some accepted closures are wrong
    robust = gtsam.noiseModel.Robust.Create(cauchy, noise)
    return gtsam.BetweenFactorPose3(match_key, query_key, measured, robust)


def closure_graph(source: str, config: Config, **options: Any) -> gtsam.NonlinearFactorGraph:
    """The closures of a recording between its keyframes; the keys are their ids. Other frames have no key here."""
    detector = LoopDetector(config, open_engine(PlaceModel.open(config.model.path), config.engine))
    graph = gtsam.NonlinearFactorGraph()
    for frame in open_source(source, **options):
        match = detector.process(frame)
        if match.query and match.match:
            factor = closure_factor(match, match.query.id, match.match.id)
            if factor is not None:
                graph.add(factor)
    return graph


if __name__ == "__main__":
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__)
    parser.add_argument("source")
    parser.add_argument("--odom-topic")
    parser.add_argument("--config", help="parameter file, like config/presets/outdoor.yaml")
    arguments = parser.parse_args()
    parameters = Config.from_yaml(arguments.config) if arguments.config else Config()
    closures = closure_graph(arguments.source, parameters, odom_topic=arguments.odom_topic)
    print(f"{closures.size()} factors")
    for number in range(closures.size()):
        match_key, query_key = closures.at(number).keys()
        print(f"{match_key} <- {query_key}")
