"""Is this a place that the robot has seen before? Start reading at `loop_detector`."""
