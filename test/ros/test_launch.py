"""The launch file: checked as text everywhere, started for real where ROS 2 launch is installed (PyPI has none)."""

import ast
import json
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from shutil import which
from typing import Any

import pytest
import yaml

from vpr_ros.config import Config

ROOT = Path(__file__).parents[2]
LAUNCH_FILE = ROOT / "launch" / "vpr.launch.py"

# Stands in for every program: writes down how it was started.
PROGRAM = """#!{python}
import json, pathlib, sys
files = [sys.argv[i + 1] for i, word in enumerate(sys.argv) if word == "--params-file"]
start = {{"arguments": sys.argv[1:], "parameters": [pathlib.Path(file).read_text() for file in files]}}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(start))
"""


def literal(name: str) -> ast.Dict:
    """The dictionary that the launch file assigns to `name`, unevaluated: that needs ROS."""
    for statement in ast.parse(LAUNCH_FILE.read_text()).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == name:
            assert isinstance(statement.value, ast.Dict)
            return statement.value
    raise AssertionError(f"no {name} in {LAUNCH_FILE}")


def test_overrides_are_parameters_and_arguments() -> None:
    overrides = ast.literal_eval(literal("PARAMETERS"))
    assert set(overrides.values()) <= {*Config.parameters(), "use_sim_time"}
    assert set(overrides) <= {ast.literal_eval(key) for key in literal("ARGUMENTS").keys if key}


def camera_remappings(**arguments: str) -> list[tuple[str, str]]:
    """The launch file's function, without the imports around it: those need ROS."""
    tree = ast.parse(LAUNCH_FILE.read_text())
    functions = [f for f in tree.body if isinstance(f, ast.FunctionDef) and f.name in ("camera_remappings", "split")]
    names: dict[str, Any] = {"PurePosixPath": PurePosixPath}
    exec(compile(ast.Module(functions, []), str(LAUNCH_FILE), "exec"), names)
    return list(names["camera_remappings"](**{"cameras": "", "image_topics": "", "camera_info_topics": ""} | arguments))


def test_one_camera_is_remapped() -> None:
    assert camera_remappings() == [
        ("image", "image"),
        ("image/compressed", "image/compressed"),
        ("camera_info", "camera_info"),
    ]
    assert camera_remappings(image_topics="/cam/image_raw", camera_info_topics="/calibration") == [
        ("image", "/cam/image_raw"),
        ("image/compressed", "/cam/image_raw/compressed"),
        ("camera_info", "/calibration"),
    ]


def test_a_topic_of_jpegs_is_named_either_way() -> None:
    assert camera_remappings(image_topics="/cam/image_raw/compressed") == camera_remappings(
        image_topics="/cam/image_raw"
    )


def test_the_topics_of_a_rig_are_in_the_order_of_its_cameras() -> None:
    topics = {"image_topics": "/cam_f/image_raw, /cam_r/image_raw"}
    assert camera_remappings(cameras="front, rear", **topics) == [
        ("front/image", "/cam_f/image_raw"),
        ("front/image/compressed", "/cam_f/image_raw/compressed"),
        ("front/camera_info", "/cam_f/camera_info"),
        ("rear/image", "/cam_r/image_raw"),
        ("rear/image/compressed", "/cam_r/image_raw/compressed"),
        ("rear/camera_info", "/cam_r/camera_info"),
    ]
    by_default = camera_remappings(cameras="front,rear", camera_info_topics="/f,/r")
    assert by_default[::3] == [("front/image", "front/image"), ("rear/image", "rear/image")]
    assert by_default[2::3] == [("front/camera_info", "/f"), ("rear/camera_info", "/r")]


@pytest.mark.parametrize(
    "arguments", [{"image_topics": "/a"}, {"image_topics": "/a,/b,/c"}, {"camera_info_topics": "/a"}]
)
def test_a_rig_needs_a_topic_for_each_camera(arguments: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"(image|camera_info)_topic names [13] topics \(/a.*\) for 2 cameras"):
        camera_remappings(cameras="front,rear", **arguments)


