"""Starts place recognition: `ros2 launch vpr_ros vpr.launch.py image_topic:=/camera/image_raw`.

`ros2 launch vpr_ros vpr.launch.py --show-args` lists the arguments.
"""

from pathlib import PurePosixPath

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

CONFIG = PathJoinSubstitution([FindPackageShare("vpr_ros"), "config"])

ARGUMENTS = {  # name: (default, description)
    "image_topic": ("image", "camera images, without /compressed"),
    "camera_info_topic": ("", "calibration of the camera; empty: camera_info beside the image topic"),
    "odom_topic": ("odom", "odometry of the robot; it is optional"),
    "image_transport": ("", "raw or compressed; empty: what params_file says"),
    "model": ("", "ONNX model file; empty: what params_file says, which is the model that ships with vpr_ros"),
    "map": ("", "name of the map to load at start; empty: what params_file says, which is none"),
    "use_sim_time": ("", "true with a simulator or a bag; empty: what params_file says, which is false"),
    "params_file": (PathJoinSubstitution([CONFIG, "vpr.yaml"]), "parameters of the node"),
    "namespace": ("", "namespace of the node and of relative topics"),
    "log_level": ("info", "debug, info, warn, error or fatal"),
    "rviz": ("false", "also open RViz (needs rviz2)"),
}

PARAMETERS = {  # argument: the parameter that it overrides, if it is given
    "image_transport": "node.image_transport",
    "model": "model.path",
    "map": "node.map",
    "use_sim_time": "use_sim_time",
}


def start(context):
    argument = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    image = argument["image_topic"]
    camera_info = argument["camera_info_topic"] or str(PurePosixPath(image).with_name("camera_info"))
    given = {
        parameter: ParameterValue(LaunchConfiguration(name), value_type=bool if name == "use_sim_time" else str)
        for name, parameter in PARAMETERS.items()
        if argument[name]
    }
    node = Node(
        package="vpr_ros",
        executable="vpr_node",
        name="vpr",
        namespace=argument["namespace"],
        parameters=[argument["params_file"], given],
        remappings=[
            ("image", image),
            ("image/compressed", f"{image}/compressed"),  # ROS does not derive this one from the one above
            ("camera_info", camera_info),
            ("odom", argument["odom_topic"]),
        ],
        ros_arguments=["--log-level", argument["log_level"]],
        output="screen",
    )
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        namespace=argument["namespace"],
        arguments=["-d", PathJoinSubstitution([CONFIG, "vpr.rviz"])],
        remappings=[("/vpr/markers", "vpr/markers")],  # vpr.rviz names the topic of a node without a namespace
        condition=IfCondition(argument["rviz"]),
    )
    return [node, rviz]


def generate_launch_description():
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=start)])
