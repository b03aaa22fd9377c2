"""A rendered street world with exact ground truth: for the demo, for tests and for training.

Everything is procedural: `DemoWorld(seed, appearance)` renders two city blocks on the CPU, `loop_trajectory` drives
around them. Needs the optional Panda3D (`pip install vpr_ros[demo]`).
"""

from demo_world.appearance import APPEARANCES, Appearance, random_appearance
from demo_world.scenery import Label
from demo_world.streets import Streets, loop_trajectory
from demo_world.world import DEMO_CAMERA, DemoWorld, View

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
