"""A camera in a process of its own: publishes textured places as raw or compressed images. `publisher.py PLACES KIND`.

It waits for the answer to each image before the next, since a node that is busy leaves images out; but it sends none twice, so that what DDS
loses is missed.
"""

from __future__ import annotations

import sys
import time

import rclpy
from harness import compressed_msg, image_msg
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, Image
from small_worlds import texture
from vpr_msgs.msg import PlaceMatchArray

MATCHING_S = 2.0
"""A writer knows of a reader before the reader knows of the writer; what it sends until then is lost: the first image may be sent again."""


def main() -> None:
    places, kind = [int(p) for p in sys.argv[1].split(",")], sys.argv[2]
    rclpy.init()
    node = Node("camera")
    answered: set[int] = set()
    node.create_subscription(PlaceMatchArray, "/vpr/matches", lambda m: answered.add(m.header.stamp.sec), 100)
    compressed = kind == "compressed"
    outlet = (
        node.create_publisher(CompressedImage, "/image/compressed", qos_profile_sensor_data)
        if compressed
        else node.create_publisher(Image, "/image", qos_profile_sensor_data)
    )
    while not (outlet.get_subscription_count() and node.count_publishers("/vpr/matches")):
        time.sleep(0.05)
    for i, place in enumerate(places):
        second, image = 1000 + i, texture(place, 640, 480)
        while second not in answered:
            stamp = second * 10**9
            outlet.publish(compressed_msg(image, stamp, "jpeg") if compressed else image_msg(image, stamp))
            again = time.monotonic() + MATCHING_S
            while second not in answered and (i or time.monotonic() < again):
                rclpy.spin_once(node, timeout_sec=0.05)
    node.destroy_node()
    rclpy.shutdown()


if __name__ == "__main__":
    main()
