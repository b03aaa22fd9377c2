"""A camera in a process of its own: publishes textured places as raw or compressed images. `publisher.py PLACES RATE KIND`."""

from __future__ import annotations

import sys
import time

import rclpy
from harness import compressed_msg, image_msg
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, Image
from small_worlds import texture

MATCHING_S = 2.0
"""A writer knows of a reader before the reader knows of the writer; what it sends until then is lost."""


def main() -> None:
    places, rate, kind = [int(p) for p in sys.argv[1].split(",")], float(sys.argv[2]), sys.argv[3]
    images = {place: texture(place, 640, 480) for place in places}
    rclpy.init()
    node = Node("camera")
    compressed = kind == "compressed"
    outlet = (
        node.create_publisher(CompressedImage, "/image/compressed", qos_profile_sensor_data)
        if compressed
        else node.create_publisher(Image, "/image", qos_profile_sensor_data)
    )
    while outlet.get_subscription_count() == 0:
        time.sleep(0.05)
    time.sleep(MATCHING_S)
    for i, place in enumerate(places):
        stamp = (1000 + i) * 10**9
        outlet.publish(compressed_msg(images[place], stamp, "jpeg") if compressed else image_msg(images[place], stamp))
        time.sleep(1.0 / rate)
    time.sleep(1.0)
    node.destroy_node()
    rclpy.shutdown()


if __name__ == "__main__":
    main()
