"""Robots exchange keyframes: each ends up with those of all (docs/fleet.md). No ROS, no clock: messages in, messages out."""
