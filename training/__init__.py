"""Trains the models that vpr_ros runs. Used from a checkout, never installed on a robot.

The modules here are commands (`python -m training.train --help`), and what they are about: a recipe, an experiment, the
catalog of sources. The folders do the work.
"""

import vpr_ros  # noqa: F401  # before any other library: it switches off what they report to their makers
