"""The only part of vpr_ros that knows ROS."""
