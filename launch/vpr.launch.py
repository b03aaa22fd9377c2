"""Starts place recognition: `ros2 launch vpr_ros vpr.launch.py image_topic:=/camera/image_raw`.

A rig of cameras: `cameras:=front,rear image_topic:=/cam_f/image_raw,/cam_r/image_raw`.
`ros2 launch vpr_ros vpr.launch.py --show-args` lists the arguments.
"""

from pathlib import Path, PurePosixPath
from shutil import which

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

CONFIG = PathJoinSubstitution([FindPackageShare("vpr_ros"), "config"])

ARGUMENTS = {  # name: (default, description)
    "cameras": ("", "names of a rig's cameras, like front,rear; empty: what params_file says, which is one camera"),
    "image_topic": (
        "",
        "camera images; .../compressed sets image_transport, too; of a rig one per camera, separated by commas; "
        "empty: image, of a rig front/image, ...",
    ),
    "camera_info_topic": ("", "calibration, likewise; empty: camera_info beside the image topic"),
    "odom_topic": ("odom", "odometry of the robot; it is optional"),
    "image_transport": ("", "raw or compressed; empty: what params_file says"),
    "model": ("", "ONNX model file; empty: what params_file says, which is the model that ships with vpr_ros"),
    "map": ("", "name of the map to record into, made if there is none; empty: what params_file says, which is none"),
    "map_mode": (
        "",
        "mapping or localization, which only searches the map; empty: what params_file says, which is mapping",
    ),
    "initialpose": (
        "",
        "true: publish initialpose when the robot is found in the map; empty: what params_file says, which is false",
    ),
    "robot": ("", "name of this robot in a fleet; empty: what params_file says, which is none"),
    "use_sim_time": ("", "true with a simulator or a bag; empty: what params_file says, which is false"),
    "params_file": (PathJoinSubstitution([CONFIG, "vpr.yaml"]), "parameters of the node"),
    "namespace": ("", "namespace of the node and of relative topics"),
    "log_level": ("info", "debug, info, warn, error or fatal"),
    "rviz": ("false", "also open RViz (needs rviz2)"),
}

# launch that gets SIGTERM ends without what it started; so does one that is killed. The kernel then ends the node, which saves its map.
END_WITH_LAUNCH = "setpriv --pdeathsig TERM" if which("setpriv") else ""
TRUE, FALSE = ("true", "1"), ("false", "0")  # as launch reads them
BOOLEANS = (*TRUE, *FALSE)
SWITCHES = ("use_sim_time", "initialpose")
LOG_LEVELS = ("debug", "info", "warn", "error", "fatal", "unset")

PARAMETERS = {  # argument: the parameter that it overrides, if it is given
    "cameras": "node.cameras",
    "image_transport": "node.image_transport",
    "model": "model.path",
    "map": "node.map",
    "robot": "node.robot",
    "map_mode": "map.mode",
    "initialpose": "relocalization.initialpose",
    "use_sim_time": "use_sim_time",
}


def camera_remappings(cameras, image_topics, camera_info_topics):
    """From the topics of the node to those of the cameras, which are given in the order of `cameras`."""
    prefixes = [f"{camera}/" for camera in split(cameras)] or [""]
    images = [image.removesuffix("/compressed") for image in split(image_topics)]
    images = images or [f"{prefix}image" for prefix in prefixes]
    camera_infos = split(camera_info_topics) or [str(PurePosixPath(image).with_name("camera_info")) for image in images]
    for argument, topics in (("image_topic", images), ("camera_info_topic", camera_infos)):
        if len(topics) != len(prefixes):
            raise ValueError(f"{argument} names {len(topics)} topics ({','.join(topics)}) for {len(prefixes)} cameras")
    for prefix, image, camera_info in zip(prefixes, images, camera_infos, strict=True):
        yield f"{prefix}image", image
        yield f"{prefix}image/compressed", f"{image}/compressed"  # ROS does not derive this one from the one above
        yield f"{prefix}camera_info", camera_info


def split(words):
    return [word.strip() for word in words.split(",") if word.strip()]


def is_compressed(image_topics):
    """Whether the topics are named as image_transport names jpegs."""
    return any(topic.endswith("/compressed") for topic in split(image_topics))


def start(context):
    argument = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    check(argument)
    given = {
        parameter: ParameterValue(LaunchConfiguration(name), value_type=bool if name in SWITCHES else str)
        for name, parameter in PARAMETERS.items()
        if argument[name]
    }
    if is_compressed(argument["image_topic"]) and not argument["image_transport"]:
        given["node.image_transport"] = "compressed"
    node = Node(
        package="vpr_ros",
        executable="vpr_node",
        name="vpr",
        namespace=argument["namespace"],
        parameters=[argument["params_file"], given],
        remappings=[
            *camera_remappings(*(argument[name] for name in ("cameras", "image_topic", "camera_info_topic"))),
            ("odom", argument["odom_topic"]),
        ],
        ros_arguments=["--log-level", argument["log_level"]],
        output="screen",
        prefix=LaunchConfiguration("launch-prefix", default=END_WITH_LAUNCH),
    )
    return [node, *open_rviz(argument)]


def check(argument):
    """Mistakes end the launch before anything is started: launch itself finds them later, and leaves a node behind."""
    if not Path(argument["params_file"]).is_file():
        raise ValueError(f"params_file: there is no file {argument['params_file']}")
    allowed = {"rviz": BOOLEANS, "log_level": LOG_LEVELS, "map_mode": ("", "mapping", "localization")}
    allowed |= {name: ("", *BOOLEANS) for name in SWITCHES}
    for name, words in allowed.items():
        if argument[name].lower() not in words:
            raise ValueError(f"{name} is {argument[name]!r}, not one of {', '.join(filter(None, words))}")


def open_rviz(argument):
    """RViz on demand. Without rviz2 recognition goes on, and a line has what to install: a robot is not stopped for a viewer."""
    if argument["rviz"].lower() not in TRUE:
        return []
    try:
        has_rviz = Path(get_package_prefix("rviz2"), "lib/rviz2/rviz2").is_file()
    except PackageNotFoundError:
        has_rviz = False
    if not has_rviz:
        install = "sudo apt install ros-$ROS_DISTRO-rviz2"
        return [LogInfo(msg=f"rviz:=true, but there is no rviz2 here: RViz is not opened; type: {install}")]
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        namespace=argument["namespace"],
        arguments=["-d", PathJoinSubstitution([CONFIG, "vpr.rviz"])],
        remappings=[("/vpr/markers", "vpr/markers")],  # vpr.rviz names the topic of a node without a namespace
    )
    return [rviz]


def generate_launch_description():
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=start)])
