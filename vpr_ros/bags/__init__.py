"""rosbag2 bags, without ROS: whole or damaged ones read, new ones written."""
