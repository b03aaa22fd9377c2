"""A rendered street world with exact ground truth: for the demo, for tests and for training.

Everything is procedural: `DemoWorld(seed, appearance)` renders two city blocks on the CPU, `loop_trajectory` drives
around them. Needs the optional Panda3D (`pip install vpr_ros[demo]`).
"""

from vpr_ros.demo_world.appearance import APPEARANCES, Appearance, random_appearance
from vpr_ros.demo_world.scenery import Label
from vpr_ros.demo_world.streets import Streets, loop_trajectory
from vpr_ros.demo_world.world import DEMO_CAMERA, DemoWorld, View

__all__ = [
    "APPEARANCES",
    "DEMO_CAMERA",
    "Appearance",
    "DemoWorld",
    "Label",
    "Streets",
    "View",
    "loop_trajectory",
    "random_appearance",
]
