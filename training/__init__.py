"""Trains the models that vpr_ros runs. Used from a checkout, never installed on a robot."""