def test_imports_only_what_every_ros_has() -> None:
    imported = {
        f"{node.module}.{alias.name}"
        for node in ast.walk(ast.parse(LAUNCH_FILE.read_text()))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert imported == {
        "launch.LaunchDescription",
        "ament_index_python.packages.PackageNotFoundError",
        "ament_index_python.packages.get_package_prefix",
        "launch.actions.DeclareLaunchArgument",
        "launch.actions.LogInfo",
        "launch.actions.OpaqueFunction",
        "launch.substitutions.LaunchConfiguration",
        "launch.substitutions.PathJoinSubstitution",
        "launch_ros.actions.Node",
        "launch_ros.parameter_descriptions.ParameterValue",
        "launch_ros.substitutions.FindPackageShare",
        "pathlib.Path",
        "pathlib.PurePosixPath",
        "shutil.which",
    }


@dataclass
class Start:
    arguments: list[str]
    parameters: dict[str, object]  # by dotted name; later files override earlier ones, as in ROS


Launch = Callable[..., dict[str, Start]]


@pytest.fixture
def prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation whose programs write down how they were started."""
    pytest.importorskip("launch_ros", reason="ROS 2 launch is not installed; it is not on PyPI")
    programs = [tmp_path / "lib/vpr_ros/vpr_node", tmp_path / "lib/rviz2/rviz2"]
    for program in programs:
        program.parent.mkdir(parents=True)
        program.write_text(PROGRAM.format(python=sys.executable))
        program.chmod(0o755)
        index = tmp_path / "share/ament_index/resource_index/packages" / program.parent.name
        index.parent.mkdir(parents=True, exist_ok=True)
        index.touch()
    (tmp_path / "share/vpr_ros").mkdir()
    (tmp_path / "share/vpr_ros/config").symlink_to(ROOT / "config")
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    monkeypatch.setenv("ROS_LOG_DIR", str(tmp_path / "log"))

    return tmp_path


@pytest.fixture
def launched(prefix: Path) -> Launch:
    """Launches with the given arguments and returns how each program was started; `status` is launch's own."""
    from launch import LaunchDescription, LaunchService
    from launch.actions import SetLaunchConfiguration

    def launch(status: int = 0, **arguments: str) -> dict[str, Start]:
        description = runpy.run_path(str(LAUNCH_FILE))["generate_launch_description"]()
        given = [SetLaunchConfiguration(name, value) for name, value in arguments.items()]
        service = LaunchService()
        service.include_launch_description(LaunchDescription([*given, description]))
        assert service.run() == status
        started = {}
        for report in prefix.glob("lib/*/*.json"):
            start = json.loads(report.read_text())
            trees = [tree["ros__parameters"] for text in start["parameters"] for tree in yaml.safe_load(text).values()]
            started[report.stem] = Start(start["arguments"], {k: v for tree in trees for k, v in flatten(tree)})
        return started

    return launch


def flatten(tree: dict[str, Any]) -> Iterator[tuple[str, object]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{leaf}", below) for leaf, below in flatten(value))
        else:
            yield name, value


def test_starts_with_the_defaults_of_the_parameter_file(launched: Launch) -> None:
    started = launched()
    assert set(started) == {"vpr_node"}
    assert started["vpr_node"].parameters == Config().flat()
    assert {"__node:=vpr", "image:=image", "camera_info:=camera_info", "odom:=odom"} <= set(
        started["vpr_node"].arguments
    )


def test_arguments_override_the_parameter_file(launched: Launch) -> None:
    node = launched(
        image_topic="/front/image_raw",
        image_transport="compressed",
        map="2024",  # a name, although it looks like a number
        model="/models/a b.onnx",
        namespace="robot",
        use_sim_time="True",
        map_mode="localization",
        robot="r1",
        initialpose="true",
        log_level="debug",
    )["vpr_node"]
    changed = {"node.image_transport": "compressed", "node.map": "2024", "model.path": "/models/a b.onnx"}
    changed |= {"map.mode": "localization", "node.robot": "r1", "relocalization.initialpose": True}
    assert node.parameters == Config().flat() | changed | {"use_sim_time": True}
    assert {"__ns:=/robot", "debug", "image:=/front/image_raw"} <= set(node.arguments)
    assert {"image/compressed:=/front/image_raw/compressed", "camera_info:=/front/camera_info"} <= set(node.arguments)


def test_a_topic_of_jpegs_sets_the_transport(launched: Launch) -> None:
    node = launched(image_topic="/front/image_raw/compressed")["vpr_node"]
    assert node.parameters["node.image_transport"] == "compressed"
    assert "image/compressed:=/front/image_raw/compressed" in node.arguments


def test_opens_rviz_on_demand(launched: Launch) -> None:
    rviz = launched(rviz="true", namespace="robot")["rviz2"]
    assert Path(rviz.arguments[rviz.arguments.index("-d") + 1]).samefile(ROOT / "config" / "vpr.rviz")
    assert {"__ns:=/robot", "/vpr/markers:=vpr/markers"} <= set(rviz.arguments)


def test_a_rig(launched: Launch) -> None:
    node = launched(cameras="front,rear", image_topic="/f/image_raw,/r/image_raw")["vpr_node"]
    assert node.parameters == Config().flat() | {"node.cameras": "front,rear"}
    assert {"front/image:=/f/image_raw", "rear/image/compressed:=/r/image_raw/compressed"} <= set(node.arguments)
    assert {"front/camera_info:=/f/camera_info", "odom:=odom"} <= set(node.arguments)


@pytest.mark.parametrize("gone", ["package", "program"])
def test_without_rviz2_recognition_goes_on(launched: Launch, prefix: Path, gone: str) -> None:
    if gone == "package":
        (prefix / "share/ament_index/resource_index/packages/rviz2").unlink()
    (prefix / "lib/rviz2/rviz2").unlink()
    assert set(launched(rviz="true")) == {"vpr_node"}
    assert set(launched(rviz="False")) == {"vpr_node"}


@pytest.mark.parametrize(
    "mistake",
    [
        {"params_file": "/nowhere.yaml"},
        {"rviz": "maybe"},
        {"use_sim_time": "maybe"},
        {"initialpose": "maybe"},
        {"map_mode": "walking"},
        {"log_level": "loud"},
        {"cameras": "front,rear", "image_topic": "/one"},
    ],
    ids=str,
)
def test_a_mistake_ends_the_launch_before_anything_is_started(launched: Launch, mistake: dict[str, str]) -> None:
    assert launched(status=1, **mistake) == {}


LAUNCH = """
import runpy, sys
from launch import LaunchService
service = LaunchService()
service.include_launch_description(runpy.run_path(sys.argv[1])["generate_launch_description"]())
print("launching", flush=True)
sys.exit(service.run())
"""
WAITS = """#!{python}
import os, pathlib, time
pathlib.Path(__file__).with_suffix(".pid").write_text(str(os.getpid()))
while True:
    time.sleep(0.1)
"""


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(which("setpriv") is None, reason="no setpriv (util-linux) here")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("is_started", [False, True], ids=["while launching", "while it runs"])
def test_a_signal_leaves_nothing_behind(prefix: Path, number: signal.Signals, is_started: bool) -> None:
    node = prefix / "lib/vpr_ros/vpr_node"
    node.write_text(WAITS.format(python=sys.executable))
    pid = node.with_suffix(".pid")
    launch = subprocess.Popen([sys.executable, "-c", LAUNCH, str(LAUNCH_FILE)], stdout=subprocess.PIPE, text=True)
    assert launch.stdout is not None
    assert launch.stdout.readline() == "launching\n"
    while is_started and not (pid.exists() and pid.read_text()):
        assert launch.poll() is None
        time.sleep(0.05)
    while launch.poll() is None:  # again, as a user does: launch may lose one that comes while it sets up its handlers
        launch.send_signal(number)
        time.sleep(0.5)
    while pid.exists() and pid.read_text() and is_running(int(pid.read_text())):
        time.sleep(0.05)  # to the end of the test's time, if it is left behind
