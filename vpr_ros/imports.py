"""What to type where a module does not import: a package that is missing, of another NumPy, or ROS that is not sourced."""

from __future__ import annotations

from types import TracebackType

from vpr_ros.machine import Machine, ProcessFailed, numpy_complaint
from vpr_ros.printable import on_one_line

IMPORT_FAILURES = (ImportError, AttributeError, SystemError)
"""What an import raises where something installed is broken; the last two come from modules that were built for another NumPy."""
BUILD_MESSAGES = (
    "source install/setup.bash    # not built? ln -s vpr_ros/vpr_msgs WORKSPACE/src/ and colcon build; "
    "without colcon: pip install ./vpr_msgs in the checkout"
)
SOURCE_ROS = "source /opt/ros/$ROS_DISTRO/setup.bash; source install/setup.bash"
PACKAGES = {
    "apsw": "rosbags", "cv2": "opencv-python-headless", "faiss": "faiss-cpu", "jinja2": "Jinja2", "yaml": "PyYAML",
}  # fmt: skip
"""Modules whose package for pip has another name."""
_ROS, _ROS_INTERFACES = ("rcl", "rpyutils", "ament_", "rosidl_"), ("_msgs", "_interfaces", "_srvs")
_OURS = ("vpr_ros", "importlib", "__main__")


def import_failure(error: BaseException, machine: Machine | None = None) -> str:
    """One line: which module does not import, why, and what to type."""
    reason = on_one_line(f"{type(error).__name__}: {error}")
    reason += numpy_complaint(reason)
    missing = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    module = _failed(error.__traceback__) or missing
    found = f"{module} does not import: {reason}" if module else reason
    return f"{found}; type: {_fix(machine or Machine(), module, missing, reason)}"


def _fix(machine: Machine, module: str, missing: str, reason: str) -> str:
    if "vpr_msgs" in (module, missing):
        return BUILD_MESSAGES
    if module.startswith(_ROS) or module.endswith(_ROS_INTERFACES):
        return SOURCE_ROS
    if missing and missing != "numpy":
        return machine.pip_install(PACKAGES.get(missing, missing))
    if "compiled for" in reason:
        newer = machine.pip_install(PACKAGES.get(module, module), options="--force-reinstall")
        return machine.fix(ProcessFailed(reason), newer)
    return machine.fix(ProcessFailed(reason), "vpr doctor    # names what is wrong, and what to type")


def _failed(traceback: TracebackType | None) -> str:
    """The first module that is none of ours on the way to where it failed."""
    while traceback is not None:
        name = str(traceback.tb_frame.f_globals.get("__name__", ""))
        if name and name.partition(".")[0] not in _OURS:
            return name.partition(".")[0]
        traceback = traceback.tb_next
    return ""
